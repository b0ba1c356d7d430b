"""Processes that read a topic and run nothing by themselves: a test moves each of them, step by step.

The storage, the lane service and the intake are real; the runner only notes what it was given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from dbos_events.connect.source import Record
from dbos_events.engine.run import Run
from dbos_events.engine.runvalues import LOST, PARKED, Ending
from dbos_events.errors import ExecutorFenced, StorageUnavailable
from dbos_events.model.event import ConsumerOptions, HeldQuotas
from dbos_events.runtime.intake.consumer import ConsumerIntake
from dbos_events.runtime.intake.keeper import LaneService
from dbos_events.runtime.taken import Taken
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import WRITTEN
from dbos_events_kafka import connector
from tests.storage.building import APP, end, park, quarantine, register

TOPIC = "orders"


class Interrupted:
    """The storage of one process: other things happen before and after its calls, and answers get lost.

    Calls are named as they are made: `lanes.take`.
    """

    def __init__(self, real: SqlStorage) -> None:
        self._real = real
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}
        self.lost: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return self.interrupt(name, found) if callable(found) else _Subject(self, name, found)

    def interrupt(self, name: str, method: Any) -> Any:
        """The method, with what is to happen around it."""
        hooked = (*self.before, *self.after, *self.lost)
        for one in hooked:
            attrgetter(one)(self._real)  # else it would never happen
        if name not in hooked:
            return method

        def call(*arguments: Any) -> Any:
            self.before.pop(name, _nothing)()
            answer = method(*arguments)
            self.after.pop(name, _nothing)()
            if name in self.lost:
                self.lost.discard(name)
                raise StorageUnavailable("The connection ended before the answer came.")
            return answer

        return call


class _Subject:
    """One subject of it; a test may put methods of its own in the place of the real ones."""

    def __init__(self, storage: Interrupted, name: str, real: Any) -> None:
        self._storage = storage
        self._name = name
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return self._storage.interrupt(f"{self._name}.{name}", getattr(self._real, name))


def _nothing() -> None:
    pass


class _Runner:
    def __init__(self, started: Callable[[Run], object]) -> None:
        self.active: dict[str, Run] = {}
        self._started = started

    def submit(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._started(run)
            self.active[run.id] = run

    def submit_following(self, runs: Sequence[Run]) -> None:
        self.submit(runs)


class _Core:
    """What lanes and intake use of the engine."""

    def __init__(self, storage: SqlStorage, started: Callable[[Run], object]) -> None:
        self.storage = Interrupted(storage)
        self.executor = register(storage)
        self.registrations = 1
        self.runner = _Runner(started)
        self.registry = SimpleNamespace(
            workflows={"handle": SimpleNamespace(name="handle", max_recovery_attempts=None, binding=None)},
            names=lambda: ["handle"],
            limits=lambda: {"handle": None},
        )
        self.application = APP
        self.version = "v1"
        self.clock = storage.database.clock
        self.retries: dict[int, Any] = {}
        self.hub = SimpleNamespace(signal=_ignore)
        self.signal = _ignore
        self.quotas = HeldQuotas()

    def ask(self, work: Callable[[], Any], patience: float | None = None) -> Any:
        while True:
            try:
                return work()
            except StorageUnavailable:
                continue

    def refuse_when_stopped(self) -> None:
        pass


def _ignore(_channel: str) -> None:
    pass


class Process:
    """One process; `started` is told of each run that begins in it."""

    def __init__(
        self,
        storage: SqlStorage,
        options: ConsumerOptions,
        started: Callable[[Run], object],
        *,
        reads: bool = True,
    ) -> None:
        self.real = storage
        self.core = _Core(storage, started)
        core: Any = self.core
        taken = Taken(core)
        self.start = taken.start
        self.lanes = LaneService(core, taken)
        function: Any = core.registry.workflows["handle"]
        consumers: Any = SimpleNamespace(watch=lambda *_: None)
        self.intake = ConsumerIntake(core, taken, function, options, self.lanes, consumers, connector)
        self.positions: dict[int, int] = {}
        if reads:
            self.intake.open("group", [TOPIC], {})
            self.incarnation = self.intake.identify("cluster", TOPIC, "id-1")

    @property
    def storage(self) -> Interrupted:
        return self.core.storage

    @property
    def running(self) -> list[Run]:
        return list(self.core.runner.active.values())

    # -- partitions ---------------------------------------------------------------------------

    def assign(self, partition: int) -> None:
        self.intake.begin(self.incarnation, {partition: (0, "earliest")})
        [position] = self.intake.assign(self.incarnation, TOPIC, [partition])
        self.positions[partition] = position.next_offset

    def revoke(self, partition: int) -> None:
        self.positions.pop(partition, None)
        self.intake.revoke(self.incarnation, [partition])

    def take_in(self, partition: int, log: Sequence[bytes | None], most: int) -> int:
        """As many of the log's next records as there is room for, at most `most`; gives how many."""
        offset = self.positions[partition]
        room = min(most, self.intake.places.free, self.intake.room(self.incarnation, partition))
        keys = log[offset : offset + max(0, room)]
        records = [
            Record(partition, offset + number, key, b"v", None, 1, 0, leader_epoch=0, latency=None)
            for number, key in enumerate(keys)
        ]
        if not records:
            return 0
        result = self.intake.take_in(self.incarnation, records)
        for lost in result.stale:
            self.positions.pop(lost, None)
        if partition in result.next_offsets:
            self.positions[partition] = result.next_offsets[partition]
        return len(records)

    # -- the lanes' thread --------------------------------------------------------------------

    def tick(self) -> None:
        """As the service's thread does it."""
        with contextlib.suppress(StorageUnavailable, ExecutorFenced):
            self.lanes.tick()

    # -- what runs ----------------------------------------------------------------------------

    def finish(self, run: Run) -> None:
        self._leave(run, end(run.id, take=run.take), Ending("ended"))

    def fail(self, run: Run) -> None:
        assert run.origin is not None
        self._leave(
            run, quarantine(run.id, run.origin.consumer, take=run.take), Ending("ended", error=ValueError())
        )

    def park(self, run: Run, wake_at: int) -> None:
        self._leave(run, park(run.id, wake_at, take=run.take), PARKED)

    def _leave(self, run: Run, write: Any, ending: Ending) -> None:
        try:
            [result] = self.real.write_batch(self.core.executor, [write])
        except ExecutorFenced:
            result = None
        self.end(run, ending if result == WRITTEN else LOST)

    def end(self, run: Run, ending: Ending) -> None:
        del self.core.runner.active[run.id]
        run.end(ending)
        if run.host is not None:
            run.host.left(run)

    # -- being declared dead ------------------------------------------------------------------

    def become_another(self) -> None:
        """What a process does that finds itself dead: all that it runs is lost, and it reads anew."""
        self.core.executor = register(self.real)
        for run in self.running:
            self.end(run, LOST)
        for partition in tuple(self.positions):
            self.assign(partition)
