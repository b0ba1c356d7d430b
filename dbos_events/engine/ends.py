"""Waits for the ends of workflows that may run in other processes, which tell nobody of them."""

from __future__ import annotations

from typing import Any

from dbos_events.engine.waits import Wait

FIRST_PAUSE = 0.01
FACTOR = 1.5
"""Seconds until the second look, and by how much each pause is longer than the one before, up to the interval."""


class EndWait(Wait):
    """As `Wait`; looks often at first, so that what took short is found soon after its end.

    To tell other processes of each end would cost every workflow what few of them need. The pauses grow with the time that
    has passed, so an end is found late by a third of it at most, and by the interval; some waits at a time do so, and all
    others look at their interval.
    """

    _pause: float | None = None

    def block(self) -> Any:
        if not self._begins():
            return super().block()
        try:
            return super().block()
        finally:
            self.core.readers.eager.release()

    async def suspend(self) -> Any:
        if not self._begins():
            return await super().suspend()
        try:
            return await super().suspend()
        finally:
            self.core.readers.eager.release()

    def _begins(self) -> bool:
        if self.core.clock.manual or self.is_here() or not self.core.readers.eager.acquire(blocking=False):
            return False
        self._pause = FIRST_PAUSE
        return True

    def _seconds(self) -> float | None:
        seconds, pause = super()._seconds(), self._pause
        if pause is None or seconds is None or self.is_here():
            return seconds
        self._pause = min(pause * FACTOR, self.poll)
        return min(seconds, pause)
