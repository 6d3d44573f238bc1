-- The first version of the tables. Like every migration it can be run again: that creates dropped tables
-- again.
DO $lockstep$
DECLARE
    lost boolean;
BEGIN
    -- One node at a time, until the end of this statement.
    PERFORM pg_advisory_xact_lock(hashtextextended('lockstep {schema}', 0));

    -- Checked first, since CREATE SCHEMA needs a permission that writing to an existing schema does not.
    IF to_regnamespace('{schema}') IS NULL THEN
        CREATE SCHEMA {schema};
    END IF;
    lost := to_regclass('{history}') IS NULL OR to_regclass('{instances}') IS NULL;

    CREATE TABLE IF NOT EXISTS {migrations} (
        version integer PRIMARY KEY,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE {migrations} IS 'The migrations of these tables.';

    CREATE TABLE IF NOT EXISTS {sinks} (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        cluster text NOT NULL,
        sink text NOT NULL,
        term bigint NOT NULL,
        claims bigint NOT NULL,
        claimed_at timestamptz NOT NULL DEFAULT now(),
        revision bigint,
        position bigint,
        seeded bigint,
        written_at timestamptz
    );
    COMMENT ON TABLE {sinks} IS 'One row: which sink of which Lockstep cluster writes these tables, and its checkpoint.';
    COMMENT ON COLUMN {sinks}.cluster IS 'The cluster''s id.';
    COMMENT ON COLUMN {sinks}.sink IS 'The sink''s name in the cluster''s configuration.';
    COMMENT ON COLUMN {sinks}.term IS 'The term of the leader that writes.';
    COMMENT ON COLUMN {sinks}.claims IS 'The number of claims so far.';
    COMMENT ON COLUMN {sinks}.claimed_at IS 'The time of the last claim.';
    COMMENT ON COLUMN {sinks}.revision IS 'The cluster''s revision of the last event that was delivered or skipped; null if nothing was written yet.';
    COMMENT ON COLUMN {sinks}.position IS 'The position of that event within its revision.';
    COMMENT ON COLUMN {sinks}.seeded IS 'The cluster''s revision of the last backfill.';
    COMMENT ON COLUMN {sinks}.written_at IS 'The time of the last write.';

    CREATE TABLE IF NOT EXISTS {history} (
        revision bigint NOT NULL,
        position bigint NOT NULL,
        kind text NOT NULL,
        machine text NOT NULL,
        instance text,
        version bigint NOT NULL,
        from_version bigint,
        from_state text,
        to_state text,
        event text,
        instance_revision bigint NOT NULL,
        at timestamptz NOT NULL,
        cause text NOT NULL,
        late_ms bigint,
        metadata jsonb NOT NULL,
        PRIMARY KEY (revision, position)
    );
    CREATE INDEX IF NOT EXISTS {history_by_instance} ON {history} (machine, instance, revision);
    COMMENT ON TABLE {history} IS 'Every change of an instance or a definition, once, in the order of (revision, position). Table seeds records what is missing.';
    COMMENT ON COLUMN {history}.revision IS 'The cluster''s revision of the change.';
    COMMENT ON COLUMN {history}.position IS 'Its position within that revision, from 0.';
    COMMENT ON COLUMN {history}.kind IS 'created, transitioned, migrated, deleted, defined or definition_deleted.';
    COMMENT ON COLUMN {history}.machine IS 'The machine.';
    COMMENT ON COLUMN {history}.instance IS 'The instance''s name within the machine; null if the change is one of a definition.';
    COMMENT ON COLUMN {history}.version IS 'The definition''s version after the change.';
    COMMENT ON COLUMN {history}.from_version IS 'The version before, if the instance was migrated.';
    COMMENT ON COLUMN {history}.from_state IS 'The state that the instance left.';
    COMMENT ON COLUMN {history}.to_state IS 'The state that the instance entered.';
    COMMENT ON COLUMN {history}.event IS 'The event that named the transition.';
    COMMENT ON COLUMN {history}.instance_revision IS 'The number of changes of the instance since it was created.';
    COMMENT ON COLUMN {history}.at IS 'When, in cluster time.';
    COMMENT ON COLUMN {history}.cause IS 'request, or timeout of the state that was left.';
    COMMENT ON COLUMN {history}.late_ms IS 'How long after its deadline a timeout fired, in milliseconds.';
    COMMENT ON COLUMN {history}.metadata IS 'The metadata that the caller gave.';

    CREATE TABLE IF NOT EXISTS {instances} (
        machine text NOT NULL,
        instance text NOT NULL,
        state text NOT NULL,
        version bigint NOT NULL,
        instance_revision bigint NOT NULL,
        created_at timestamptz,
        changed_at timestamptz NOT NULL,
        metadata jsonb,
        revision bigint NOT NULL,
        PRIMARY KEY (machine, instance)
    );
    CREATE INDEX IF NOT EXISTS {instances_by_state} ON {instances} (machine, state);
    COMMENT ON TABLE {instances} IS 'The current state of every instance.';
    COMMENT ON COLUMN {instances}.machine IS 'The machine.';
    COMMENT ON COLUMN {instances}.instance IS 'The instance''s name within the machine.';
    COMMENT ON COLUMN {instances}.state IS 'Its state.';
    COMMENT ON COLUMN {instances}.version IS 'The version of the definition that it is pinned to.';
    COMMENT ON COLUMN {instances}.instance_revision IS 'The number of changes since it was created.';
    COMMENT ON COLUMN {instances}.created_at IS 'When it was created, in cluster time; null if it is built in or unknown.';
    COMMENT ON COLUMN {instances}.changed_at IS 'When it last changed, in cluster time.';
    COMMENT ON COLUMN {instances}.metadata IS 'The metadata that it was created with; null if unknown.';
    COMMENT ON COLUMN {instances}.revision IS 'The cluster''s revision of this row: only a later one replaces it.';

    CREATE TABLE IF NOT EXISTS {seeds} (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        revision bigint NOT NULL,
        at timestamptz NOT NULL,
        reason text NOT NULL,
        missing_after_revision bigint,
        missing_after_position bigint,
        missing_to_revision bigint,
        missing_to_position bigint,
        written_at timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE {seeds} IS 'Backfills, and the events that are missing from the history because of them.';
    COMMENT ON COLUMN {seeds}.revision IS 'The cluster''s revision of the states.';
    COMMENT ON COLUMN {seeds}.at IS 'Cluster time at that revision.';
    COMMENT ON COLUMN {seeds}.reason IS 'first: the tables were empty; compacted: the cluster had compacted the events; asked: an operator requested it.';
    COMMENT ON COLUMN {seeds}.missing_after_revision IS 'The events after (missing_after_revision, missing_after_position) and up to (missing_to_revision, missing_to_position) are missing; null if none are.';

    -- A new history is filled with the events that the cluster still has.
    IF lost THEN
        UPDATE {sinks} SET revision = NULL, position = NULL, seeded = NULL;
    END IF;
    INSERT INTO {migrations} (version) VALUES (1) ON CONFLICT DO NOTHING;
END
$lockstep$
