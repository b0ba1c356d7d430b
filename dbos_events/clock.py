"""Where time comes from: the system's clock, or a test's (`dbos_events.testing.ManualClock`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
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


# Linux has a clock of its own that goes on while the machine is suspended; on macOS the monotonic one does. Bound to their
# argument, since they are asked at each durable operation.
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC if sys.platform == "darwin" else None)

elapsed: Callable[[], float] = time.monotonic if _ELAPSED is None else partial(time.clock_gettime, _ELAPSED)
"""Seconds since some moment; nobody sets them, and they go on while the machine is suspended.

For a bound that others keep by their own clocks, such as a lease.
"""

elapsed_ns: Callable[[], int] = (
    time.monotonic_ns if _ELAPSED is None else partial(time.clock_gettime_ns, _ELAPSED)
)
"""As `elapsed`, in nanoseconds."""


class SystemClock:
    """The machine's own clock."""

    manual = False

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def alarm(self, at_ms: int, ring: Callable[[], object]) -> Callable[[], None]:
        return _nothing


class DatabaseClock:
    """The database's clock, as far as it is known here: what it last said, and the time that has passed since.

    All processes write and compare times, so one clock has to decide, and it is not the host's. Each answer of the
    database that carries its time narrows down by how much that is ahead of the time that has passed here: it was read
    between the question and the answer. What is assumed is moved no further than such an answer demands, so
    that a slow answer shifts nothing.

    Args:
        host: Gives the time until the database has said its own, and the monotonic time always.
    """

    manual = False

    def __init__(self, host: Clock) -> None:
        self._host = host
        self._ahead: int | None = None

    def now_ms(self) -> int:
        ahead = self._ahead
        return self._host.now_ms() if ahead is None else (elapsed_ns() + ahead) // 1_000_000

    def monotonic(self) -> float:
        return self._host.monotonic()

    def alarm(self, at_ms: int, ring: Callable[[], object]) -> Callable[[], None]:
        return self._host.alarm(at_ms, ring)

    def learn(self, database_ms: int, asked_ns: int) -> None:
        """Take in what the database has just answered to a question of `asked_ns`, a time of `elapsed_ns`."""
        least = (database_ms - 1) * 1_000_000 - elapsed_ns()  # it rounds to milliseconds
        most = (database_ms + 1) * 1_000_000 - asked_ns
        ahead = self._ahead
        # At first the latest that it can be: who is woken by the database must not find that it is too early.
        self._ahead = most if ahead is None else max(least, min(ahead, most))


def _nothing() -> None:
    return
