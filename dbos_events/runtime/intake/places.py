"""How many events of a consumer may be in this process at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dbos_events.engine.run import Run

JAM_SECONDS = 0.25


class Places:
    """Counts the events that run here, and those that wait in memory behind one of their lane.

    Both have the same bound, apart from each other: however many events wait behind slow ones, as many
    others may run. `on_left` is called for each event that has left, by the committer.
    """

    def __init__(self, capacity: int, on_left: Callable[[], object] = lambda: None) -> None:
        self.capacity = capacity
        self._on_left = on_left
        self._running = 0
        self._waiting = 0
        self._full_since: float | None = None
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._drained = threading.Condition(self._lock)

    @property
    def running(self) -> int:
        return self._running

    @property
    def free(self) -> int:
        return self.capacity - self._running

    @property
    def cache_room(self) -> int:
        return self.capacity - self._waiting

    def occupy(self, count: int) -> None:
        with self._lock:
            self._running += count

    @property
    def crowded(self) -> bool:
        """Whether so many wait that more should stay with the broker: soon half of them will have run.

        When they do not, they wait behind slow events, and the others must not wait for those.
        """
        since = self._full_since
        return since is not None and time.monotonic() - since < JAM_SECONDS

    def cache(self, count: int) -> None:
        with self._lock:
            before, self._waiting = self._waiting, self._waiting + count
            if self._waiting >= self.capacity:
                self._full_since = self._full_since or time.monotonic()
            elif self._waiting <= self.capacity // 2:
                self._full_since = None
            if self._waiting == 0 or before > self.capacity // 2 >= self._waiting:
                self._drained.notify_all()

    def left(self, run: Run) -> None:
        """One event has left this process; called by the committer."""
        with self._lock:
            self._running -= 1
            if self._running <= self.capacity // 2:
                self._left.notify_all()
        self._on_left()

    def wait_for_places(self, seconds: float) -> None:
        """Wait until something has left, if more than half of the places are taken."""
        with self._lock:
            if self._running > self.capacity // 2:
                self._left.wait(seconds)

    def wait_for_lanes(self, seconds: float) -> None:
        """Wait until something has left and half of the places are free."""
        with self._lock:
            self._left.wait(seconds)

    def wait_for_cache(self, seconds: float) -> None:
        """Wait until no more than half of what may wait in memory does; taking in one by one costs a commit each."""
        with self._lock:
            self._drained.wait(seconds)
