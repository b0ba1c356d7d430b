"""Wakes parked workflows whose time has come."""

from __future__ import annotations

from time import monotonic

from dbos_events.engine.core import Core
from dbos_events.model.queue import channel_of
from dbos_events.runtime.service import DueService
from dbos_events.runtime.taken import Taken
from dbos_events.runtime.taker import taker_of

BATCH = 500
CROWDED_BATCH = 50
CROWDED_PAUSE = 0.05
"""Workflows that are woken at once; and where many runs are in memory already, with the seconds between two such batches."""

PROMOTE_SECONDS = 0.05
"""Seconds between two looks for what is delayed, while batches follow each other."""


class TimerService(DueService):
    """Sleeps until the next parked workflow is due, at most one second."""

    name = "timer"
    takes_work = True
    signals = ("timers",)

    def __init__(self, core: Core, taken: Taken) -> None:
        super().__init__(core, interval=1.0)
        self._taken = taken
        self._more = False
        self._promoted = float("-inf")

    def left(self) -> int | None:
        return self._core.storage.taking.next_wake(self._core.application)

    def tick(self) -> float | None:
        return self.serve() if self._more else super().tick()

    def serve(self) -> float:
        core = self._core
        crowded = core.runner.is_crowded
        count = CROWDED_BATCH if crowded else BATCH
        self._more = False
        with self._taken.taking():
            rows = core.storage.taking.wake_due(taker_of(core, core.registry.names()), count)
            self._taken.start(rows, woken=True)
        self._more = len(rows) >= count
        if not self._more or monotonic() - self._promoted >= PROMOTE_SECONDS:
            self._promote()
        if self._more:
            return CROWDED_PAUSE if crowded else 0.0
        return 0.01 if rows else 0.2

    def _promote(self) -> None:
        """Let what was delayed into its queue."""
        core = self._core
        for queue in core.storage.queues.promote_due(core.application):
            core.signal("queues" if queue is None else channel_of(queue))
        core.hub.signal("queues")
        core.hub.signal("lanes")
        self._promoted = monotonic()
