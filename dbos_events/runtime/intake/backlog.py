"""Accepted events that found no place where they came in: taken up wherever there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbos_events.engine.core import Core
from dbos_events.engine.run import Run
from dbos_events.runtime.intake.pushing import PushedConsumer
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.runtime.taker import taker_of
from dbos_events.storage.subjects.queues import RESUMED
from dbos_events.storage.subjects.taking import TakenWorkflow

MOST = 200
"""Events taken up at once."""


class BacklogService(Service):
    """Takes waiting events of the pushed consumers of this process, within the places of each."""

    name = "backlog"
    takes_work = True
    signals = ("queues",)

    def __init__(self, core: Core, taken: Taken, consumers: Mapping[str, PushedConsumer]) -> None:
        super().__init__(interval=1.0)
        self._core = core
        self._taken = taken
        self._consumers = consumers
        self._short = False
        self._heavy = False

    def freed(self) -> None:
        """An event has left its place; called by the committer."""
        if self._short:
            self._short = False
            self.wake()

    @property
    def functions(self) -> frozenset[str]:
        """Whose waiting events this service takes up, and nobody else in this process."""
        return frozenset(consumer.function.name for consumer in tuple(self._consumers.values()))

    def tick(self) -> float | None:
        open_here = self.functions - self._core.registry.contested
        if not open_here or not self._core.holds_lease:
            return None
        if self._heavy and self._taken.weights.full:
            self._short = True
            return None
        places = {one.function.name: one.places for one in tuple(self._consumers.values())}
        room = {name: places[name].free for name in open_here}
        self._short = any(free <= 0 for free in room.values())
        names = sorted(name for name, free in room.items() if free > 0)
        if not names:
            return None
        count = min(MOST, *(room[name] for name in names))
        core = self._core
        with self._taken.taking():
            taker = taker_of(core, names)
            rows = core.storage.queues.claim(taker, RESUMED, count).rows
            self._start(rows)
        return 0.0 if len(rows) == count else None

    def _start(self, rows: Sequence[TakenWorkflow]) -> None:
        by_function = {one.function.name: one for one in tuple(self._consumers.values())}
        runs: list[Run] = self._taken.runs(rows)
        started = {run.id for run in runs}
        self._heavy = self._taken.weights.are_too_heavy(
            [row.id for row in rows if row.id not in started][-1:]
        )
        for run in runs:
            places = by_function[run.function.name].places
            run.host = places
            places.occupy(1)
        self._core.runner.submit(runs)
