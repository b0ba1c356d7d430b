"""The database watches itself: triggers in a schema of the harness's own record what must never happen, and what happens.

They see every committed change, of whoever made it, and miss none between two looks. The same schema makes the disk full:
a trigger for each statement fails, as PostgreSQL does when it cannot write, for as long as a row says so. A trigger that
is always there, and a row, need no lock on the table, which a frozen process may hold. The triggers act with the rights
of the harness: the role of the workers has none in its schema.
"""

import psycopg

from tests.chaos import moves
from tests.chaos.findings import REWRITTEN, TWICE, WENT_BACK, Findings
from tests.faults.rows import Rows

FINAL = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
FILLABLE = ("workflows", "checkpoints", "results", "watermarks", *moves.FILLABLE)

SCHEMA = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.endings (
    workflow_id text COLLATE "C", generation int, status_before text, status text, generation_before int);
CREATE TABLE chaos.wrongs (kind text, what text, before text, after text, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE chaos.full_disk (name text);

CREATE FUNCTION chaos.note_ending() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.endings VALUES (NEW.id, NEW.generation, OLD.status, NEW.status, OLD.generation);
    RETURN NULL;
END $$;

CREATE FUNCTION chaos.note_wrong() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO chaos.wrongs VALUES (TG_ARGV[0], TG_TABLE_NAME || ' deleted', to_jsonb(OLD)::text, NULL);
    ELSE
        INSERT INTO chaos.wrongs VALUES (TG_ARGV[0], TG_TABLE_NAME, to_jsonb(OLD)::text, to_jsonb(NEW)::text);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION chaos.fail_when_full() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM chaos.full_disk WHERE name = TG_TABLE_NAME) THEN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
    END IF;
    RETURN NULL;
END $$;
"""

NEVER = {
    "watermarks": (WENT_BACK, "NEW.next_offset < OLD.next_offset OR NEW.epoch < OLD.epoch"),
    "executors": (WENT_BACK, "NEW.alive AND NOT OLD.alive"),
    "workflows": (
        WENT_BACK,
        (
            "NEW.take < OLD.take OR NEW.generation < OLD.generation"
            " OR (NEW.position, NEW.lane_sequence) IS DISTINCT FROM (OLD.position, OLD.lane_sequence)"
            " OR (OLD.own_checkpoints IS NOT NULL AND NEW.own_checkpoints IS DISTINCT FROM OLD.own_checkpoints)"
        ),
    ),
    "checkpoints": (
        REWRITTEN,
        (
            "(OLD.step, OLD.name, OLD.call, OLD.writer, OLD.write_id, OLD.output, OLD.error) IS DISTINCT FROM "
            "(NEW.step, NEW.name, NEW.call, NEW.writer, NEW.write_id, NEW.output, NEW.error)"
        ),
    ),
    "results": (REWRITTEN, "(OLD.output, OLD.error) IS DISTINCT FROM (NEW.output, NEW.error)"),
    "events": (
        REWRITTEN,
        "(OLD.key, OLD.value, OLD.fingerprint) IS DISTINCT FROM (NEW.key, NEW.value, NEW.fingerprint)",
    ),
    "payloads": (REWRITTEN, "OLD.input IS DISTINCT FROM NEW.input"),
    **moves.NEVER,
}
"""What no update may do, by table."""

ENDINGS = (
    "CREATE TRIGGER chaos_endings AFTER UPDATE ON {}.workflows FOR EACH ROW "
    "WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION chaos.note_ending()"
)

NEVER_DELETED = (
    "workflows", "checkpoints", "watermarks", "events", "payloads", "executors", "gaps", *moves.NEVER_DELETED,
)  # fmt: skip

LASTED = "OLD.xmin <> pg_current_xact_id()::xid"
"""It was there before: a checkpoint may be withdrawn in the transaction that has written it, of a call that lost."""


class Audit:
    """The triggers of one database, and what they have recorded."""

    def __init__(self, url: str, schema: str = "dbos_events") -> None:
        self.rows = Rows(url, schema)
        self._url = url
        self._schema = schema

    def install(self) -> None:
        """Begin to watch; the engine's schema must be there."""
        schema = self._schema
        statements = [
            SCHEMA,
            moves.SCHEMA,
            *(trigger.format(schema) for trigger in moves.TRIGGERS),
            *(
                self._trigger(table, "never", f"UPDATE ON {{}} FOR EACH ROW WHEN ({condition})", kind)
                for table, (kind, condition) in NEVER.items()
            ),
            *(
                self._trigger(table, "deleted", f"DELETE ON {{}} FOR EACH ROW WHEN ({LASTED})", REWRITTEN)
                for table in NEVER_DELETED
            ),
            ENDINGS.format(schema),
            *(
                f"CREATE TRIGGER chaos_full BEFORE INSERT OR UPDATE ON {schema}.{table} FOR EACH STATEMENT "
                "EXECUTE FUNCTION chaos.fail_when_full()"
                for table in FILLABLE
            ),
        ]
        with psycopg.connect(self._url) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def fill_disk(self, tables: tuple[str, ...]) -> None:
        """From now on nothing can be written to these tables; none: all can be written to again."""
        with psycopg.connect(self._url, connect_timeout=5) as connection:
            connection.execute("DELETE FROM chaos.full_disk")
            for table in tables:
                connection.execute("INSERT INTO chaos.full_disk VALUES (%s)", (table,))

    def look(self, findings: Findings) -> None:
        """Add what the triggers have seen, and outcomes that were written more than once."""
        for kind, what, before, after in self.rows.query(
            "SELECT kind, what, before, after FROM chaos.wrongs"
        ):
            findings.add(kind, f"{what}: {before} became {after}")
        final = ", ".join(f"'{status}'" for status in FINAL)
        for workflow, generation, count in self.rows.query(
            f"SELECT workflow_id, generation, count(*) FROM chaos.endings WHERE status IN ({final}) "
            "GROUP BY 1, 2 HAVING count(*) > 1"
        ):
            findings.add(TWICE, f"{workflow} ended {count} times in generation {generation}")
        for workflow, before, after in self.rows.query(
            f"SELECT workflow_id, status_before, status FROM chaos.endings WHERE status_before IN ({final}) "
            "AND generation <= generation_before"
        ):
            findings.add(REWRITTEN, f"{workflow} had ended as {before} and became {after}")

    def _trigger(self, table: str, name: str, when: str, kind: str) -> str:
        where = when.format(f"{self._schema}.{table}")
        return f"CREATE TRIGGER chaos_{name} AFTER {where} EXECUTE FUNCTION chaos.note_wrong('{kind}');"
