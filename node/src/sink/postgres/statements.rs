//! The SQL of every write, each a single statement, with the names of [`Names`](super::schema::Names) in
//! braces.
//!
//! In each of them `fence` updates the one row of `sinks` if it still has the claim's numbers; the rest
//! happens only if it returned that row. A statement of an earlier claim waits there for the one that ended
//! the claim, reads the row again, and writes nothing. Each but the claim returns whether the claim held.

/// Claims the tables, and returns their checkpoint. No row if the claim fails.
pub(super) const CLAIM: &str = "\
    INSERT INTO {sinks} AS s (cluster, sink, term, claims) VALUES ($1, $2, $3, 1) \
    ON CONFLICT (only_row) DO UPDATE \
    SET term = excluded.term, claims = s.claims + 1, claimed_at = now() \
    WHERE s.cluster = excluded.cluster AND s.sink = excluded.sink AND s.term <= excluded.term \
    RETURNING claims, revision, position, seeded";

/// Writes events, states and the checkpoint, each if there is any. Parameters: the claim's term and number;
/// the expected checkpoint; the new cursor; whether the states belong to a backfill, which replaces any
/// other state; events; states.
///
/// A row without `state` is a deleted instance. If `created_at` is missing, the stored metadata and creation
/// time are kept. A built-in instance was never created; its `changed_at` is null.
pub(super) const WRITE: &str = "\
    WITH fence AS ( \
      UPDATE {sinks} SET revision = coalesce($6::bigint, revision), \
        position = coalesce($7::bigint, position), written_at = now() \
      WHERE term = $1 AND claims = $2 \
        AND ($3::bigint IS NULL OR (revision = $3 AND position = $4 AND seeded = $5)) \
      RETURNING term \
    ), events AS ( \
      INSERT INTO {history} (revision, position, kind, machine, instance, version, from_version, \
        from_state, to_state, event, instance_revision, at, cause, late_ms, metadata) \
      SELECT revision, position, kind, machine, split_part(id, '/', 2), version, from_version, \
        \"from\", \"to\", event, instance_revision, at, cause, late_ms, coalesce(metadata, '{}') \
      FROM json_to_recordset($9::json) AS new (revision bigint, position bigint, kind text, \
        machine text, id text, version bigint, from_version bigint, \"from\" text, \"to\" text, \
        event text, instance_revision bigint, at timestamptz, cause text, late_ms bigint, \
        metadata jsonb) \
      WHERE EXISTS (SELECT FROM fence) \
      ON CONFLICT (revision, position) DO NOTHING \
    ), changes AS ( \
      SELECT split_part(id, '/', 1) AS machine, split_part(id, '/', 2) AS instance, state, version, \
        instance_revision, created_at, coalesce(changed_at, 'epoch') AS changed_at, \
        CASE WHEN change ? 'created_at' THEN coalesce(metadata, '{}') END AS metadata, revision \
      FROM jsonb_array_elements($10::jsonb) AS change, jsonb_to_record(change) AS new (id text, \
        state text, version bigint, instance_revision bigint, created_at timestamptz, \
        changed_at timestamptz, metadata jsonb, revision bigint) \
      WHERE EXISTS (SELECT FROM fence) \
    ), removed AS ( \
      DELETE FROM {instances} AS old USING changes AS new \
      WHERE new.state IS NULL AND old.machine = new.machine AND old.instance = new.instance \
        AND old.revision <= new.revision \
    ), states AS ( \
      INSERT INTO {instances} AS old (machine, instance, state, version, instance_revision, \
        created_at, changed_at, metadata, revision) \
      SELECT * FROM changes WHERE state IS NOT NULL \
      ON CONFLICT (machine, instance) DO UPDATE \
      SET state = excluded.state, version = excluded.version, \
        instance_revision = excluded.instance_revision, changed_at = excluded.changed_at, \
        created_at = CASE WHEN excluded.metadata IS NULL \
          THEN old.created_at ELSE excluded.created_at END, \
        metadata = coalesce(excluded.metadata, old.metadata), revision = excluded.revision \
      WHERE $8::boolean OR old.revision <= excluded.revision \
    ) SELECT EXISTS (SELECT FROM fence)";

/// Removes states of another revision than a backfill's, some at a time: a million at once may take longer
/// than the timeout of an exchange. Also returns how many were removed.
pub(super) const REMOVE_OLDER: &str = "\
    WITH fence AS ( \
      UPDATE {sinks} SET written_at = now() WHERE term = $1 AND claims = $2 RETURNING term \
    ), removed AS ( \
      DELETE FROM {instances} WHERE EXISTS (SELECT FROM fence) AND ctid = ANY (ARRAY( \
        SELECT ctid FROM {instances} WHERE revision <> $3 LIMIT $4::bigint)) \
      RETURNING revision \
    ) SELECT EXISTS (SELECT FROM fence), (SELECT count(*) FROM removed)";

/// Ends a backfill, after the removals.
pub(super) const FINISH_BACKFILL: &str = "\
    WITH fence AS ( \
      UPDATE {sinks} SET revision = $3, position = $4, seeded = $5, written_at = now() \
      WHERE term = $1 AND claims = $2 \
      RETURNING term \
    ), noted AS ( \
      INSERT INTO {seeds} (revision, at, reason, missing_after_revision, \
        missing_after_position, missing_to_revision, missing_to_position) \
      SELECT $5, 'epoch'::timestamptz + $6::bigint * interval '1 millisecond', $7::text, $8::bigint, \
        $9::bigint, $10::bigint, $11::bigint \
      FROM fence \
    ) SELECT EXISTS (SELECT FROM fence)";
