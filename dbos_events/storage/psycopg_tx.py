"""A transaction that speaks to psycopg directly, with no layer between.

SQLAlchemy still keeps the connections, begins and commits. Without it each statement costs 80 µs less. There is
no pipeline on purpose: docs/storage.md says why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from psycopg.rows import namedtuple_row

from dbos_events.storage.database import Database, Row, Tx
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
