"""Asks the database for lanes: what is first in them, what became ready, what another process left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from dbos_events.engine.core import Core
from dbos_events.engine.run import Run
from dbos_events.errors import DBOSException
from dbos_events.runtime.intake.lanes import CACHE, LaneGroup, LaneHost
from dbos_events.runtime.intake.shared import SharedLane
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.storage.rows import LanePlace, LaneTaken

LANES_AT_ONCE = 50
READY_AT_ONCE = 1000
PAGE = 500
PINNED_COUNT = 100
"""Events taken at once of a lane that has a partition or a topic for itself."""


class LaneService(Service):
    """Finds what may run in the lanes that this process holds, by signal and by a slow poll."""

    name = "lane"

    def __init__(self, core: Core, taken: Taken) -> None:
        super().__init__(interval=0.5)
        self._core = core
        self._taken = taken
        self._groups: dict[tuple[int, int, int], LaneGroup] = {}
        self._shared: dict[tuple[int, int], SharedLane] = {}
        self._sweeps: dict[LaneGroup, str] = {}
        self._released: deque[tuple[int, list[str]]] = deque()
        self._polls_at = 0.0

    # -- for groups and consumers -------------------------------------------------------------

    @property
    def session(self) -> int:
        """The executor that the process is now."""
        return self._core.executor

    def run(self, runs: Sequence[Run]) -> None:
        if runs:
            self._core.runner.submit_following(runs)

    def release(self, executor: int, workflow_ids: Sequence[str]) -> None:
        self._released.append((executor, list(workflow_ids)))
        self.wake()

    def open(self, place: LanePlace, host: LaneHost, *, by_key: bool) -> LaneGroup:
        """The lanes of a partition, which this process holds from now on; what others left in them is looked for."""
        assert place.partition is not None  # noqa: S101
        group = LaneGroup(self, place, host, None if by_key else str(place.partition))
        self._groups[place.consumer, place.incarnation, place.partition] = group
        if by_key:
            group.activate([str(place.partition)])  # of events without a usable key
            self._sweeps[group] = ""
        self.wake()
        return group

    def close(self, group: LaneGroup) -> list[Run]:
        """Give lanes up; gives the runs that were never started."""
        place = group.place
        key = (place.consumer, place.incarnation, place.partition or 0)
        if self._groups.get(key) is group:
            del self._groups[key]
        self._sweeps.pop(group, None)
        return group.close()

    def share(self, consumer: int, incarnation: int, host: LaneHost) -> SharedLane:
        """The lane over all partitions of a topic, which one of the processes that read it holds."""
        key = (consumer, incarnation)
        if key not in self._shared:
            self._shared[key] = SharedLane(self._core, self, consumer, incarnation, host)
        self.wake()
        return self._shared[key]

    def unshare(self, lane: SharedLane) -> None:
        """This process reads the topic no more."""
        self._shared.pop((lane.consumer, lane.incarnation), None)
        lane.leave()

    def look(self) -> None:
        """Something may have become ready."""
        self._polls_at = 0.0
        self.wake()

    # -- the thread ---------------------------------------------------------------------------

    def tick(self) -> float | None:
        self._give_back()
        now = time.monotonic()
        if now >= self._polls_at or self._core.clock.manual:
            self._polls_at = now + self.interval
            self._poll()
        asked = self._sweep()
        for group in self._all_groups():
            asked |= self._ask(group)
        return 0.0 if asked else None

    def _all_groups(self) -> list[LaneGroup]:
        return [
            *self._groups.values(),
            *(lane.group for lane in self._shared.values() if lane.group is not None),
        ]

    def _give_back(self) -> None:
        while self._released:
            self._core.storage.release_unstarted(*self._released[0])
            self._released.popleft()

    def _poll(self) -> None:
        """Look for what became ready, and once more at what could not go on."""
        executor = self._core.executor
        for consumer in {consumer for consumer, _, _ in self._groups}:
            for incarnation, partition, lane in self._core.storage.ready_lanes(
                executor, consumer, READY_AT_ONCE
            ):
                group = self._groups.get((consumer, incarnation, partition))
                if group is not None and group.pinned in (None, lane):
                    group.activate([lane])
        for shared in tuple(self._shared.values()):
            shared.poll()
        for group in self._all_groups():
            group.look_again()

    def _sweep(self) -> bool:
        """Look through the lanes that a former holder left, a page at a time."""
        for group, after in tuple(self._sweeps.items()):
            low, high = _names(group.place.partition)
            names = self._core.storage.lanes_after(
                group.place.consumer, group.place.incarnation, after or low, high, PAGE
            )
            group.activate(names)
            if len(names) < PAGE:
                self._sweeps.pop(group, None)
            elif group in self._sweeps:
                self._sweeps[group] = names[-1]
        return bool(self._sweeps)

    def _ask(self, group: LaneGroup) -> bool:
        """Settle some of the group's questions; False when it has none."""
        names = group.questions(LANES_AT_ONCE)
        if not names:
            return False
        try:
            self._settle(group, names)
        except BaseException:
            group.activate(names)
            raise
        return True

    def _settle(self, group: LaneGroup, names: Sequence[str]) -> None:
        core = self._core
        limits = {entry.name: entry.max_recovery_attempts for entry in core.registry.workflows.values()}
        count = CACHE if group.pinned is None else PINNED_COUNT
        found = core.storage.take_lanes(core.executor, group.place, names, count, limits)
        if found is None:
            group.stale = True
            return
        runs = {
            run.id: run for run in self._taken.runs([row for taken in found.values() for row in taken.rows])
        }
        for name, taken in found.items():
            if taken.rows:
                self._start(group, name, taken, [runs[row.id] for row in taken.rows])
            elif taken.empty:
                group.settled(name)
            else:
                self._leave(group, name, taken)

    def _start(self, group: LaneGroup, name: str, taken: LaneTaken, runs: list[Run]) -> None:
        if not group.take(name, runs, more=taken.more):
            self.release(self._core.executor, [run.id for run in runs])

    def _leave(self, group: LaneGroup, name: str, taken: LaneTaken) -> None:
        """Nothing could be taken: somebody runs the head, or it is put aside or sleeps."""
        orphan = (
            taken.owner == self._core.executor
            and taken.head not in self._core.runner.active
            and not group.knows(name)
        )
        if (
            orphan and taken.head is not None
        ):  # taken by a commit whose answer was lost, or by a run that got lost
            self._core.storage.release_unstarted(self._core.executor, [taken.head])
        group.blocked(name, watched=taken.owner is not None)


def _names(partition: int | None) -> tuple[str, str]:
    """Names between which those of the partition's lanes lie: `3` and all that begins with `3/`."""
    if partition is None:
        raise DBOSException("A lane over several partitions has no names to look through.")
    return f"{partition}", f"{partition}0"
