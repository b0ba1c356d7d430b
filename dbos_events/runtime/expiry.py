"""Ends publications whose time is over; those that nobody has seen are counted and told, and handled where asked for."""

from __future__ import annotations

from dbos_events.engine.core import Core
from dbos_events.engine.operations.publications import EXPIRY
from dbos_events.runtime.service import DueService
from dbos_events.telemetry.log import logger

BATCH = 1000
FORGET_MS = 60_000


class ExpiryService(DueService):
    """Sleeps until the next publication is over, at most five seconds."""

    name = "expiry"
    signals = (EXPIRY,)

    def __init__(self, core: Core) -> None:
        super().__init__(core, interval=5.0)
        self._forgot_at = 0

    def left(self) -> int | None:
        return self._core.storage.publications.next_expiry()

    def tick(self) -> float | None:
        now = self._core.clock.now_ms()
        if now - self._forgot_at >= FORGET_MS:
            self._forgot_at = now
            self._core.storage.publications.forget_waits()
        return super().tick()

    def serve(self) -> float:
        core = self._core
        expired = core.storage.publications.expire(core.executor, BATCH)
        if expired.handled:
            core.signal("queues")
        if expired.unseen:
            logger.warning(
                "%s publications have expired that nobody had seen. `dbos-events match unmatched` lists them.",
                expired.unseen,
            )
        return 0.01 if expired.ended == BATCH else 0.2
