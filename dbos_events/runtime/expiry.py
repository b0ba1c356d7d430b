"""Ends publications whose time is over; those that nobody has seen are counted and told."""

from __future__ import annotations

from dbos_events.engine.core import Core
from dbos_events.engine.operations.publications import EXPIRY
from dbos_events.runtime.service import Service
from dbos_events.telemetry.log import logger

BATCH = 1000
FORGET_MS = 60_000


class ExpiryService(Service):
    """Sleeps until the next publication is over, at most five seconds."""

    name = "expiry"
    signals = (EXPIRY,)

    def __init__(self, core: Core) -> None:
        super().__init__(interval=5.0)
        self._core = core
        self._forgot_at = 0

    def next_due(self) -> int | None:
        left = self._core.storage.publications.next_expiry()
        return None if left is None or left <= 0 else self._core.clock.now_ms() + left

    def tick(self) -> float | None:
        publications = self._core.storage.publications
        now = self._core.clock.now_ms()
        if now - self._forgot_at >= FORGET_MS:
            self._forgot_at = now
            publications.forget_waits()
        left = publications.next_expiry()
        if left is None or left > 0:
            return self.interval if left is None else min(self.interval, left / 1000 + 0.001)
        ended, unseen = publications.expire(BATCH)
        if unseen:
            logger.warning(
                "%s publications have expired that nobody had seen. `dbos-events match unmatched` lists them.",
                unseen,
            )
        return 0.01 if ended == BATCH else 0.2
