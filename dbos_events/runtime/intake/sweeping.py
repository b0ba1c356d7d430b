"""The lanes of a partition that nobody holds, opened to run what is left in them."""

from __future__ import annotations

from dbos_events.runtime.intake.keeper import LaneService
from dbos_events.runtime.intake.places import Places
from dbos_events.storage.subjects.lanes import LanePlace
from dbos_events.storage.subjects.orphans import Orphan
from dbos_events.storage.subjects.positions import AssignedPosition

CAPACITY = 100
"""Events of one such partition that run here at once."""


class LeftLanes:
    """What the sweeper asks of the lanes of one orphaned partition."""

    def __init__(self, lanes: LaneService, orphan: Orphan, position: AssignedPosition) -> None:
        place = LanePlace(orphan.consumer, orphan.incarnation, orphan.partition, position.epoch)
        self._lanes = lanes
        self._executor = lanes.executor
        self._group = lanes.open(place, Places(CAPACITY, lanes.freed), by_key=True)

    @property
    def idle(self) -> bool:
        return self._lanes.is_swept(self._group) and self._group.rests

    def close(self) -> None:
        unstarted = self._lanes.close(self._group)
        if unstarted:
            self._lanes.release(self._executor, [run.id for run in unstarted])
