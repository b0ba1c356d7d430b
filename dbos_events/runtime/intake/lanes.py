"""Ordered lanes: one event after the other, each when the last one's outcome is durable.

A lane follows offsets. What lies below the lane's start, or behind an event that did not end
well, is settled first, from the database: a live process that still runs it is waited for, what
nobody runs is taken in order, what is quarantined holds the lane. Only then do the events that
were taken in here run, straight from memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from dbos_events.engine.core import Core
from dbos_events.engine.run import Run
from dbos_events.model.workflow import PENDING
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.storage.rows import LaneEntry


class LaneHost(Protocol):
    """The consumer that a lane belongs to."""

    @property
    def max_crashes(self) -> int | None: ...

    def occupy(self, count: int) -> None: ...

    def give_back(self, count: int) -> None: ...


class Lane:
    """The events of one partition while this process is its holder.

    `behind` is the offset below which the database is asked first; None when all below is settled.
    """

    def __init__(
        self,
        service: LaneService,
        consumer: int,
        incarnation: int,
        partition: int,
        behind: int,
        host: LaneHost,
    ) -> None:
        self.consumer = consumer
        self.incarnation = incarnation
        self.partition = partition
        self.host = host
        self._service = service
        self._lock = threading.Lock()
        self._queue: deque[Run] = deque()
        self._running: Run | None = None
        self._behind: int | None = behind
        self._closed = False
        self._session = service.session

    @property
    def size(self) -> int:
        """Events in memory: waiting ones and the running one."""
        return len(self._queue) + (self._running is not None)

    @property
    def behind(self) -> int | None:
        """Where to look first, or None when an event runs here or nothing is left to settle."""
        return None if self._rests or self._running is not None else self._behind

    def extend(self, runs: Sequence[Run]) -> None:
        """Append events that were just taken in, in order."""
        with self._lock:
            if not self._closed:
                self._queue.extend(runs)
            following = self._next()
        self._service.run(following)

    def run_taken(self, run: Run) -> None:
        """Run an earlier event that was taken from the database."""
        with self._lock:
            self._running = run
        self._service.run(run)

    def settled(self) -> None:
        """All below `behind` has ended: go on with what is in memory."""
        with self._lock:
            self._behind = None
            following = self._next()
        self._service.run(following)

    def left(self, run: Run) -> None:
        """The running event has left; the next starts if it has freed the lane.

        Called on the committer's thread.
        """
        self.host.give_back(1)
        with self._lock:
            if self._running is not run:
                return
            self._running = None
            if self._behind is None and not frees(run):
                self._behind = offset_of(run) + 1
            looks = self._behind is not None or self._closed
            following = self._next()
        self._service.run(following)
        if looks:
            self._service.wake()

    def close(self) -> list[Run]:
        """Start nothing more; gives what was never started."""
        with self._lock:
            self._closed = True
            unstarted = list(self._queue)
            self._queue.clear()
        return unstarted

    @property
    def _rests(self) -> bool:
        """Whether nothing may start: the lane was given up, or what waits in it is of an executor that is dead."""
        return self._closed or self._service.session != self._session

    def _next(self) -> Run | None:
        if self._rests or self._running is not None or self._behind is not None or not self._queue:
            return None
        self._running = self._queue.popleft()
        return self._running


def frees(run: Run) -> bool:
    """Whether the end of `run` lets the next event of its lane start."""
    ending = run.ending
    if ending is None or ending.kind != "ended":
        return False
    return ending.error is None or run.origin is None or not run.origin.quarantines


def offset_of(run: Run) -> int:
    """The offset of an event's run, which its id ends with."""
    return int(run.id.rpartition("/")[2])


class LaneService(Service):
    """Settles what lanes find before them, found by signal and by a slow poll."""

    name = "lane"

    def __init__(self, core: Core, taken: Taken) -> None:
        super().__init__(interval=0.5)
        self._core = core
        self._taken = taken
        self._lanes: dict[tuple[int, int, int], Lane] = {}

    @property
    def session(self) -> int:
        """The executor that the process is now."""
        return self._core.executor

    def open(self, consumer: int, incarnation: int, partition: int, behind: int, host: LaneHost) -> Lane:
        """A lane that settles all below offset `behind` before anything else."""
        lane = Lane(self, consumer, incarnation, partition, behind, host)
        self._lanes[consumer, incarnation, partition] = lane
        self.wake()
        return lane

    def run(self, run: Run | None) -> None:
        """Start the event that is next in some lane, if there is one."""
        if run is not None:
            self._core.runner.submit([run])

    def tick(self) -> float | None:
        for lane in tuple(self._lanes.values()):
            while (behind := lane.behind) is not None:
                if not self._settle(lane, behind):
                    break
        return None

    def _settle(self, lane: Lane, behind: int) -> bool:
        """Look at the first event below `behind` that holds the lane; False when it must be waited for."""
        entries = self._core.storage.lane_entries(lane.consumer, lane.incarnation, lane.partition, behind, 1)
        if not entries:
            lane.settled()
            return False
        return self._take(lane, entries[0])

    def _take(self, lane: Lane, entry: LaneEntry) -> bool:
        core = self._core
        if entry.status != PENDING or entry.owner is not None:
            return False
        row = core.storage.take_lane_entry(core.executor, entry.workflow_id, lane.host.max_crashes)
        if row is None:
            return False
        (run,) = self._taken.runs([row], host=lane)
        lane.host.occupy(1)
        lane.run_taken(run)
        return False
