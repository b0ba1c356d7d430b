"""How many events of a consumer may be in this process at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from dbos_events.engine.run import Run

JAM_SECONDS = 0.25
HEAVY_BYTES = 64 << 10
"""Records from this size on are weighed; a thousand lighter ones are no burden."""
MOST_BYTES = 128 << 20
"""So much of heavy records may be in memory; the rest stays with the broker."""


class Places:
    """Counts the events that run here, and those that wait in memory behind one of their lane.

    Both have the same bound, apart from each other: however many events wait behind slow ones, as many
    others may run. Heavy records are bounded by their bytes, too, those that run and those that wait together.

    `on_left` is called for each event that has left, by the committer.
    """

    def __init__(self, capacity: int, on_left: Callable[[], object] = lambda: None) -> None:
        self.capacity = capacity
        self._on_left = on_left
        self._running = 0
        self._waiting = 0
        self._weights: dict[str, tuple[int, int]] = {}
        self._by_partition: Counter[int] = Counter()
        self._bytes = 0
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
    def heavy(self) -> bool:
        """Whether heavy records have filled the memory."""
        return self._bytes >= MOST_BYTES

    def heavy_in(self, partition: int, partitions: int) -> bool:
        """Whether those of one partition have filled their share of it."""
        return self._by_partition[partition] >= MOST_BYTES // max(1, partitions)

    def weigh(self, run: Run, partition: int, size: int) -> None:
        """Count a heavy record until its run has left, or is `given_back`."""
        with self._lock:
            self._relieve((run,))
            self._weights[run.id] = (partition, size)
            self._by_partition[partition] += size
            self._bytes += size

    def given_back(self, runs: Iterable[Run]) -> None:
        """These are not in memory any more, though none has left."""
        if self._weights:
            with self._lock:
                self._relieve(runs)

    def _relieve(self, runs: Iterable[Run]) -> None:
        for run in runs:
            if run.id in self._weights:
                partition, size = self._weights.pop(run.id)
                self._by_partition[partition] -= size
                self._bytes -= size
                self._left.notify_all()
                self._drained.notify_all()

    @property
    def cache_room(self) -> int:
        # What waits behind slow events leaves half of the memory to others.
        return 0 if self._bytes >= MOST_BYTES // 2 else self.capacity - self._waiting

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
            if self._weights:
                self._relieve((run,))
            if self._running <= self.capacity // 2:
                self._left.notify_all()
        self._on_left()

    def wait_for_places(self, seconds: float) -> None:
        """Wait until something has left, if more than half of the places are taken, or the memory is."""
        with self._lock:
            if self._running > self.capacity // 2 or self.heavy:
                self._left.wait(seconds)

    def wait_for_lanes(self, seconds: float) -> None:
        """Wait until something has left and half of the places are free."""
        with self._lock:
            self._left.wait(seconds)

    def wait_for_cache(self, seconds: float) -> None:
        """Wait until no more than half of what may wait in memory does; taking in one by one costs a commit each."""
        with self._lock:
            self._drained.wait(seconds)
