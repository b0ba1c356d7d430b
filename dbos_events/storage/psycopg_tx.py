"""A transaction that speaks to psycopg directly: no layer between, and several statements in one go.

SQLAlchemy still keeps the connections, begins and commits. Without it each statement costs 80 µs less, and
a small batch in a pipeline waits for the server once instead of six times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from psycopg.errors import DivisionByZero
from psycopg.rows import namedtuple_row

from dbos_events.storage.database import Database, NotAsExpected, Row, Step, Tx
from dbos_events.storage.statements import Statement

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")


class PsycopgTx(Tx):
    """One open transaction on PostgreSQL."""

    __slots__ = ("_driver",)

    def __init__(self, database: Database, connection: sa.Connection) -> None:
        super().__init__(database, connection)
        self._driver: Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]

    def finish(self, steps: Sequence[Step]) -> None:
        # A step that hits another number of rows divides by zero, and so takes the commit behind it with it.
        try:
            with self._driver.pipeline():
                for step in steps:
                    self._check(step)
                # `commit()` would wait here without sending all of a large batch, for ever.
                self._driver.cursor().execute("COMMIT", prepare=False)
        except DivisionByZero as error:
            raise NotAsExpected from error

    def _check(self, step: Step) -> None:
        statement = self._database.statements[step.name]
        parameters = {**step.parameters, "expected": step.expected}
        if step.rows is not None:
            if not step.rows:
                return
            parameters |= self._rows(statement, step.rows)
        self._driver.cursor().execute(
            checked(statement.sql, reads=step.rows is None), self._prepared(statement, parameters)
        )

    def _execute(self, statement: Statement, parameters: dict[str, Any]) -> Sequence[Row]:
        cursor = self._ask(statement, parameters)
        return cursor.fetchall() if cursor.description is not None else ()

    def _count(self, statement: Statement, parameters: dict[str, Any]) -> int:
        return self._ask(statement, parameters).rowcount

    def _ask(self, statement: Statement, parameters: dict[str, Any]) -> Cursor[Any]:
        cursor = self._driver.cursor(row_factory=namedtuple_row)
        return cursor.execute(spelled(statement.sql), self._prepared(statement, parameters))


@cache
def spelled(sql: str) -> bytes:
    """The statement with parameters as psycopg writes them."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%")).encode()


@cache
def checked(sql: str, *, reads: bool) -> bytes:
    """The statement, failing unless it hits the expected number of rows."""
    hit = sql if reads else f"{sql} RETURNING 1"
    return spelled(f"WITH hit AS ({hit}) SELECT 1 / CAST(count(*) = :expected AS int) FROM hit")
