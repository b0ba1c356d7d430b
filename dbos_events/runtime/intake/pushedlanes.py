"""The lanes of a consumer whose events are pushed.

Any process may put an event into any of them: the first of a lane runs where it was accepted, what comes behind it waits
as a row. Whoever runs the head of a lane asks for what follows when it has ended. So the head's owner, whose lease others
watch, is the holder of the lane, and no process holds lanes in which it runs nothing.
"""

from __future__ import annotations

import threading
import time

from dbos_events.engine.core import Core
from dbos_events.runtime.intake.lanes import LaneGroup, LaneHost, LaneKeeper
from dbos_events.storage.subjects.lanes import LanePlace

READY_AT_ONCE = 1000
PAGE = 500
SWEEP_SECONDS = 2.0
"""Between two looks through all lanes for one whose process has ended between two of its events."""
SWEEP_SHARE = 20
"""The pause after a look is so many times as long as the look has taken, at least."""


class PushedLanes:
    """This process's part in the lanes of one consumer."""

    def __init__(self, core: Core, keeper: LaneKeeper, consumer: int, host: LaneHost) -> None:
        self._core = core
        self._keeper = keeper
        self._place = LanePlace(consumer, 0, None, 0)
        self._host = host
        self._session, self._executor = keeper.session, keeper.executor
        self._renewing = threading.Lock()
        self._after = ""
        self._swept: str | None = None
        self._sweep_at = 0.0
        self._taken_seconds = 0.0
        self.group = LaneGroup(keeper, self._place, host)

    def current(self) -> LaneGroup:
        """The lanes under the number that this process has now; what it had under another one is dropped."""
        with self._renewing:  # the lanes' thread asks, and the one that accepts
            return self._current()

    def _current(self) -> LaneGroup:
        if self._session != self._keeper.session:
            old, executor = self.group, self._executor
            self._session, self._executor = self._keeper.session, self._keeper.executor
            self.group = LaneGroup(self._keeper, self._place, self._host)
            unstarted = old.close()
            if unstarted:
                self._keeper.release(executor, [run.id for run in unstarted])
        return self.group

    def poll(self) -> None:
        """Look for lanes in which something became ready, a page at a time."""
        group = self.current()
        if group.backlog >= READY_AT_ONCE:
            return
        ready = self._core.storage.inbox.ready_lanes(self._place.consumer, self._after, READY_AT_ONCE)
        group.activate([name for name in ready if not group.knows(name)])
        self._after = ready[-1] if len(ready) == READY_AT_ONCE else ""

    def sweep(self, now: float) -> bool:
        """Look through the lanes that an event holds, a page at a time; True when there is another page."""
        if self._swept is None and now < self._sweep_at and not self._core.clock.manual:
            return False
        group = self.current()
        if group.backlog >= PAGE:
            return False
        began = time.monotonic()
        lanes = self._core.storage.inbox.idle_lanes_after(self._place.consumer, self._swept or "", PAGE)
        group.activate([name for name, may_go_on in lanes if may_go_on and not group.knows(name)])
        self._taken_seconds += time.monotonic() - began
        if len(lanes) == PAGE:
            self._swept = lanes[-1][0]
            return True
        pause = max(SWEEP_SECONDS, SWEEP_SHARE * self._taken_seconds)
        self._swept, self._sweep_at, self._taken_seconds = None, time.monotonic() + pause, 0.0
        return False
