"""Transactions on one database: connections, named statements, and what its errors mean."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from dbos_events.clock import Clock
from dbos_events.errors import BadWrite, DBOSException, StorageError
from dbos_events.storage import answers
from dbos_events.storage.statements import Dialect, Statement, load

if TYPE_CHECKING:
    from dbos_events.storage.calls import Function
    from dbos_events.storage.line import Line
    from dbos_events.storage.onecall import OneCall

R = TypeVar("R")
Row = Any
"""One row of an answer: its columns are attributes, and it is a tuple."""


Columns: TypeAlias = Iterable[Sequence[Any]]
"""The columns of a table, each as an array."""


class Step(NamedTuple):
    """A named statement with its rows, if it takes rows, its other parameters, and how many rows it must hit."""

    name: str
    rows: Sequence[tuple[Any, ...]] | None
    parameters: dict[str, Any]
    expected: int


def columns_of(rows: Sequence[tuple[Any, ...]], count: int) -> Columns:
    """Rows of `count` columns, turned over."""
    return zip(*rows, strict=True) if rows else [()] * count


class RollBack(Exception):
    """Rolls a transaction back at the wish of its own code, and not since the database answered with an error."""


class NotAsExpected(RollBack):
    """Rolls a transaction back of which something was not done."""


# Raised by this code itself, or by a value that it was given: none of it is the database's.
_OWN = (
    DBOSException,
    RollBack,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    NameError,
    ValueError,
)


class Tx:
    """One open transaction."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: Database, connection: sa.Connection) -> None:
        self._database = database
        self._connection = connection

    @property
    def connection(self) -> sa.Connection:
        return self._connection

    def run(self, name: str, /, **parameters: Any) -> Sequence[Row]:
        """Execute a named statement; gives its rows, none when it returns nothing."""
        statement = self._database.statements[name]
        return self._execute(statement, parameters)

    def one(self, name: str, /, **parameters: Any) -> Row | None:
        """The first row of a named statement."""
        rows = self.run(name, **parameters)
        return rows[0] if rows else None

    def batch(self, name: str, rows: Sequence[tuple[Any, ...]], /, **parameters: Any) -> Sequence[Row]:
        """Execute a statement with `{rows:...}` for all `rows` in one round trip; gives what it returns."""
        if not rows:
            return ()
        statement = self._database.statements[name]
        return self._execute(statement, {**self._rows(statement, rows), **parameters})

    def change(self, name: str, rows: Sequence[tuple[Any, ...]], /, **parameters: Any) -> int:
        """As `batch`, for a statement that returns nothing; gives how many rows it changed.

        Counting costs nothing where fetching the changed ids of a batch takes a tenth of its time.
        """
        if not rows:
            return 0
        statement = self._database.statements[name]
        if not statement.row_by_row:
            return self._count(statement, {**self._rows(statement, rows), **parameters})
        if ":clock_now" in statement.sql:
            parameters["clock_now"] = self._database.clock.now_ms()
        names = [name for name, _ in statement.columns]
        many = [dict(zip(names, row, strict=True)) | parameters for row in rows]
        return self._connection.execute(self._database.text(statement), many).rowcount

    def finish(self, steps: Sequence[Step]) -> None:
        """Execute statements that end the transaction, each of which must hit as many rows as it says.

        Raises:
            NotAsExpected: One of them has hit another number; nothing is kept.
        """
        for step in steps:
            if step.rows is None:
                hit = len(self.run(step.name, **step.parameters))
            else:
                hit = self.change(step.name, step.rows, **step.parameters)
            if hit != step.expected:
                raise NotAsExpected

    def _rows(self, statement: Statement, rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
        arrays = self._database.arrays
        if not arrays:
            return {"rows": _as_json(rows)}
        columns = zip(statement.columns, zip(*rows, strict=True), strict=True)
        return {name: arrays[kind](values) for (name, kind), values in columns}

    def _prepared(self, statement: Statement, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters as the driver takes them."""
        database = self._database
        for name, kind in statement.lists:
            values = list(parameters[name])
            parameters[name] = database.arrays[kind](values) if database.arrays else _as_json([values])[1:-1]
        if ":clock_now" in statement.sql:
            parameters["clock_now"] = database.clock.now_ms()
        return parameters

    def _execute(self, statement: Statement, parameters: dict[str, Any]) -> Sequence[Row]:
        text = self._database.text(statement)
        result = self._connection.execute(text, self._prepared(statement, parameters))
        return result.fetchall() if result.returns_rows else ()

    def _count(self, statement: Statement, parameters: dict[str, Any]) -> int:
        text = self._database.text(statement)
        return self._connection.execute(text, self._prepared(statement, parameters)).rowcount


@dataclass(frozen=True, slots=True)
class Driver:
    """What is particular about the way to one database.

    `arrays` gives, by type, what a list parameter is wrapped in; empty where lists go as JSON.
    `transaction` is the class of transactions, `errors` are those that come from the driver past
    SQLAlchemy. `on_lost_plan` is called when the server does not know a statement that was prepared.
    `calls` are the functions of the database, where it has any.
    """

    arrays: Mapping[str, Callable[[Sequence[Any]], object]] = field(default_factory=dict)
    transaction: type[Tx] = Tx
    errors: tuple[type[Exception], ...] = ()
    on_lost_plan: Callable[[], object] | None = None
    calls: OneCall | None = None


class Database:
    """A pool of connections to one database with our schema in it."""

    def __init__(
        self,
        engine: sa.Engine,
        dialect: Dialect,
        schema: str,
        quoted_schema: str,
        clock: Clock,
        driver: Driver | None = None,
    ) -> None:
        driver = driver or Driver()
        self.engine = engine
        self.dialect = dialect
        self.schema = schema
        self.clock = clock
        self.arrays = driver.arrays
        self._driver = driver
        self._age = 0
        event.listen(engine, "connect", self._begun)
        event.listen(engine, "checkout", self._refuse_old)
        self._errors: tuple[type[Exception], ...] = (exc.SQLAlchemyError, *driver.errors, *answers.UNSENDABLE)
        self.statements: Mapping[str, Statement] = load(dialect, quoted_schema, manual_clock=clock.manual)
        self._texts = {name: sa.text(statement.sql) for name, statement in self.statements.items()}
        # SQLite lets one connection write; queueing here is fairer than its busy handler.
        self._writer = threading.Lock() if not dialect.is_postgres else None

    def text(self, statement: Statement) -> sa.TextClause:
        return self._texts[statement.name]

    def transact(self, work: Callable[[Tx], R]) -> R:
        """Run `work` in one transaction: all of it, or nothing when it raises.

        Raises:
            BadWrite: The database refuses a value.
            StorageUnavailable: No answer, or any other one: to be tried again until it goes well. Whether a commit took
                effect is then unknown.
        """
        with self._translating():
            if self._writer is None:
                return self._transact(work)
            with self._writer:
                return self._transact(work)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Around everything that asks the database."""
        try:
            yield
        except Exception as error:
            if isinstance(error, _OWN) and not isinstance(error, self._errors):
                raise
            if answers.spoils_all_sessions(error):
                self.renew()
            meaning = self.translate(error)
            # What is stored with a workflow must not hold the statement, which the driver's error shows.
            raise meaning from None if isinstance(meaning, BadWrite) else error

    @property
    def calls(self) -> bool:
        """Whether the database has functions for what comes often."""
        return self._driver.calls is not None and self._driver.calls.usable

    def call(self, function: Function, single: Sequence[Any], *tables: Columns) -> str | None:
        """Do a whole transaction in one call of `function`; gives what it returns.

        Its arguments are the time, `single`, and the columns of `tables`.

        Raises:
            NotAsExpected: Nothing was kept; to be done statement by statement.
            StorageError: As `transact`.
        """
        assert self._driver.calls is not None  # noqa: S101
        with self._translating():
            return self._driver.calls.call(function, self._arguments(single, tables))

    def open_line(self, functions: Iterable[Function]) -> Line | None:
        """A connection for calls that nobody waits for; None where the database has no such functions.

        Raises:
            StorageError: As `transact`.
        """
        if self._driver.calls is None or not self._driver.calls.usable:
            return None
        with self._translating():
            try:
                return self._driver.calls.open_line(functions)
            except NotAsExpected:
                return None

    def begin_call(self, line: Line, function: Function, single: Sequence[Any], *tables: Columns) -> None:
        """As `call`, without waiting for the answer, which `line` receives."""
        line.send(function, self._arguments(single, tables))

    def _arguments(self, single: Sequence[Any], tables: Iterable[Columns]) -> tuple[Any, ...]:
        now = self.clock.now_ms() if self.clock.manual else None
        return (now, *single, *chain.from_iterable(tables))

    def look(self, work: Callable[[Tx], R]) -> R:
        """As `transact`, for what only reads and may take long: on SQLite, writers go on meanwhile."""

        def looking(tx: Tx) -> R:
            tx.run("begin_look")
            return work(tx)

        with self._translating(), self.engine.connect().execution_options(only_reads=True) as connection:
            return self._on(connection, Tx, looking)

    def _transact(self, work: Callable[[Tx], R]) -> R:
        with self.engine.connect() as connection:
            return self._on(connection, self._driver.transaction, work)

    def _on(self, connection: sa.Connection, kind: type[Tx], work: Callable[[Tx], R]) -> R:
        """One transaction; where its end says that the session is not what it was, the connection goes."""
        try:
            with connection.begin():
                return work(kind(self, connection))
        except Exception as error:
            if isinstance(error, self._errors) or not isinstance(error, _OWN):
                self._judge(error, connection)
            raise

    def _judge(self, error: Exception, connection: sa.Connection) -> None:
        if answers.code_of(answers.cause_of(error)) in answers.LOST_PLAN and self._driver.on_lost_plan:
            self._driver.on_lost_plan()
        if answers.spoils_session(error):
            connection.invalidate()

    def renew(self) -> None:
        """Have all that follows ask over new connections; the old ones are closed instead of used again."""
        self._age += 1
        if self._driver.calls is not None:
            self._driver.calls.renew()

    def _begun(self, _connection: object, record: Any) -> None:
        record.info["age"] = self._age

    def _refuse_old(self, _connection: object, record: Any, _proxy: object) -> None:
        if record.info["age"] != self._age:
            raise exc.DisconnectionError("An answer casts doubt on the sessions of before.")

    def translate(self, error: Exception) -> StorageError:
        """What a driver's error means to the caller; statements, rows and passwords are left out."""
        return answers.meaning(error)

    def close(self) -> None:
        if self._driver.calls is not None:
            self._driver.calls.close()
        self.engine.dispose()


def _as_json(rows: Sequence[Sequence[Any]]) -> str:
    """Rows for SQLite, which would end a text at a NUL without a word; PostgreSQL refuses that as well."""
    text = json.dumps(rows, ensure_ascii=False)
    if "\\u0000" in text and any(isinstance(value, str) and "\0" in value for row in rows for value in row):
        raise BadWrite("The database cannot hold this value: text with a NUL character.")
    return text
