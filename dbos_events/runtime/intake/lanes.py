"""Ordered lanes in memory: each event starts when the outcome of the one before it is durable.

The database decides which event is the head of a lane; memory only saves asking. A **lane** here
is one that has something to do: an event that runs, a few that follow it, or a question to the
database. A lane that nothing can run in (its head is put aside, or sleeps) is forgotten, however many
events it holds; it comes back when its head becomes ready.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from dbos_events.engine.run import Run
from dbos_events.storage.subjects.lanes import LanePlace

CACHE = 16
"""Events of one lane that wait in memory behind the one that runs."""

ASKED_AT_MOST = 1000
"""Lanes that wait for an answer of the database before more is taken in."""


class LaneHost(Protocol):
    """The consumer that lanes belong to."""

    @property
    def capacity(self) -> int:
        """How many events may be in this process at once."""
        ...

    @property
    def free(self) -> int:
        """How many more events may run in this process."""
        ...

    @property
    def cache_room(self) -> int:
        """How many more events may wait in memory, over all lanes."""
        ...

    def cache(self, count: int) -> None:
        """Note that `count` more events wait in memory, or fewer."""
        ...

    def occupy(self, count: int) -> None: ...

    def left(self, run: Run) -> None: ...


class LaneKeeper(Protocol):
    """The service that asks the database for lanes."""

    @property
    def session(self) -> int:
        """How often the process has registered."""
        ...

    @property
    def executor(self) -> int:
        """The executor that the process is now."""
        ...

    def run(self, runs: Sequence[Run]) -> None: ...

    def release(self, executor: int, workflow_ids: Sequence[str]) -> None:
        """Give back what `executor` took in and never started; returns at once."""
        ...

    def wake(self) -> None: ...


class Lane:
    """One lane that has something to do. All its fields are guarded by its group.

    `asks`: the database may hold events of the lane that come after those in memory. `reserved`: an intake
    is under way that has planned with the lane as it was; `broken`: it has stopped since.
    """

    __slots__ = ("asks", "broken", "group", "name", "queue", "reserved", "running")

    def __init__(self, group: LaneGroup, name: str) -> None:
        self.group = group
        self.name = name
        self.queue: deque[Run] = deque()
        self.running: Run | None = None
        self.asks = False
        self.reserved = False
        self.broken = False

    @property
    def idle(self) -> bool:
        return self.running is None and not self.queue and not self.asks and not self.reserved

    def left(self, run: Run) -> None:
        """Its event has left this process; called by the committer."""
        self.group.left(self, run)


class LaneGroup:
    """The lanes of one partition, or the one lane of a topic, while this process is the holder.

    With `pinned`, there is but one lane, of that name: it is never forgotten, and takes nothing
    more in while it cannot go on, so that the backlog stays with the broker.
    """

    def __init__(
        self, keeper: LaneKeeper, place: LanePlace, host: LaneHost, pinned: str | None = None
    ) -> None:
        self.place = place
        self.host = host
        self.pinned = pinned
        self.dropped: Callable[[Sequence[Run]], object] = (
            len  # told of runs that leave the memory without a start
        )
        self.stale = False
        self._keeper = keeper
        self._session = keeper.session
        self._executor = keeper.executor
        self._lock = threading.Lock()
        self._lanes: dict[str, Lane] = {}
        self._asking: OrderedDict[str, None] = OrderedDict()
        self._waiting: set[str] = set()
        self._closed = False
        if pinned is not None:
            self.activate([pinned])

    # -- intake -------------------------------------------------------------------------------

    @property
    def flowing(self) -> bool:
        """Whether more may be taken in: all that a pinned lane has is in memory, other lanes do not wait in crowds."""
        if self.pinned is None:
            return self.backlog < ASKED_AT_MOST
        lane = self._lanes.get(self.pinned)
        return lane is None or not lane.asks

    @property
    def backlog(self) -> int:
        """Lanes that wait to be asked for."""
        return len(self._asking)

    @property
    def rests(self) -> bool:
        """Whether no lane has anything to do."""
        return not self._lanes

    @property
    def size(self) -> int:
        """Events in memory."""
        with self._lock:
            return sum(len(lane.queue) + (lane.running is not None) for lane in self._lanes.values())

    @property
    def waiting(self) -> list[Run]:
        """Events that wait in memory, and have not begun."""
        with self._lock:
            return [run for lane in self._lanes.values() for run in lane.queue]

    def plan(self, counts: Mapping[str, int]) -> tuple[dict[str, int], set[str]]:
        """What an intake of so many events for each lane should do.

        Gives how many of each lane's events to keep, the first ones, and which lanes the database has to
        be asked about. `admit` must follow, whatever becomes of the intake.
        """
        kept: dict[str, int] = {}
        unknown: set[str] = set()
        with self._lock:
            room = self.host.cache_room
            for name, count in counts.items():
                lane = self._lanes.get(name)
                if lane is None:
                    lane = self._lanes[name] = Lane(self, name)
                    unknown.add(name)
                lane.reserved = True
                kept[name] = self._fitting(lane, count, room)
                room -= kept[name]
        return kept, unknown

    def _fitting(self, lane: Lane, count: int, room: int) -> int:
        """How many of `count` events may wait in memory behind those that do; one that can start at once always may."""
        if lane.asks:
            return 0
        if self.pinned is not None:
            return count
        starts = lane.running is None and not lane.queue
        return min(count, starts + max(0, min(CACHE - len(lane.queue), room)))

    def admit(self, names: Iterable[str], kept: Mapping[str, list[Run]], spilled: Collection[str]) -> None:
        """Run what an intake has kept, in order; `spilled` are the lanes of which the database has more."""
        starting: list[Run] = []
        unwanted: list[Run] = []
        with self._lock:
            for name in spilled:
                self._ask(self._lanes[name])
            for name in names:
                lane = self._lanes[name]
                lane.reserved = False
                broken, lane.broken = lane.broken or self._closed, False
                runs = kept.get(name, [])
                for run in runs:
                    run.host = lane
                if broken or (lane.asks and name not in spilled):
                    unwanted += runs
                    if runs:
                        self._ask(lane)
                else:
                    lane.queue.extend(runs)
                    self.host.cache(len(runs))
                starting += self._next(lane)
                self._forget_idle(lane)
            self._give_back(unwanted)
        self._keeper.run(starting)

    # -- the end of an event ------------------------------------------------------------------

    def left(self, lane: Lane, run: Run) -> None:
        """An event has left; the next one starts if it has freed the lane."""
        with self._lock:
            mine = lane.running is run
            if mine:
                lane.running = None
                if not frees(run):
                    lane.broken = lane.reserved
                    self._give_back(self._drop(lane))
                    self._ask(lane)
            starting = self._next(lane) if mine else []
            if not starting and lane.asks and lane.running is None:
                self._ask(lane)
            self._forget_idle(lane)
        self.host.left(run)
        self._keeper.run(starting)

    # -- questions to the database ------------------------------------------------------------

    def activate(self, names: Iterable[str]) -> None:
        """Ask the database what is first in these lanes."""
        with self._lock:
            for name in names:
                self._ask(self._lanes.setdefault(name, Lane(self, name)))

    def look_again(self) -> None:
        """Ask once more for what could not go on."""
        with self._lock:
            again, self._waiting = self._waiting, set()
            self._asking.update(dict.fromkeys(again & self._lanes.keys()))

    def questions(self, count: int) -> list[str]:
        """Lanes that the database is to be asked for now, at most `count`, those first that have waited longest.

        There are no more than may begin to run.
        """
        names: list[str] = []
        with self._lock:
            if self._closed or self._keeper.session != self._session:
                return names
            most = count if self.pinned is not None else min(count, self.host.free)
            while self._asking and len(names) < most:
                name, _ = self._asking.popitem(last=False)
                lane = self._lanes.get(name)
                if lane is not None and lane.running is None and not lane.queue:
                    names.append(name)
        return names

    def depth(self, lanes: int) -> int:
        """How many events to take of each of so many lanes: one to run, and those that may wait behind it."""
        return max(1, min(CACHE, 1 + self.host.cache_room // lanes))

    def take(self, name: str, runs: Sequence[Run], *, more: bool) -> bool:
        """Run what was taken for this lane; False when it is closed meanwhile, and they are to be given back."""
        with self._lock:
            lane = self._lanes.get(name)
            if self._closed or lane is None or lane.running is not None or lane.queue:
                return False
            for run in runs:
                run.host = lane
            lane.queue.extend(runs)
            self.host.cache(len(runs))
            lane.asks = more or name in self._asking
            starting = self._next(lane)
        self._keeper.run(starting)
        return True

    def settled(self, name: str) -> None:
        """Nothing holds the lane: what comes next may start at once."""
        with self._lock:
            lane = self._lanes.get(name)
            if lane is not None and name not in self._asking:
                lane.asks = False
                self._forget_idle(lane)

    def blocked(self, name: str, *, watched: bool) -> None:
        """Nobody can go on with the lane now. It is looked at again when it is `watched`, else when it is activated."""
        with self._lock:
            lane = self._lanes.get(name)
            if lane is None or name in self._asking:
                return
            if watched or lane.reserved or self.pinned is not None:
                self._waiting.add(name)
            else:
                del self._lanes[name]

    def knows(self, name: str) -> bool:
        """Whether an intake under way, or an event in memory, explains that this process owns the lane's head."""
        with self._lock:
            lane = self._lanes.get(name)
            return lane is not None and (lane.reserved or lane.running is not None or bool(lane.queue))

    # -- giving up ----------------------------------------------------------------------------

    def close(self) -> list[Run]:
        """Start nothing more; gives what was never started."""
        with self._lock:
            self._closed = True
            unstarted = [run for lane in self._lanes.values() for run in self._drop(lane)]
            self.dropped(unstarted)
            self._asking.clear()
            self._waiting.clear()
        return unstarted

    def _give_back(self, runs: Sequence[Run]) -> None:
        """Before anybody can ask for the lane again: what is given back must not be running anew."""
        if runs:
            self.dropped(runs)
            self._keeper.release(self._executor, [run.id for run in runs])

    # -- under the lock -----------------------------------------------------------------------

    def _next(self, lane: Lane) -> list[Run]:
        if (
            self._closed
            or self._keeper.session != self._session
            or lane.running is not None
            or not lane.queue
        ):
            return []
        lane.running = lane.queue.popleft()
        self.host.cache(-1)
        self.host.occupy(1)
        return [lane.running]

    def _drop(self, lane: Lane) -> list[Run]:
        dropped = list(lane.queue)
        lane.queue.clear()
        self.host.cache(-len(dropped))
        return dropped

    def _ask(self, lane: Lane) -> None:
        lane.asks = True
        if lane.running is None and not lane.queue:
            self._waiting.discard(lane.name)
            self._asking[lane.name] = None
            self._keeper.wake()

    def _forget_idle(self, lane: Lane) -> None:
        if lane.idle and self.pinned is None:
            self._lanes.pop(lane.name, None)


def frees(run: Run) -> bool:
    """Whether the end of `run` lets the next event of its lane start."""
    ending = run.ending
    if ending is None or ending.kind != "ended":
        return False
    return ending.error is None or run.origin is None or not run.origin.quarantines
