"""Transactions on one database: connections, named statements, and what its errors mean."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from dbos_events.clock import Clock, DatabaseClock
from dbos_events.errors import BadWrite, DBOSException, StorageError
from dbos_events.model.dataclass import dataclass, field
from dbos_events.storage import errorcodes, sequences
from dbos_events.storage.apart import Apart
from dbos_events.storage.rollback import NotAsExpected, RollBack
from dbos_events.storage.shapes import Shape, tuples, turned
from dbos_events.storage.statements import Dialect, Statement, Texts, fitted

if TYPE_CHECKING:
    from dbos_events.storage.functions import Function
    from dbos_events.storage.line import Line
    from dbos_events.storage.onecall import OneCall

R = TypeVar("R")
Row = Any
"""One row of an answer: its columns are attributes, and it is a tuple."""

Rows: TypeAlias = Sequence[Mapping[str, Any]] | Sequence[tuple[Any, ...]]
"""Rows for a statement: by the names of its columns, or as `Tx.rows` has made them."""

Table: TypeAlias = Rows | Mapping[str, Sequence[Any]]
"""Rows for a function, or its columns by their names."""


class Step(NamedTuple):
    """A named statement with its rows, if it takes rows, its other parameters, and how many rows it must hit."""

    name: str
    rows: Rows | None
    parameters: dict[str, Any]
    expected: int


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

    def identified(self, executor: int) -> dict[str, int]:
        """What the fence is asked with: number and identity of an executor."""
        return self._database.identified(executor)

    def run(self, name: str, /, **parameters: Any) -> Sequence[Row]:
        """Execute a named statement; gives its rows, none when it returns nothing."""
        statement = self._database.statements[name]
        return self._execute(statement, parameters)

    def one(self, name: str, /, **parameters: Any) -> Row | None:
        """The first row of a named statement."""
        rows = self.run(name, **parameters)
        return rows[0] if rows else None

    def rows(self, name: str, records: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows of a statement, each made of records that have fields called as its columns."""
        return self._database.rows(name, records)

    def batch(self, name: str, rows: Rows, /, **parameters: Any) -> Sequence[Row]:
        """Execute a statement with `{rows:...}` for all `rows` in one round trip; gives what it returns."""
        if not rows:
            return ()
        statement = self._database.statements[name]
        return self._execute(statement, {**self._rows(statement, rows), **parameters})

    def change(self, name: str, rows: Rows, /, **parameters: Any) -> int:
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
        many = [dict(zip(names, row, strict=True)) | parameters for row in tuples(names, rows)]
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

    def _rows(self, statement: Statement, rows: Rows) -> dict[str, Any]:
        arrays = self._database.arrays
        ordered = tuples(statement.names, rows)
        if not arrays:
            return {"rows": _as_json(ordered)}
        columns = zip(statement.columns, zip(*ordered, strict=True), strict=True)
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
        self.apart = Apart("workflow", "`dbos-events workflow get {id}` shows it", clock)
        self._age = 0
        event.listen(engine, "connect", self._begun)
        event.listen(engine, "checkout", self._refuse_old)
        self._errors: tuple[type[Exception], ...] = (
            exc.SQLAlchemyError,
            *driver.errors,
            *errorcodes.UNSENDABLE,
        )
        self.statements: Mapping[str, Statement] = fitted(dialect, quoted_schema, manual_clock=clock.manual)
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._functions: Mapping[str, Function] | None = None
        self._texts = Texts(self.statements)
        # SQLite lets one connection write; queueing here is fairer than its busy handler.
        self._writer = threading.Lock() if not dialect.is_postgres else None

    def rows(self, name: str, records: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows of a statement, each made of records that have fields called as its columns."""
        if not records:
            return []
        key = (name, *map(type, records[0]))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(self.statements[name].names, *map(type, records[0]))
        return [shape.row(*parts) for parts in records]

    def identified(self, executor: int) -> dict[str, int]:
        """What the fence is asked with: the executor's number, and its identity where this process has registered it."""
        return {"executor": executor, "identity": self.identities.get(executor, 0)}

    def told_time(self, database_ms: int, asked_ns: int) -> None:
        """Note what the database has just said of its clock; `asked_ns` is when the question went out."""
        if isinstance(self.clock, DatabaseClock):
            self.clock.learn(database_ms, asked_ns)

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
            if errorcodes.spoils_all_sessions(error):
                self.renew()
            sequences.advance_where_behind(error, self.engine, self.schema)
            meaning = self.translate(error)
            # What is stored with a workflow must not hold the statement, which the driver's error shows.
            raise meaning from None if isinstance(meaning, BadWrite) else error

    @property
    def calls(self) -> bool:
        """Whether the database has functions for what comes often."""
        return self._driver.calls is not None and self._driver.calls.usable

    def function(self, name: str) -> Function:
        """A function of the database, by the name that this code has for it."""
        if self._functions is None:
            from dbos_events.storage.functions import functions

            self._functions = functions()
        return self._functions[name]

    def call(
        self, name: str, parameters: Mapping[str, Any], tables: Mapping[str, Table], row: Sequence[Any] = ()
    ) -> str | None:
        """Do a whole transaction in one call of a function; gives what it returns.

        Parameters, tables and their columns go by name; `row` is the single row of a function that takes one.

        Raises:
            NotAsExpected: Nothing was kept; to be done statement by statement.
            StorageError: As `transact`.
        """
        assert self._driver.calls is not None  # noqa: S101
        function = self.function(name)
        with self._translating():
            return self._driver.calls.call(function, self._arguments(function, parameters, tables, row))

    def open_line(self, names: Iterable[str]) -> Line | None:
        """A connection for calls that nobody waits for; None where the database has no such functions.

        Raises:
            StorageError: As `transact`.
        """
        if self._driver.calls is None or not self._driver.calls.usable:
            return None
        with self._translating():
            try:
                return self._driver.calls.open_line([self.function(name) for name in names])
            except NotAsExpected:
                return None

    def begin_call(
        self,
        line: Line,
        name: str,
        parameters: Mapping[str, Any],
        tables: Mapping[str, Table],
        row: Sequence[Any] = (),
    ) -> None:
        """As `call`, without waiting for the answer, which `line` receives."""
        function = self.function(name)
        line.send(function, self._arguments(function, parameters, tables, row))

    def _arguments(
        self,
        function: Function,
        parameters: Mapping[str, Any],
        tables: Mapping[str, Table],
        row: Sequence[Any],
    ) -> tuple[Any, ...]:
        now = self.clock.now_ms() if self.clock.manual else None
        single = [parameters[name] for name, _ in function.parameters]
        columns = [_columns(tables[name], [c for c, _ in kinds]) for name, kinds in function.tables.items()]
        return (now, *single, *row, *chain.from_iterable(columns))

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
        if (
            errorcodes.code_of(errorcodes.cause_of(error)) in errorcodes.LOST_PLAN
            and self._driver.on_lost_plan
        ):
            self._driver.on_lost_plan()
        if errorcodes.spoils_session(error):
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
        return errorcodes.meaning(error)

    def close(self) -> None:
        if self._driver.calls is not None:
            self._driver.calls.close()
        self.engine.dispose()


def _columns(table: Table, names: Sequence[str]) -> Iterable[Sequence[Any]]:
    """The columns of a table in this order."""
    if isinstance(table, Mapping):
        return [table[name] for name in names]
    return turned(tuples(names, table), len(names))


def _as_json(rows: Sequence[Sequence[Any]]) -> str:
    """Rows for SQLite, which would end a text at a NUL without a word; PostgreSQL refuses that as well."""
    text = json.dumps(rows, ensure_ascii=False)
    if "\\u0000" in text and any(isinstance(value, str) and "\0" in value for row in rows for value in row):
        raise BadWrite("The database cannot hold this value: text with a NUL character.")
    return text
