"""Wakes parked workflows whose time has come."""

from __future__ import annotations

from dbos_events.engine.core import Core
from dbos_events.model.queue import channel_of
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken

BATCH = 200


class TimerService(Service):
    """Sleeps until the next parked workflow is due, at most one second."""

    name = "timer"
    takes_work = True
    signals = ("timers",)

    def __init__(self, core: Core, taken: Taken) -> None:
        super().__init__(interval=1.0)
        self._core = core
        self._taken = taken

    def next_due(self) -> int | None:
        left = self._core.storage.next_wake(self._core.application)
        return None if left is None or left <= 0 else self._core.clock.now_ms() + left

    def tick(self) -> float | None:
        core = self._core
        due = core.storage.next_wake(core.application)
        if due is None or due > 0:
            return self.interval if due is None else min(self.interval, due / 1000 + 0.001)
        with self._taken.taking():
            rows = core.storage.take_due(
                core.executor,
                core.application,
                core.version,
                core.registry.names(),
                BATCH,
                core.waits_for_version,
            )
            self._taken.start(rows)
        for queue in core.storage.queues.promote_due(core.application):
            core.signal("queues" if queue is None else channel_of(queue))
        core.hub.signal("queues")
        core.hub.signal("lanes")
        return 0.01 if rows else 0.2
