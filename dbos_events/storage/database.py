"""Transactions on one database: connections, named statements, and what its errors mean."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from dbos_events.clock import Clock, DatabaseClock
from dbos_events.errors import BadWrite, StorageError, StorageUnavailable
from dbos_events.storage.statements import Dialect, Statement, load
from dbos_events.telemetry.log import redact

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


class NotAsExpected(Exception):
    """Rolls a transaction back of which something was not done."""


# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection, resources, shutdown,
# I/O, serialization, lock not available, read-only (a server that is being failed over).
_TRANSIENT_CLASSES = ("08", "53", "57P", "58", "40")
_TRANSIENT_CODES = ("55P03", "25006")
LOST_PLAN = ("26000", "42P05")
_VALUE_CLASSES = ("22", "23", "42804", "54")
# Raised by the drivers themselves: text that is no Unicode, numbers that are too large for their column.
_UNSENDABLE = (UnicodeEncodeError, struct.error, OverflowError)
_SQLITE_TRANSIENT = ("locked", "busy", "disk I/O", "full", "unable to open", "readonly", "interrupted")


class Tx:
    """One open transaction."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: Database, connection: sa.Connection) -> None:
        self._database = database
        self._connection = connection

    @property
    def connection(self) -> sa.Connection:
        return self._connection

    def token(self, executor: int) -> int:
        """As `Database.token`."""
        return self._database.token(executor)

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
        self.identities: dict[int, int] = {}
        """By number: what tells the executors of this process from others of their numbers."""
        self._errors: tuple[type[Exception], ...] = (exc.SQLAlchemyError, *driver.errors, *_UNSENDABLE)
        self.statements: Mapping[str, Statement] = load(dialect, quoted_schema, manual_clock=clock.manual)
        self._texts = {name: sa.text(statement.sql) for name, statement in self.statements.items()}
        # SQLite lets one connection write; queueing here is fairer than its busy handler.
        self._writer = threading.Lock() if not dialect.is_postgres else None

    def token(self, executor: int) -> int:
        """What the fence is asked with: the executor's number and, where this process has registered it, its identity."""
        return self.identities.get(executor, 0) << 32 | executor

    def told_time(self, database_ms: int, asked_ns: int) -> None:
        """Note what the database has just said of its clock; `asked_ns` is when the question went out."""
        if isinstance(self.clock, DatabaseClock):
            self.clock.learn(database_ms, asked_ns)

    def text(self, statement: Statement) -> sa.TextClause:
        return self._texts[statement.name]

    def transact(self, work: Callable[[Tx], R]) -> R:
        """Run `work` in one transaction: all of it, or nothing when it raises.

        Raises:
            StorageUnavailable: No answer, or one that asks to try again. Whether a commit took
                effect is then unknown.
            BadWrite: The database refuses a value.
            StorageError: Any other answer.
        """
        try:
            if self._writer is None:
                return self._transact(work)
            with self._writer:
                return self._transact(work)
        except self._errors as error:
            raise self.translate(error) from error

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
        try:
            return self._driver.calls.call(function, self._arguments(single, tables))
        except self._errors as error:
            raise self.translate(error) from error

    def open_line(self, functions: Iterable[Function]) -> Line | None:
        """A connection for calls that nobody waits for; None where the database has no such functions.

        Raises:
            StorageError: As `transact`.
        """
        if self._driver.calls is None or not self._driver.calls.usable:
            return None
        try:
            return self._driver.calls.open_line(functions)
        except NotAsExpected:
            return None
        except self._errors as error:
            raise self.translate(error) from error

    def begin_call(self, line: Line, function: Function, single: Sequence[Any], *tables: Columns) -> None:
        """As `call`, without waiting for the answer, which `line` receives."""
        line.send(function, self._arguments(single, tables))

    def _arguments(self, single: Sequence[Any], tables: Iterable[Columns]) -> tuple[Any, ...]:
        now = self.clock.now_ms() if self.clock.manual else None
        return (now, *single, *chain.from_iterable(tables))

    def look(self, work: Callable[[Tx], R]) -> R:
        """As `transact`, for what only reads and may take long: on SQLite, writers go on meanwhile."""
        try:
            with self.engine.connect().execution_options(only_reads=True) as connection, connection.begin():
                tx = Tx(self, connection)
                tx.run("begin_look")
                return work(tx)
        except exc.SQLAlchemyError as error:
            raise self.translate(error) from error

    def _transact(self, work: Callable[[Tx], R]) -> R:
        with self.engine.begin() as connection:
            return work(self._driver.transaction(self, connection))

    def translate(self, error: Exception) -> StorageError:
        """What a driver's error means to the caller; passwords are left out."""
        if isinstance(error, _UNSENDABLE):
            return BadWrite(f"The database cannot hold this value: {error}.")
        cause = getattr(error, "orig", None) or error
        text = redact(f"{type(cause).__name__}: {cause}").strip()
        if isinstance(error, exc.TimeoutError):
            return StorageUnavailable(
                f"No free connection within the pool's time limit ({text}). Raise sys_db_pool_size."
            )
        if isinstance(error, exc.SQLAlchemyError) and not isinstance(error, exc.DBAPIError):
            return BadWrite(text) if isinstance(error, exc.StatementError) else StorageError(text)
        if self._is_transient(error, cause):
            return StorageUnavailable(text)
        return BadWrite(text) if _is_about_a_value(cause) else StorageError(text)

    def _is_transient(self, error: Exception, cause: BaseException) -> bool:
        if getattr(error, "connection_invalidated", False):
            return True
        code = getattr(cause, "sqlstate", None)
        if code in LOST_PLAN and self._driver.on_lost_plan is not None:
            self._driver.on_lost_plan()
            return True
        if code is not None:
            return str(code).startswith(_TRANSIENT_CLASSES) or code in _TRANSIENT_CODES
        kinds = _kinds(cause)
        if "OperationalError" not in kinds or "PipelineAborted" in kinds:
            return False
        return self.dialect.is_postgres or any(word in str(cause) for word in _SQLITE_TRANSIENT)

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


def _kinds(error: BaseException) -> frozenset[str]:
    """The names of its classes, which PEP 249 gives all drivers in common."""
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def _is_about_a_value(cause: BaseException) -> bool:
    code = getattr(cause, "sqlstate", None)
    if code is not None:
        return str(code).startswith(_VALUE_CLASSES)
    return bool(_kinds(cause) & {"DataError", "IntegrityError", "InterfaceError", "ProgrammingError"})
