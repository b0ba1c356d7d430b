"""The watch over this process itself: what it owns runs here, its threads live, its loop goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from dbos_events.engine.core import Core
from dbos_events.engine.takings import OpenTakings
from dbos_events.errors import StorageError
from dbos_events.model.process import RunningStep
from dbos_events.runtime.looplook import LoopLook
from dbos_events.runtime.service import Service
from dbos_events.telemetry.log import Recurring, logger

LOOK_SECONDS = 10.0
"""Between two looks at what this process owns, as long as nothing strange is found."""

SOON_SECONDS = 1.0
"""Between two looks when something may have been taken that nobody starts."""


TOLD_AFTER_MS = 5_000
"""A step that runs for so long is told to whoever asks what its workflow is doing."""
MOST_TOLD = 1_000


class WatchService(Service):
    """Compares what the database says that this process owns with what runs here, slowly and always.

    Whatever was taken and not started, by whichever way, is given back: then it is claimed as if nothing had happened.
    It counts as not started when two looks found it so under the same take, and no taking that was under way at the
    first of them still is. Threads that have ended are started anew.

    Args:
        takings: Those of services and intakes under way.
        services: Whose threads it looks after.
        waiting: The takes of what waits here in memory for its turn, by id.
    """

    name = "watch"

    def __init__(
        self,
        core: Core,
        takings: OpenTakings,
        services: Sequence[Service],
        waiting: Callable[[], Mapping[str, int]],
    ) -> None:
        super().__init__(interval=1.0)
        self._core = core
        self._takings = takings
        self._services = services
        self._waiting = waiting
        self._session = 0
        self._strange: dict[tuple[str, int], frozenset[object]] = {}
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._said = Recurring()
        self._told: tuple[int, frozenset[tuple[str, int]]] | None = None
        self.loop = LoopLook(core)
        takings.on_doubt = self.doubt

    def doubt(self) -> None:
        """Something may have been taken that nobody starts: look soon; may be called from any thread."""
        self._look_at = min(self._look_at, time.monotonic() + SOON_SECONDS)

    def tick(self) -> float | None:
        self._core.pool.look()
        self.loop.look()
        self._tell_steps()
        for service in self._services:
            if service.revive():
                logger.error("The thread of the %s service had ended; it is started anew.", service.name)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self.look()
            if self._strange:
                self.doubt()
        return None

    def _tell_steps(self) -> None:
        """Say which steps have been running here for some seconds, when others do than before: for people only."""
        core = self._core
        before = core.clock.now_ms() - TOLD_AFTER_MS
        running = [(call, since) for call, since in tuple(core.runner.under_way.items()) if since <= before]
        long = {
            (call.run.id, call.place.number): RunningStep(call.run.id, call.place.number, call.name, since)
            for call, since in running[:MOST_TOLD]
        }
        told = (core.executor, frozenset(long)) if long else None
        if told == self._told:
            return
        with suppress(StorageError):  # it is told again at the next look
            core.storage.processes.report_steps(core.executor, list(long.values()))
            self._told = told

    def look(self) -> None:
        """Look once at what this process owns, and give back what was found a second time."""
        core = self._core
        executor = core.executor
        owned = core.storage.taking.owned(executor)
        # After the question: a taking whose rows it saw has started them, or is still under way, or has failed.
        under_way = self._takings.open | core.starts.open
        here = {**self._waiting(), **core.runner.here}
        before = self._strange if self._session == core.registrations else {}
        self._session = core.registrations
        found = {(id_, take) for id_, take in owned.items() if here.get(id_) != take}
        self._strange = {one: before.get(one, under_way) for one in found}
        ripe = sorted(one for one in found if one in before and not before[one] & under_way)
        if ripe:
            self._give_back(executor, ripe)

    def _give_back(self, executor: int, ripe: list[tuple[str, int]]) -> None:
        given = self._core.storage.taking.give_back(executor, ripe)
        for one in ripe:
            self._strange.pop(one, None)
        if not given:
            return
        self._said.say(
            "%s workflows had been taken by this process and did not run here, %s among them; they were given back and "
            "are taken up again.",
            len(given),
            given[0],
        )
        for channel in ("queues", "lanes"):
            self._core.signal(channel)
