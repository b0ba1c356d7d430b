"""Wakes parked workflows whose time has come."""

from __future__ import annotations

from dbos_events.engine.core import Core
from dbos_events.model.queue import channel_of
from dbos_events.runtime.service import DueService
from dbos_events.runtime.taken import Taken
from dbos_events.runtime.taker import taker_of

BATCH = 200


class TimerService(DueService):
    """Sleeps until the next parked workflow is due, at most one second."""

    name = "timer"
    takes_work = True
    signals = ("timers",)

    def __init__(self, core: Core, taken: Taken) -> None:
        super().__init__(core, interval=1.0)
        self._taken = taken

    def left(self) -> int | None:
        return self._core.storage.taking.next_wake(self._core.application)

    def serve(self) -> float:
        core = self._core
        with self._taken.taking():
            rows = core.storage.taking.wake_due(taker_of(core, core.registry.names()), BATCH)
            self._taken.start(rows)
        for queue in core.storage.queues.promote_due(core.application):
            core.signal("queues" if queue is None else channel_of(queue))
        core.hub.signal("queues")
        core.hub.signal("lanes")
        return 0.01 if rows else 0.2
