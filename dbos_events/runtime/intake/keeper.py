"""Asks the database for lanes: what is first in them, what became ready, what another process left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile

from dbos_events.engine.core import Core
from dbos_events.engine.run import Run
from dbos_events.errors import StorageError
from dbos_events.runtime.intake.lanes import LaneGroup, LaneHost
from dbos_events.runtime.intake.lanesapart import LanesApart
from dbos_events.runtime.intake.pushedlanes import PushedLanes
from dbos_events.runtime.intake.shared import LANE, SharedLane
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.storage.apart import halved
from dbos_events.storage.subjects.lanes import LanePlace, LaneTaken

LANES_AT_ONCE = 50
READY_AT_ONCE = 1000
PAGE = 500
PINNED_COUNT = 100
"""Events taken at once of a lane that has a partition or a topic for itself."""
RESWEEP_SECONDS = 60.0
"""How often all lanes are looked through for a head that no signal has told of."""


class LaneService(Service):
    """Finds what may run in the lanes that this process holds, by signal and by a slow poll."""

    name = "lane"
    signals = ("lanes",)

    def __init__(self, core: Core, taken: Taken) -> None:
        super().__init__(interval=0.5)
        self._core = core
        self._taken = taken
        self._groups: dict[tuple[int, int, int], LaneGroup] = {}
        self._shared: dict[tuple[int, int], SharedLane] = {}
        self._pushed: dict[int, PushedLanes] = {}
        self._sweeps: dict[LaneGroup, str] = {}
        self._leftovers: dict[tuple[int, int, int], LaneGroup] = {}
        self._leaving: deque[SharedLane] = deque()
        self._doubts: deque[tuple[int, LaneGroup, list[str]]] = deque()
        self._released: deque[tuple[int, list[str]]] = deque()
        self._pages: dict[int, tuple[int, str]] = {}
        self._polls_at = 0.0
        self._sweeps_at = 0.0
        self._short = False
        self._turn = 0
        self._apart = LanesApart(core.clock)

    @property
    def warnings(self) -> Sequence[str]:
        return self._apart.problems

    def next_due(self) -> int | None:
        return self._apart.next_due()

    # -- for groups and consumers -------------------------------------------------------------

    @property
    def session(self) -> int:
        """How often the process has registered: the number of an executor may be issued again."""
        return self._core.registrations

    @property
    def executor(self) -> int:
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
        group = LaneGroup(self, place, host, None if by_key else str(place.partition))
        self._groups[_where(place)] = group
        if by_key:
            self._begin_sweep(group)
        self.wake()
        return group

    def open_leftovers(self, place: LanePlace, host: LaneHost, own: str | None) -> LaneGroup | None:
        """Lanes of a partition that another ordering of the consumer has left unfinished; None without any.

        `own` is the one lane of the partition that its ordering has now.
        """
        low, high = _names(place)
        storage, where = self._core.storage, (place.consumer, place.incarnation)
        if not storage.lanes.after(*where, low, high, 1) and (
            own == low or not storage.lanes.count_open(*where, low, 1)
        ):
            return None
        group = self._leftovers[_where(place)] = LaneGroup(self, place, host)
        self._begin_sweep(group, own)
        self.wake()
        return group

    def close(self, group: LaneGroup) -> list[Run]:
        """Give lanes up; gives the runs that were never started."""
        for groups in (self._groups, self._leftovers):
            if groups.get(_where(group.place)) is group:
                del groups[_where(group.place)]
        self._sweeps.pop(group, None)
        return group.close()

    def holds(self, where: tuple[int, int, int]) -> bool:
        """Whether this process has the lanes of (consumer, incarnation, partition)."""
        return where in self._groups or where in self._leftovers

    def is_swept(self, group: LaneGroup) -> bool:
        """Whether all lanes that a former holder left were looked through."""
        return group not in self._sweeps

    def share(self, consumer: int, incarnation: int, host: LaneHost) -> SharedLane:
        """The lane over all partitions of a topic, which one of the processes that read it holds."""
        key = (consumer, incarnation)
        if key not in self._shared:
            self._shared[key] = SharedLane(self._core, self, consumer, incarnation, host)
        self.wake()
        return self._shared[key]

    def push(self, consumer: int, host: LaneHost) -> PushedLanes:
        """The lanes of a consumer whose events are pushed, of which each process runs what it finds ready."""
        if consumer not in self._pushed:
            self._pushed[consumer] = PushedLanes(self._core, self, consumer, host)
        self.wake()
        return self._pushed[consumer]

    def left_of_topic(self, consumer: int, incarnation: int) -> bool:
        """Whether events stand in the lane over all partitions, whatever ordering the consumer has now."""
        return self._core.ask(lambda: self._core.storage.lanes.count_open(consumer, incarnation, LANE, 1)) > 0

    def unshare(self, lane: SharedLane) -> None:
        """This process reads the topic no more."""
        self._shared.pop((lane.consumer, lane.incarnation), None)
        self._leaving.append(lane)
        self.wake()

    def heard(self) -> None:
        self.look()

    def look(self) -> None:
        """Something may have become ready."""
        self._polls_at = 0.0
        self.wake()

    def freed(self) -> None:
        """An event has left its place; called by the committer."""
        if self._short:
            self._short = False
            self.wake()

    # -- the thread ---------------------------------------------------------------------------

    def tick(self) -> float | None:
        self._give_back()
        self._resolve_doubts()
        now = time.monotonic()
        if now >= self._polls_at or self._core.clock.manual:
            self._polls_at = now + self.interval
            self._poll()
        asked = self._sweep(now)
        self._turn += 1
        groups = self._all_groups()
        for number in range(len(groups)):  # each comes first once: places may be short
            asked |= self._ask(groups[(number + self._turn) % len(groups)])
        return 0.0 if asked else None

    @property
    def waiting(self) -> dict[str, int]:
        """The takes of the events that wait in memory behind others of their lane; for any thread."""
        return {run.id: run.take for group in self._all_groups() for run in group.waiting}

    def _all_groups(self) -> list[LaneGroup]:
        return [
            *tuple(self._groups.values()),
            *tuple(self._leftovers.values()),
            *(group for lane in tuple(self._shared.values()) if (group := lane.group) is not None),
            *(lanes.group for lanes in tuple(self._pushed.values())),
        ]

    def _give_back(self) -> None:
        while self._released:
            executor, ids = self._released[0]
            release = partial(self._core.storage.lanes.release_unstarted, executor)
            for id_, error in halved(ids, release)[
                1
            ]:  # the watch over what this process owns gives it back later
                self._core.storage.apart.put(id_, error)
            self._released.popleft()
        while self._leaving:
            self._leaving[0].leave()
            self._leaving.popleft()

    def _poll(self) -> None:
        """Look for what became ready, and once more at what could not go on."""
        executor = self._core.executor
        for consumer in {where[0] for where in (*self._groups, *self._leftovers)}:
            for incarnation, partition, lane in self._ready(executor, consumer):
                where = (consumer, incarnation, partition)
                group = self._groups.get(where)
                if group is None or group.pinned not in (None, lane):
                    group = self._leftovers.get(where)
                if group is not None:
                    group.activate([lane])
        for shared in tuple(self._shared.values()):
            shared.poll()
        for lanes in tuple(self._pushed.values()):
            lanes.poll()
        for group in self._all_groups():
            group.look_again()

    def _ready(self, executor: int, consumer: int) -> list[tuple[int, int, str]]:
        """The next page of lanes in which something became ready; after the last one, from the first on."""
        after = self._pages.pop(consumer, (0, ""))
        ready = self._core.storage.lanes.ready(executor, consumer, READY_AT_ONCE, after)
        if len(ready) == READY_AT_ONCE:
            incarnation, _, lane = ready[-1]
            self._pages[consumer] = (incarnation, lane)
        elif after != (0, ""):
            ready += self._core.storage.lanes.ready(executor, consumer, READY_AT_ONCE - len(ready))
        return ready

    def _begin_sweep(self, group: LaneGroup, own: str | None = None) -> None:
        low = str(group.place.partition)
        if own != low:
            group.activate([low])  # of events without a usable key
        self._sweeps[group] = ""

    def _sweep(self, now: float) -> bool:
        """Look through lanes a page at a time: those that a former holder left, and from time to time all."""
        if now >= self._sweeps_at:
            self._sweeps_at = now + RESWEEP_SECONDS
            for group in (*self._groups.values(), *self._leftovers.values()):
                if group.pinned is None:
                    self._sweeps.setdefault(group, "")
        did_any = more = False
        for lanes in tuple(self._pushed.values()):
            more |= lanes.sweep(now)
        for group, after in tuple(self._sweeps.items()):
            if group.backlog >= PAGE:
                continue
            low, high = _names(group.place)
            place = group.place
            found = self._core.storage.lanes.after(
                place.consumer, place.incarnation, after or low, high, PAGE
            )
            group.activate([name for name, may_go_on in found if may_go_on and not group.knows(name)])
            did_any = True
            if len(found) < PAGE:
                self._sweeps.pop(group, None)
            elif group in self._sweeps:
                self._sweeps[group] = found[-1][0]
        return more or (did_any and bool(self._sweeps))

    def _ask(self, group: LaneGroup) -> bool:
        """Settle some of the group's questions; False when it has none, or no place is free."""
        names = group.questions(LANES_AT_ONCE)
        if not names and group.backlog:
            self._short = True
            names = group.questions(LANES_AT_ONCE)
        if not names:
            return False
        executor = self._core.executor
        names = self._apart.without(group, names)
        if not names:
            return False
        try:
            with self._taken.takings.under_way():
                refused = self._apart.settle(group, names, partial(self._settle, group))
        except BaseException:
            self._doubts.append((executor, group, names))
            raise
        if refused:
            self._doubts.append((executor, group, refused))
        return True

    def _resolve_doubts(self) -> None:
        """Give back what a taking without an answer may have made ours.

        Also when the lanes are another process's by now: it waits for whatever a live process owns.
        """
        for _ in range(len(self._doubts)):
            executor, group, names = self._doubts[0]
            known = self._release_lost(group, names) if executor == self._core.executor else []
            group.activate(names)
            self._doubts.popleft()
            if known:
                self._doubts.append((executor, group, known))

    def _release_lost(self, group: LaneGroup, names: Sequence[str]) -> list[str]:
        """Give back what is ours and nowhere in memory; gives the lanes of which that cannot be told yet."""
        core, place = self._core, group.place
        owned = core.storage.lanes.owned(core.executor, place.consumer, place.incarnation, names)
        # Looked at after the question: what an intake had inserted before it, some group knows.
        same = [one for one in self._all_groups() if one.place[:2] == place[:2]]
        known = [name for name in names if any(one.knows(name) for one in (group, *same))]
        lost = [id_ for id_, lane in owned if lane not in known and id_ not in core.runner.active]
        if lost:
            core.storage.lanes.release_unstarted(core.executor, lost)
        return known

    def _settle(self, group: LaneGroup, names: Sequence[str], first_only: bool) -> None:
        core = self._core
        limits = core.registry.limits()
        depth = group.depth(len(names)) if group.pinned is None else PINNED_COUNT
        count = 1 if first_only else depth
        found = core.storage.lanes.take(core.executor, group.place, names, count, limits)
        if found is None:
            group.stale = True
            return
        runs = {
            run.id: run for run in self._taken.runs([row for taken in found.values() for row in taken.rows])
        }
        for name, taken in found.items():
            if taken.rows:
                self._start(group, name, taken, runs)
            elif taken.empty:
                group.settled(name)
            else:
                self._leave(group, name, taken)

    def _start(self, group: LaneGroup, name: str, taken: LaneTaken, runs: Mapping[str, Run]) -> None:
        """Run what was taken of a lane, up to the first that could not be read and was given back."""
        started = [runs[row.id] for row in takewhile(lambda row: row.id in runs, taken.rows)]
        behind = [row.id for row in taken.rows[len(started) :] if row.id in runs]
        if behind:
            self.release(self._core.executor, behind)
        if not started and self._taken.weights.are_too_heavy([taken.rows[0].id]):
            group.blocked(name, watched=True)
        elif not started:
            why = self._core.storage.apart.reasons.get(
                taken.rows[0].id, "its function is not registered here"
            )
            self._apart.put(group, name, StorageError(f"{taken.rows[0].id} is the first in it: {why}"))
        elif not group.take(name, started, more=taken.more or len(started) < len(taken.rows)):
            self.release(self._core.executor, [run.id for run in started])

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
            self._core.storage.lanes.release_unstarted(self._core.executor, [taken.head])
        # Whoever runs the head of a pushed lane asks for what follows it.
        group.blocked(name, watched=taken.owner is not None and not group.place.is_pushed)


def _where(place: LanePlace) -> tuple[int, int, int]:
    return place.consumer, place.incarnation, -1 if place.partition is None else place.partition


def _names(place: LanePlace) -> tuple[str, str]:
    """Names between which those of the partition's lanes lie: `3` and all that begins with `3/`."""
    return f"{place.partition}", f"{place.partition}0"
