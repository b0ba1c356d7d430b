"""Two operations at once, in every order in which the database can see their statements.

The first operation is stopped after its first statement, after its second, and so on, also between its transactions.
While it stands there the second one runs, to its end or until it waits for a lock of the first one; then
the first one goes on. Nothing sleeps: whether somebody waits for somebody is asked of the database.

What the two leave behind must be what they leave when one simply follows the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import psycopg

from dbos_events.errors import DBOSException, StorageUnavailable
from dbos_events.storage.database import Tx
from dbos_events.storage.sqldatabase import SqlStorage

S = TypeVar("S")
R = TypeVar("R")
Operation = Callable[[S, SqlStorage], object]
Listener = Callable[[str, Tx | None], object]

PATIENCE = 10.0
COMMIT = "commit"
VOLATILE = {"write_id", "start_id", "own_checkpoints", "identity", "schedule_id", "revision"}
"""Columns with numbers that the tests draw anew each time; what stands in the last one, the view of steps shows."""


def tell_of_statements(storage: SqlStorage, listener: Listener) -> None:
    """Have `listener` called after each statement of this storage, with its name, and after each commit."""
    database = storage.database
    base: Any = database._driver.transaction
    transact = database._transact

    class Telling(base):  # type: ignore[misc]
        def run(self, name: str, /, **parameters: Any) -> Any:
            answer = super().run(name, **parameters)
            listener(name, self)
            return answer

        def batch(self, name: str, rows: Any, /, **parameters: Any) -> Any:
            answer = super().batch(name, rows, **parameters)
            if rows:
                listener(name, self)
            return answer

        def change(self, name: str, rows: Any, /, **parameters: Any) -> Any:
            answer = super().change(name, rows, **parameters)
            if rows:
                listener(name, self)
            return answer

    def telling_transact(work: Callable[[Tx], R]) -> R:
        with database.engine.begin() as connection:
            answer = work(Telling(database, connection))
        listener(COMMIT, None)
        return answer

    assert transact is not None
    database._transact = telling_transact  # type: ignore[method-assign]


@dataclass
class Outcome:
    """What the two operations answered, and the rows that they left."""

    answers: tuple[object, object]
    rows: dict[str, list[str]]

    def difference(self, other: Outcome) -> str:
        """Where the other outcome is another one."""
        lines = [] if self.answers == other.answers else [f"  answers {self.answers} / {other.answers}"]
        for table in self.rows:
            mine, theirs = self.rows[table], other.rows[table]
            lines += [f"  {table} has  {row}" for row in mine if row not in theirs]
            lines += [f"  {table} lacks {row}" for row in theirs if row not in mine]
        return "\n".join(lines)


@dataclass
class Race:
    """Two processes on one database. `storage` is the one that is stopped; `reset` empties the tables."""

    storage: SqlStorage
    other: SqlStorage
    tables: Sequence[str]
    reset: Callable[[], object]
    tried: list[str] = field(default_factory=list)
    """The points at which the second operation ran, for a look at what was covered."""

    def __post_init__(self) -> None:
        self._listener: Listener = _nobody
        tell_of_statements(self.storage, self._tell)
        self._postgres = self.storage.database.dialect.is_postgres
        self._watch = _connect(self.storage) if self._postgres else None

    def _tell(self, name: str, tx: Tx | None) -> None:
        self._listener(name, tx)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()

    def __call__(
        self,
        scene: Callable[[SqlStorage], S],
        one: Operation[S],
        other: Operation[S],
        *,
        then: Operation[S] | None = None,
        must_hold: Operation[S] | None = None,
        serial: bool = True,
        repeated: bool = False,
    ) -> None:
        """Try all orders of `one` and `other` in what `scene` builds.

        `then` is done after both, in all orders: what the services do all the time anyway, where it is enough that they
        come to the same end; answers are not compared then. `must_hold` looks at what each order leaves, also the
        serial ones. Where an end is right that neither serial order has, `serial` is false, and `must_hold` says all.
        Where the two may lock each other out, one of them is `repeated`, as its callers do.
        """
        trial = _Trial(self, scene, (one, other), then, must_hold, repeated=repeated)
        known = [trial.one_after_the_other(first) for first in (0, 1)]
        allowed = [outcome for outcome, _ in known]
        points = [met for _, met in known]
        for first in (0, 1):
            for number, point in enumerate(points[first][:-1]):
                if not self._postgres and point != COMMIT:
                    continue  # the whole file is locked within a transaction
                outcome = trial.interleaved(first, number)
                self.tried.append(f"{'AB'[first]} stopped after {number + 1} ({point})")
                where = f"{'AB'[first]} stopped after {' '.join(points[first][: number + 1])}"
                assert not serial or outcome in allowed, (
                    f"{where}, before {' '.join(points[first][number + 1 :])}: it is neither\n"
                    f"A, then B:\n{outcome.difference(allowed[0])}\n"
                    f"nor B, then A:\n{outcome.difference(allowed[1])}"
                )

    def waits_for(self, holder: Tx | None) -> bool:
        """Whether a connection waits for a lock that the transaction holds."""
        if self._watch is None or holder is None:
            return False
        pid = holder.connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        query = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock' AND %s = ANY(pg_blocking_pids(pid))"
        )
        return self._watch.execute(query, [pid]).fetchone() != (0,)

    def rows(self) -> dict[str, list[str]]:
        """All that is stored."""
        return self.other.database.transact(lambda tx: _rows(tx, self.tables))


class _Trial(Generic[S]):
    """Two operations in one scene, which is built anew for each order."""

    def __init__(
        self,
        race: Race,
        scene: Callable[[SqlStorage], S],
        operations: tuple[Operation[S], Operation[S]],
        then: Operation[S] | None,
        must_hold: Operation[S] | None,
        *,
        repeated: bool,
    ) -> None:
        self._race = race
        self._scene = scene
        self._operations = operations
        self._then = then
        self._must_hold = must_hold
        self._repeated = repeated
        self.built: S

    def one_after_the_other(self, first: int) -> tuple[Outcome, list[str]]:
        """Also gives the statements of the first."""
        met: list[str] = []
        self._build()
        self._race._listener = lambda name, _: met.append(name)
        answer = self._do(first, self._race.storage)
        self._race._listener = _nobody
        return self._outcome(first, answer, self._do(1 - first, self._race.other)), met

    def interleaved(self, first: int, stop: int) -> Outcome:
        """The second one runs when the first one has come to its statement number `stop`."""
        self._build()
        met = 0
        meanwhile: list[Future[object]] = []

        def listen(_name: str, tx: Tx | None) -> None:
            nonlocal met
            if met == stop:
                meanwhile.append(pool.submit(self._do, 1 - first, self._race.other))
                self._until_it_ends_or_waits(meanwhile[0], tx)
            met += 1

        with ThreadPoolExecutor(1) as pool:
            self._race._listener = listen
            answer = self._do(first, self._race.storage)
            self._race._listener = _nobody
            return self._outcome(first, answer, meanwhile[0].result(PATIENCE))

    def _until_it_ends_or_waits(self, other: Future[object], holder: Tx | None) -> None:
        while not wait([other], timeout=0.002).done and not self._race.waits_for(holder):
            pass

    def _build(self) -> None:
        self._race.reset()
        self.built = self._scene(self._race.other)

    def _do(self, number: int, storage: SqlStorage) -> object:
        """The answer, or the kind of error."""
        try:
            return self._operations[number](self.built, storage)
        except StorageUnavailable as error:
            if not self._repeated:
                raise AssertionError(f"operation {'AB'[number]} has to be repeated: {error}") from error
            return self._do(number, storage)
        except DBOSException as error:
            return type(error)

    def _outcome(self, first: int, answer: object, second: object) -> Outcome:
        answers = (answer, second) if first == 0 else (second, answer)
        if self._then is not None:
            self._then(self.built, self._race.other)
            answers = (None, None)
        if self._must_hold is not None:
            self._must_hold(self.built, self._race.other)
        return Outcome(answers, self._race.rows())


def _rows(tx: Tx, tables: Sequence[str]) -> dict[str, list[str]]:
    """Of each table its rows as text; on PostgreSQL in one question, since it is asked very often."""
    found: dict[str, list[str]] = {table: [] for table in tables}
    connection = tx.connection
    if connection.dialect.name == "postgresql":
        parts = [f"SELECT '{table}', to_jsonb(t) FROM {table} AS t" for table in tables]
        for table, row in connection.exec_driver_sql(" UNION ALL ".join(parts)):
            found[table].append(_text(row))
    else:
        for table in tables:
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()
            found[table] = [_text(dict(row)) for row in rows]
    return {table: sorted(rows) for table, rows in found.items()}


def _text(row: Mapping[str, object]) -> str:
    return ", ".join(
        f"{key}={value!r}" for key, value in row.items() if value is not None and key not in VOLATILE
    )


def _connect(storage: SqlStorage) -> psycopg.Connection[Any]:
    url = storage.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(url, autocommit=True)


def _nobody(_name: str, _tx: Tx | None) -> None:
    pass
