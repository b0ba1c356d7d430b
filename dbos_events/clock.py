"""Where time comes from: the system's clock, or a test's."""

from __future__ import annotations

import threading
import time
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

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set (True) or the time has passed on this clock (False)."""
        ...


class SystemClock:
    """The machine's own clock."""

    manual = False

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)
