"""What triggers see of what workflows say and show, and of queues: installed by the audit, with its own.

Of a queue they note each workflow that begins to use a slot and each that stops. Two transactions may not see each
other; which came first is asked afterwards, of the times of their commits, which the server keeps.
"""

from tests.chaos.findings import REWRITTEN, WENT_BACK

SCHEMA = """
CREATE TABLE chaos.moves (
    workflow_id text COLLATE "C", queue text, deduplication_id text, move text, xid xid8 DEFAULT pg_current_xact_id());
CREATE TABLE chaos.starts (queue text, started_at bigint);

CREATE FUNCTION chaos.note_move() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    ran boolean := false;
    runs boolean := NEW.queue IS NOT NULL AND NEW.status = 'PENDING' AND NEW.owner IS NOT NULL;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        ran := OLD.queue IS NOT NULL AND OLD.status = 'PENDING' AND OLD.owner IS NOT NULL;
    ELSIF NEW.deduplication_id IS NOT NULL THEN
        INSERT INTO chaos.moves VALUES (NEW.id, NEW.queue, NEW.deduplication_id, 'comes');
    END IF;
    IF runs AND NOT ran THEN
        INSERT INTO chaos.moves VALUES (NEW.id, NEW.queue, NULL, 'runs');
    ELSIF ran AND NOT runs THEN
        INSERT INTO chaos.moves VALUES (OLD.id, OLD.queue, NULL, 'stops');
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.deduplication_id IS NOT NULL AND NEW.status <> OLD.status
       AND NEW.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED') THEN
        INSERT INTO chaos.moves VALUES (NEW.id, NEW.queue, NEW.deduplication_id, 'goes');
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION chaos.note_start() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.starts VALUES (NEW.queue, NEW.started_at);
    RETURN NULL;
END $$;

CREATE FUNCTION chaos.note_value() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.wrongs
    SELECT TG_ARGV[0], TG_TABLE_NAME, to_jsonb(v)::text, to_jsonb(NEW)::text
    FROM dbos_events.published_values AS v
    WHERE v.workflow_id = NEW.workflow_id AND v.key = NEW.key AND v.value::int >= NEW.value::int
      AND (v.take, v.number) <> (NEW.take, NEW.number);
    RETURN NULL;
END $$;
"""

TRIGGERS = tuple(
    f"CREATE TRIGGER {name} AFTER {when.replace(' ON ', ' ON {}.')} EXECUTE FUNCTION chaos.{function}"
    for name, when, function in (
        ("chaos_comes", "INSERT ON workflows FOR EACH ROW WHEN (NEW.queue IS NOT NULL)", "note_move()"),
        ("chaos_moves", "UPDATE ON workflows FOR EACH ROW WHEN (NEW.queue IS NOT NULL)", "note_move()"),
        ("chaos_starts", "INSERT ON queue_starts FOR EACH ROW", "note_start()"),
        ("chaos_values", "INSERT OR UPDATE ON published_values FOR EACH ROW", f"note_value('{WENT_BACK}')"),
    )
)

NEVER = {
    "messages": (
        REWRITTEN,
        (
            "(OLD.destination, OLD.message_id, OLD.topic, OLD.value, OLD.sender) IS DISTINCT FROM "
            "(NEW.destination, NEW.message_id, NEW.topic, NEW.value, NEW.sender) "
            "OR (OLD.consumed_step IS NOT NULL AND OLD.consumed_step IS DISTINCT FROM NEW.consumed_step)"
        ),
    ),
    "publications": (
        REWRITTEN,
        (
            "(OLD.anchor, OLD.event_id, OLD.value, OLD.publisher) IS DISTINCT FROM "
            "(NEW.anchor, NEW.event_id, NEW.value, NEW.publisher) OR NEW.seen < OLD.seen "
            "OR (OLD.outcome IS NOT NULL AND (OLD.outcome, OLD.taken_by, OLD.taken_step) IS DISTINCT FROM "
            "(NEW.outcome, NEW.taken_by, NEW.taken_step))"
        ),
    ),
    "stream_entries": (
        REWRITTEN,
        (
            "(OLD.value, OLD.ends, OLD.step, OLD.take) IS DISTINCT FROM (NEW.value, NEW.ends, NEW.step, NEW.take) "
            "OR (OLD.committed IS NOT NULL AND OLD.committed IS DISTINCT FROM NEW.committed)"
        ),
    ),
    "ticks": (
        REWRITTEN,
        "(OLD.outcome, OLD.workflow_id) IS DISTINCT FROM (NEW.outcome, NEW.workflow_id)",
    ),
}
"""What no update may do, by table: nobody redrives what talks, and no tick waits for the one before it."""

NEVER_DELETED = ("messages", "publications", "published_values", "stream_entries", "ticks")
FILLABLE = ("messages", "publications", "stream_entries", "queue_starts", "ticks")
