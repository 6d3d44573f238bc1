//! The SQL of every write, each a single statement.
//!
//! In each of them `fence` updates the one row of `sinks` if it still has the claim's numbers; the rest
//! happens only if it returned that row. A statement of an earlier claim waits there for the one that ended
//! the claim, reads the row again, and writes nothing.

use super::schema::Names;

/// A column and its type.
type Column = (&'static str, &'static str);

/// The columns of an event, in the order of [`HistoryRows`](super::rows::HistoryRows).
pub(super) const HISTORY: [Column; 15] = [
    ("revision", "bigint"),
    ("position", "bigint"),
    ("kind", "text"),
    ("machine", "text"),
    ("instance", "text"),
    ("version", "bigint"),
    ("from_version", "bigint"),
    ("from_state", "text"),
    ("to_state", "text"),
    ("event", "text"),
    ("instance_revision", "bigint"),
    ("at", "timestamptz"),
    ("cause", "text"),
    ("late_ms", "bigint"),
    ("metadata", "jsonb"),
];

/// The columns of a deleted instance.
pub(super) const DELETED: [Column; 3] = [
    ("machine", "text"),
    ("instance", "text"),
    ("revision", "bigint"),
];

/// The columns of a current state, in the order of [`StateRows`](super::rows::StateRows).
pub(super) const STATES: [Column; 9] = [
    ("machine", "text"),
    ("instance", "text"),
    ("state", "text"),
    ("version", "bigint"),
    ("instance_revision", "bigint"),
    ("created_at", "timestamptz"),
    ("changed_at", "timestamptz"),
    ("metadata", "jsonb"),
    ("revision", "bigint"),
];

/// Parameters before the arrays: the claim's term and number, the expected checkpoint, the new cursor, and
/// whether the states belong to a backfill, which replaces any other state.
pub(super) const CHECKPOINT: usize = 8;

/// States removed in one statement at most.
pub(super) const REMOVE_MAX: i64 = 20_000;

/// Claims the tables, and returns their checkpoint. No row if the claim fails.
pub(super) fn claim(names: &Names) -> String {
    names.fill(
        "INSERT INTO {sinks} AS s (cluster, sink, term, claims) VALUES ($1, $2, $3, 1) \
         ON CONFLICT (only_row) DO UPDATE \
         SET term = excluded.term, claims = s.claims + 1, claimed_at = now() \
         WHERE s.cluster = excluded.cluster AND s.sink = excluded.sink AND s.term <= excluded.term \
         RETURNING claims, revision, position, seeded",
    )
}

/// Writes events, states and the checkpoint, each if there is any. Returns whether the claim held.
pub(super) fn write(names: &Names) -> String {
    let history = arrays(CHECKPOINT, &HISTORY);
    let deleted = arrays(CHECKPOINT + HISTORY.len(), &DELETED);
    let states = arrays(CHECKPOINT + HISTORY.len() + DELETED.len(), &STATES);
    let history_columns = columns(&HISTORY);
    let states_columns = columns(&STATES);
    names.fill(&format!(
        "WITH fence AS ( \
           UPDATE {{sinks}} SET revision = coalesce($6::bigint, revision), \
             position = coalesce($7::bigint, position), written_at = now() \
           WHERE term = $1 AND claims = $2 \
             AND ($3::bigint IS NULL OR (revision = $3 AND position = $4 AND seeded = $5)) \
           RETURNING term \
         ), events AS ( \
           INSERT INTO {{history}} ({history_columns}) \
           SELECT {history_columns} FROM unnest({history}) AS new ({history_columns}) \
           WHERE EXISTS (SELECT FROM fence) \
           ON CONFLICT (revision, position) DO NOTHING \
         ), removed AS ( \
           DELETE FROM {{instances}} AS old USING unnest({deleted}) AS new (machine, instance, revision) \
           WHERE EXISTS (SELECT FROM fence) AND old.machine = new.machine \
             AND old.instance = new.instance AND old.revision <= new.revision \
         ), states AS ( \
           INSERT INTO {{instances}} AS old ({states_columns}) \
           SELECT {states_columns} FROM unnest({states}) AS new ({states_columns}) \
           WHERE EXISTS (SELECT FROM fence) \
           ON CONFLICT (machine, instance) DO UPDATE \
           SET state = excluded.state, version = excluded.version, \
             instance_revision = excluded.instance_revision, changed_at = excluded.changed_at, \
             created_at = CASE WHEN excluded.metadata IS NULL \
               THEN old.created_at ELSE excluded.created_at END, \
             metadata = coalesce(excluded.metadata, old.metadata), revision = excluded.revision \
           WHERE $8::boolean OR old.revision <= excluded.revision \
         ) SELECT EXISTS (SELECT FROM fence)"
    ))
}

/// Removes states of another revision than a backfill's, some at a time: a million at once may take longer
/// than the timeout of an exchange. Returns whether the claim held, and how many were removed.
pub(super) fn remove_older(names: &Names) -> String {
    names.fill(&format!(
        "WITH fence AS ( \
           UPDATE {{sinks}} SET written_at = now() WHERE term = $1 AND claims = $2 RETURNING term \
         ), removed AS ( \
           DELETE FROM {{instances}} WHERE EXISTS (SELECT FROM fence) AND ctid = ANY (ARRAY( \
             SELECT ctid FROM {{instances}} WHERE revision <> $3 LIMIT {REMOVE_MAX})) \
           RETURNING revision \
         ) SELECT EXISTS (SELECT FROM fence), (SELECT count(*) FROM removed)"
    ))
}

/// Ends a backfill, after the removals. Returns whether the claim held.
pub(super) fn finish_backfill(names: &Names) -> String {
    names.fill(
        "WITH fence AS ( \
           UPDATE {sinks} SET revision = $3, position = $4, seeded = $5, written_at = now() \
           WHERE term = $1 AND claims = $2 \
           RETURNING term \
         ), noted AS ( \
           INSERT INTO {seeds} (revision, at, reason, missing_after_revision, \
             missing_after_position, missing_to_revision, missing_to_position) \
           SELECT $5, $6::timestamptz, $7::text, $8::bigint, $9::bigint, $10::bigint, $11::bigint \
           FROM fence \
         ) SELECT EXISTS (SELECT FROM fence)",
    )
}

fn columns(columns: &[Column]) -> String {
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// The parameters after the first `before`, as arrays.
fn arrays(before: usize, columns: &[Column]) -> String {
    let arrays: Vec<_> = columns
        .iter()
        .zip(before + 1..)
        .map(|((_, kind), number)| format!("${number}::{kind}[]"))
        .collect();
    arrays.join(", ")
}
