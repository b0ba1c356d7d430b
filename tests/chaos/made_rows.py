"""Rows of a run that never was, in a database that the audit watches."""

from typing import Any

import psycopg
from psycopg import sql

from tests.chaos.audit import Audit
from tests.chaos.findings import Findings
from tests.chaos.standing import look_at_rows
from tests.faults.rows import Rows

ZERO = {"text": "", "bytea": b"", "boolean": False}


class Made:
    """A database with the engine's schema, watched by the audit, and rows that a test makes up."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rows = Rows(url)
        self.audit = Audit(url)

    def empty(self) -> None:
        """Delete all rows, those that the triggers write about it at the end: much quicker than TRUNCATE."""
        names = self.rows.query(
            "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('dbos_events', 'chaos') "
            "AND tablename NOT IN ('schema_facts', 'schema_version') ORDER BY schemaname DESC"
        )
        self.do("; ".join(f"DELETE FROM {name}" for (name,) in names))

    def do(self, text: str, *values: Any) -> None:
        self.rows.query(text, values)

    def add(self, table: str, **values: Any) -> None:
        """Insert a row; what must have a value and is not named gets an empty one."""
        needed = self.rows.query(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'dbos_events' "
            "AND table_name = ? AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'",
            (table,),
        )
        values = {name: ZERO.get(kind, 0) for name, kind in needed} | values
        statement = sql.SQL("INSERT INTO dbos_events.{} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        with psycopg.connect(self.url) as connection:
            connection.execute(statement, list(values.values()))

    def event(self, offset: int = 0, **values: Any) -> str:
        """An event that has succeeded, with its raw record."""
        name = f"kafka/chaos/{offset}"
        place = {"consumer": 1, "incarnation": 1, "partition": 0, "position": offset, "status": "SUCCESS"}
        self.add("workflows", id=name, **(place | values))
        self.add("events", workflow_id=name)
        return name

    def watched(self) -> dict[str, int]:
        findings = Findings()
        self.audit.look(findings)
        return dict(findings.counts)

    def stands(self, ends: dict[int, int] | None = None) -> dict[str, int]:
        findings = Findings()
        look_at_rows(self.rows, ends or {}, findings)
        return dict(findings.counts)
