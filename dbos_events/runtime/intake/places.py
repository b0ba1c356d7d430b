"""How many events of a consumer may be in this process at once."""

from __future__ import annotations

import threading

from dbos_events.engine.run import Run


class Places:
    """Counts the events that run here, and those that wait in memory behind one of their lane.

    Both have the same bound, apart from each other: however many events wait behind slow ones, as many
    others may run.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._running = 0
        self._waiting = 0
        self._changed = threading.Condition()

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
        with self._changed:
            self._running += count

    def cache(self, count: int) -> None:
        with self._changed:
            self._waiting += count

    def left(self, run: Run) -> None:
        """One event has left this process; called on the committer's thread."""
        with self._changed:
            self._running -= 1
            if self._running <= self.capacity // 2:
                self._changed.notify_all()

    def wait(self, seconds: float, *, always: bool) -> None:
        """Wait until something has left, if most places are taken, or `always`."""
        with self._changed:
            if always or self._running > self.capacity // 2:
                self._changed.wait(seconds)
