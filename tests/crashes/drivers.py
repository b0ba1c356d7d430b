"""Every call of a database's driver is a point, whichever code makes it.

Nothing in the product knows of this. The drivers' own classes are replaced or patched in a process that was made for
the test, so that all that is ever sent to a database passes here.
"""

import re
import sqlite3
import sqlite3.dbapi2
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus

from dbos_events.config import DEFAULT_SCHEMA
from dbos_events.storage import callconnection, line
from dbos_events.storage.psycopg_tx import spelled
from dbos_events.storage.statements import POSTGRES, SQLITE, load
from tests.crashes.points import Watch

R = TypeVar("R")

_PARAMETER = re.compile(r"%\(\w+\)s(?:::\w+)?|(?<![:\w]):\w+|\?")


class Names:
    """What statements are called: by the file that they stand in, else by how they begin."""

    def __init__(self) -> None:
        self._known = {}
        for dialect, schema in ((POSTGRES, f'"{DEFAULT_SCHEMA}"'), (SQLITE, "main")):
            for manual in (True, False):
                for name, statement in load(dialect, schema, manual_clock=manual).items():
                    self._known[_bare(statement.sql)] = name
                    self._known[_bare(spelled(statement.sql).decode())] = name

    def of(self, query: object) -> str:
        text = _text(query)
        return self._known.get(_bare(text)) or " ".join(text.split())[:48]


def _text(query: object) -> str:
    if isinstance(query, bytes):
        return query.decode()
    return query if isinstance(query, str) else str(query)


def _bare(sql: str) -> str:
    return " ".join(_PARAMETER.sub("?", sql).replace("%%", "%").split())


class Transaction:
    """What is known of the transaction that a connection is in."""

    __slots__ = ("last", "writes")

    def __init__(self) -> None:
        self.last = ""
        self.writes = False


class _Cursor(sqlite3.Cursor):
    """One of SQLite's, whose statements are points."""

    def execute(self, query: Any, *more: Any) -> Any:
        return self._watched(query, lambda: super(_Cursor, self).execute(query, *more))

    def executemany(self, query: Any, *more: Any) -> Any:
        return self._watched(query, lambda: super(_Cursor, self).executemany(query, *more))

    def _watched(self, query: Any, call: Callable[[], R]) -> R:
        connection: Any = self.connection
        transaction: Transaction = connection.transaction
        transaction.last = connection.names.of(query)
        before = connection.total_changes
        answer: R = connection.watch.around(transaction.last, call)
        transaction.writes |= connection.total_changes > before or _defines(query)
        return answer


class _Connection(sqlite3.Connection):
    """One of SQLite's, whose commits and rollbacks are points."""

    watch: ClassVar[Watch]
    names: ClassVar[Names]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.transaction = Transaction()

    def cursor(self, *_: Any) -> Any:
        return super().cursor(_Cursor)

    def execute(self, *args: Any) -> Any:
        return self.cursor().execute(*args)

    def commit(self) -> None:
        if self.in_transaction:
            self.watch.around(f"COMMIT of {self.transaction.last}", self._commit)

    def rollback(self) -> None:
        if self.in_transaction:
            self.transaction.writes = False
            self.watch.around(f"ROLLBACK of {self.transaction.last}", super().rollback)

    def _commit(self) -> None:
        super().commit()
        if self.transaction.writes:
            self.watch.became_durable()
        self.transaction.writes = False


def watch_sqlite(watch: Watch, names: Names) -> None:
    """See all that goes to SQLite: connections are made of a class of our own."""
    _Connection.watch, _Connection.names = watch, names
    connect: Any = sqlite3.dbapi2.connect
    watched: Any = lambda *args, **kwargs: connect(*args, factory=_Connection, **kwargs)  # noqa: E731
    sqlite3.dbapi2.connect = watched
    sqlite3.connect = watched  # what opens a file that must be there already


def watch_postgres(watch: Watch, names: Names) -> None:
    """See all that goes to PostgreSQL: the methods of psycopg's classes are wrapped."""
    transactions: dict[int, Transaction] = {}

    def sends(method: Any) -> Any:
        def send(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            transaction = transactions.setdefault(id(self.connection), Transaction())
            transaction.last = names.of(query)
            answer = watch.around(
                transaction.last,
                lambda: method(self, query, *args, **kwargs),
                lose=lambda: _lost(self.connection),
            )
            transaction.writes |= _defines(query) or _changed(self)
            if self.connection.autocommit and transaction.writes:
                watch.became_durable()
            return answer

        return send

    def ends(method: Any, word: str) -> Any:
        def end(self: Any) -> None:
            if self.info.transaction_status == TransactionStatus.IDLE or self.closed:
                method(self)
                return
            transaction = transactions.setdefault(id(self), Transaction())

            def call() -> None:
                method(self)
                if transaction.writes and word == "COMMIT":
                    watch.became_durable()
                transaction.writes = False

            watch.around(f"{word} of {transaction.last}", call, lose=lambda: _lost(self))

        return end

    _watch_functions(watch)
    psycopg.Cursor.execute = sends(psycopg.Cursor.execute)  # type: ignore[method-assign]
    psycopg.Cursor.executemany = sends(psycopg.Cursor.executemany)  # type: ignore[method-assign]
    psycopg.Connection.commit = ends(psycopg.Connection.commit, "COMMIT")  # type: ignore[method-assign]
    psycopg.Connection.rollback = ends(psycopg.Connection.rollback, "ROLLBACK")  # type: ignore[method-assign]


def _watch_functions(watch: Watch) -> None:
    """See the calls of functions in PostgreSQL: they go past psycopg's cursors, to a class in C that takes no patch."""
    send: Any = callconnection.CallConnection.execute
    begin: Any = callconnection.CallConnection.begin
    take: Any = line.Line._take

    def execute(self: Any, call: Any, encoded: Any, *, prepared: bool) -> Any:
        def run() -> Any:
            answer = send(self, call, encoded, prepared=prepared)
            if answer.status == ExecStatus.TUPLES_OK:
                watch.became_durable()
            return answer

        return watch.around(f"CALL of {call.name.decode()}", run, lose=lambda: _lost(self._driver))

    def began(self: Any, call: Any, encoded: Any, *, prepared: bool) -> None:
        watch.around(f"SEND of {call.name.decode()}", lambda: begin(self, call, encoded, prepared=prepared))

    def taken(self: Any, function: Any) -> Any:
        def run() -> Any:
            answer = take(self, function)
            watch.became_durable()
            return answer

        return watch.around(f"ANSWER of {function.name}", run, lose=lambda: _lost(self._connection._driver))

    callconnection.CallConnection.execute = execute  # type: ignore[method-assign]
    callconnection.CallConnection.begin = began  # type: ignore[method-assign]
    line.Line._take = taken  # type: ignore[method-assign]


def _lost(connection: Any) -> Exception:
    connection.close()
    return psycopg.OperationalError("the connection is lost (by a test)")


def _defines(query: object) -> bool:
    """Whether a statement changes tables themselves; what changes rows is counted."""
    return _text(query).lstrip().upper().startswith(("CREATE", "ALTER", "DROP"))


def _changed(cursor: Any) -> bool:
    """PostgreSQL answers `UPDATE 3`; a locking SELECT keeps nothing."""
    words = (cursor.statusmessage or "").split()
    return len(words) > 1 and words[0] in ("INSERT", "UPDATE", "DELETE") and words[-1] != "0"
