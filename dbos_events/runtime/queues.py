"""Claims waiting workflows for all queues of this process: one poller, however many queues."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dbos_events.engine.core import Core
from dbos_events.engine.run import Run
from dbos_events.model.queue import QueueLimits
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.storage.rows import TakenWorkflow

MAX_CLAIM = 200


class QueueService(Service):
    """Starts what waits, within each queue's limits; counts what runs here."""

    name = "queue"

    def __init__(self, core: Core, taken: Taken, max_in_flight: int) -> None:
        super().__init__(interval=0.5)
        self._core = core
        self._taken = taken
        self._max_in_flight = max_in_flight
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}

    def tick(self) -> float | None:
        core = self._core
        more = self._claim_resumed()
        for name, limits in tuple(core.registry.queues.items()):
            more |= self._claim(name, limits)
        return 0.0 if more else None

    def left(self, run: Run) -> None:
        """A run of a queue has left: there is room for another."""
        with self._lock:
            self._running[run.queue or ""] -= 1
        self.wake()

    def _room(self, name: str, limits: QueueLimits | None) -> int:
        with self._lock:
            here = self._running.get(name, 0)
            room = min(MAX_CLAIM, self._max_in_flight - sum(self._running.values()))
        if limits is not None and limits.worker_concurrency is not None:
            room = min(room, limits.worker_concurrency - here)
        return room

    def _claim(self, name: str, limits: QueueLimits) -> bool:
        room = self._room(name, limits)
        if room <= 0:
            return False
        core = self._core
        with self._taken.taking():
            rows = core.storage.claim(
                core.executor,
                core.application,
                core.version,
                name,
                limits,
                core.registry.names(),
                room,
                core.waits_for_version,
            )
            self._start(name, rows)
        return len(rows) == room and not limits.shared

    def _claim_resumed(self) -> bool:
        room = self._room("", None)
        if room <= 0:
            return False
        core = self._core
        with self._taken.taking():
            rows = core.storage.claim_resumed(
                core.executor,
                core.application,
                core.version,
                core.registry.names(),
                room,
                core.waits_for_version,
            )
            self._start("", rows)
        return len(rows) == room

    def _start(self, name: str, rows: Sequence[TakenWorkflow]) -> None:
        with self._lock:
            self._running[name] = self._running.get(name, 0) + len(rows)
        self._taken.start(rows, host=self)
