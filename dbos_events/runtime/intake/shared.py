"""One lane over all partitions of a topic: `ordering="topic"`.

Each process that reads a part of the topic takes its events in, held; the lane counts them. One of
the processes is the lane's holder and runs them, one after the other.
"""

from __future__ import annotations

import threading

from dbos_events.engine.core import Core
from dbos_events.runtime.intake.lanes import LaneGroup, LaneHost, LaneKeeper
from dbos_events.storage.subjects.lanes import LanePlace

LANE = "topic"


class SharedLane:
    """This process's part in the lane: whether it is the holder, and how much of the lane is left to do."""

    def __init__(
        self, core: Core, keeper: LaneKeeper, consumer: int, incarnation: int, host: LaneHost
    ) -> None:
        self.consumer = consumer
        self.incarnation = incarnation
        self.group: LaneGroup | None = None
        self._core = core
        self._keeper = keeper
        self._host = host
        self._session = 0
        self._executor = 0
        self._open = 0
        self._lock = threading.Lock()  # polls come from the lanes' thread, the end from the intake thread

    @property
    def open(self) -> int:
        """Events that hold the lane, as far as this process knows."""
        return self._open

    def taken_in(self, count: int) -> None:
        """Count what this process has just added."""
        self._open += count
        self._core.signal("lanes")

    def poll(self) -> None:
        """Become the holder if there is none, and look at what others have added."""
        with self._lock:
            self._poll()

    def _poll(self) -> None:
        core = self._core
        if self._session != core.registrations or (self.group is not None and self.group.stale):
            self._drop()
        if self.group is None:
            self._hold()
        if self.group is not None:
            self.group.activate([LANE])
        self._open = core.storage.lanes.count_open(
            self.consumer, self.incarnation, LANE, self._host.capacity + 1
        )

    def leave(self) -> None:
        """Give the lane up, for another process that reads the topic; may be called again until it returns."""
        with self._lock:
            if self.group is not None:
                self._give_back(self.group)
                self._core.storage.lanes.leave(self._executor, self.consumer, self.incarnation, LANE)
                self.group = None

    def _hold(self) -> None:
        self._session, self._executor = self._core.registrations, self._core.executor
        epoch = self._core.storage.lanes.hold(self._executor, self.consumer, self.incarnation, LANE)
        if epoch is not None:
            place = LanePlace(self.consumer, self.incarnation, None, epoch, LANE)
            self.group = LaneGroup(self._keeper, place, self._host, LANE)

    def _drop(self) -> None:
        group, self.group = self.group, None
        if group is not None:
            self._give_back(group)

    def _give_back(self, group: LaneGroup) -> None:
        unstarted = group.close()
        if unstarted:
            self._keeper.release(self._executor, [run.id for run in unstarted])
