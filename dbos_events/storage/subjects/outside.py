"""What programs without a process of the application write: no executor, so no fence, and nothing that runs here."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import exc

from dbos_events.errors import DBOSException
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.writes import NewWorkflow, Publish, Result, Send, Write
from dbos_events.storage.writes.family import write_in_turn

KINDS = (NewWorkflow, Send, Publish)
"""What may be written from outside."""


class Outside(Protocol):
    """Starts, messages and publications of clients (docs/client.md)."""

    def write(self, writes: Sequence[Write]) -> list[Result]:
        """Write them in one transaction; answers in order. Safe to repeat after a lost commit answer.

        A workflow that is started must wait on a queue: there is no executor to own it.
        """
        ...

    def write_within(self, connection: Any, writes: Sequence[Write]) -> list[Result]:
        """As `write`, as a part of the transaction of a caller's own SQLAlchemy connection, which commits it.

        Raises `DBOSException` when the connection does not lead to a database of this kind.
        """
        ...

    def applications(self) -> list[str]:
        """The applications that the database knows."""
        ...


class OutsideTable:
    """Writes from outside over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, writes: Sequence[Write]) -> list[Result]:
        _check(writes)
        return self._database.transact(lambda tx: write_in_turn(tx, 0, writes))

    def write_within(self, connection: Any, writes: Sequence[Write]) -> list[Result]:
        _check(writes)
        tx = _transaction_of(self._database, connection)
        try:
            return write_in_turn(tx, 0, writes)
        except self._errors as error:
            raise self._database.translate(error) from error

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        if not self._database.dialect.is_postgres:
            return (exc.SQLAlchemyError,)
        import psycopg  # no part of a program with SQLite

        return exc.SQLAlchemyError, psycopg.Error

    def applications(self) -> list[str]:
        # A look waits for no writer, who may be the caller on SQLite, within a transaction of its own.
        rows = self._database.look(lambda tx: tx.run("read_applications"))
        return sorted(row.application for row in rows)


def _check(writes: Sequence[Write]) -> None:
    for write in writes:
        change = write.change
        owned = isinstance(change, NewWorkflow) and change.queue is None
        if write.checkpoint is not None or owned or not isinstance(change, KINDS):
            raise DBOSException("A client writes nothing that a process of the application has to own.")


def _transaction_of(database: Database, connection: Any) -> Tx:
    """The open transaction of a connection that is not ours."""
    driver = getattr(getattr(connection, "connection", None), "driver_connection", None)
    if database.dialect.is_postgres:
        import psycopg

        from dbos_events.storage import arrays
        from dbos_events.storage.psycopg_tx import PsycopgTx

        if isinstance(driver, psycopg.Connection):
            arrays.register(driver)
            return PsycopgTx(database, connection)
    elif isinstance(driver, sqlite3.Connection):
        return Tx(database, connection)
    wanted = "postgresql+psycopg://" if database.dialect.is_postgres else "sqlite://"
    raise DBOSException(
        f"The transaction must be that of a SQLAlchemy connection or session over {wanted}, to the database that this "
        f"client works with; not of {type(driver or connection).__module__}.{type(driver or connection).__name__}."
    )
