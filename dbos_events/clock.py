"""Where time comes from: the system's clock, or a test's (`dbos_events.testing.ManualClock`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for bounds.

    `manual` tells the storage to bind this clock's time instead of asking the database
    for its own, so that a test moves time for both at once.
    """

    manual: bool

    def now_ms(self) -> int:
        """Milliseconds since 1970 (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def alarm(self, at_ms: int, ring: Callable[[], object]) -> Callable[[], None]:
        """Have `ring` called when a test moves the time to `at_ms`; gives what takes that back.

        Without effect on a real clock: who waits on that has a timer of its own.
        """
        ...


class SystemClock:
    """The machine's own clock."""

    manual = False

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def alarm(self, at_ms: int, ring: Callable[[], object]) -> Callable[[], None]:
        return _nothing


def _nothing() -> None:
    return
