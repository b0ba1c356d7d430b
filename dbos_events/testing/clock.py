"""A clock that stands still until a test moves it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dbos_events.errors import DBOSException

START = datetime(2030, 1, 1, tzinfo=UTC)


class ManualClock:
    """Time for the engine and the database at once; moved by `advance`, from any thread.

    Args:
        start: Where it begins; the first of January 2030 by default.
    """

    manual = True

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise DBOSException(f"ManualClock: {start!r} has no time zone. Use datetime(..., tzinfo=UTC).")
        self._lock = threading.Lock()
        self._now = round(start.timestamp() * 1000)
        self._alarms: dict[int, tuple[int, Callable[[], object]]] = {}
        self._numbers = itertools.count()

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._now / 1000, tz=UTC)

    def now_ms(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._now / 1000

    def alarm(self, at_ms: int, ring: Callable[[], object]) -> Callable[[], None]:
        number = next(self._numbers)
        with self._lock:
            if at_ms > self._now:
                self._alarms[number] = (at_ms, ring)

        def forget() -> None:
            with self._lock:
                self._alarms.pop(number, None)

        return forget

    def next_alarm(self) -> int | None:
        """When the next of those who wait in memory is due."""
        with self._lock:
            return min((at for at, _ in self._alarms.values()), default=None)

    def advance(self, by: timedelta) -> None:
        """Let `by` pass at once; `TestApp.advance` does in between what falls due."""
        if by < timedelta(0):
            raise DBOSException("Time does not go back.")
        self.move_to(self._now + round(by / timedelta(milliseconds=1)))

    def move_to(self, at_ms: int) -> None:
        """Make it `at_ms`, unless it is later already, and wake those who waited for that."""
        with self._lock:
            self._now = max(self._now, at_ms)
            due = [number for number, (at, _) in self._alarms.items() if at <= self._now]
            rings = [self._alarms.pop(number)[1] for number in due]
        for ring in rings:
            ring()
