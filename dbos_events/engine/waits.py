"""Waits: for time, for what other workflows do, for this process's own lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import Query
from dbos_events.engine.pool import STARVED
from dbos_events.engine.runvalues import Unwind
from dbos_events.engine.shield import shield_over
from dbos_events.engine.tasktree import DurableWait
from dbos_events.engine.waking import LoopWaker, ThreadWaker, Waker

if TYPE_CHECKING:
    from dbos_events.engine.run import Engine, Run
    from dbos_events.storage.writes import Park

LEASE = "lease"
"""Hub channel: this process has renewed its lease."""


@contextmanager
def subscribed(core: Engine, waker: Waker, channels: Sequence[str]) -> Iterator[None]:
    """Have `waker` woken by signals on `channels` within the block."""
    for channel in channels:
        core.hub.subscribe(channel, waker)
    try:
        yield
    finally:
        for channel in channels:
            core.hub.unsubscribe(channel, waker)


class Leased:
    """Wait until this process has renewed its lease, or its run is stopped because it could not in time."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def block(self) -> None:
        while not self._may_go_on():
            waker = ThreadWaker()
            with subscribed(self.run.core, waker, self._channels):
                if not self._may_go_on():
                    waker.wait(1.0)

    async def suspend(self) -> None:
        while not self._may_go_on():
            waker = LoopWaker(self.run.core.inbox())
            with subscribed(self.run.core, waker, self._channels):
                if not self._may_go_on():
                    await waker.wait(1.0)

    def _may_go_on(self) -> bool:
        self.run.enter()
        self.run.core.refuse_when_stopped()
        return self.run.core.holds_lease

    @property
    def _channels(self) -> tuple[str, ...]:
        return LEASE, f"run:{self.run.id}"


class _Rest:
    """What all waits share: they are woken by signals, by a timer, or by a test that moves the time."""

    def __init__(self, core: Engine, run: Run | None, *channels: str) -> None:
        self.core = core
        self.run = run
        self._channels = [name for name in (*channels, f"run:{run.id}" if run else "") if name]

    @contextmanager
    def _subscribed(self, waker: ThreadWaker | LoopWaker, until: int | None, *more: str) -> Iterator[None]:
        with subscribed(self.core, waker, (*self._channels, *more)):
            forget = self.core.clock.alarm(until, waker.wake) if until is not None else None
            try:
                yield
            finally:
                if forget is not None:
                    forget()

    def _rest(self, waker: ThreadWaker, seconds: float | None) -> bool:
        self.core.committer.before_blocking()
        if self.run is None:
            return waker.wait(seconds)
        self.run.resting = waker
        try:
            return waker.wait(seconds)
        finally:
            self.run.resting = None

    @contextmanager
    def _in_tree(self, waker: LoopWaker, park: Park | None) -> Iterator[None]:
        """Let the run know that this task waits, and whether a row may do that in its stead."""
        tree = self.run.tasks if self.run is not None else None
        task = asyncio.current_task()
        if tree is None or task is None:
            yield
            return
        tree.waits[task] = DurableWait(waker, park)
        if park is not None:
            tree.consider_parking()
        try:
            yield
        finally:
            tree.waits.pop(task, None)


class Pause(_Rest):
    """Let time pass that nobody records (between two attempts of a step); ends early when the run is stopped."""

    def __init__(self, core: Engine, run: Run, seconds: float) -> None:
        super().__init__(core, run)
        # Nobody else knows of this time, so a clock that is set does not move it; a test's clock needs a date.
        self._end = core.clock.monotonic() + seconds
        self._until = core.clock.now_ms() + round(seconds * 1000)

    def block(self) -> None:
        while (seconds := self._left()) > 0:
            waker = ThreadWaker()
            with self._subscribed(waker, self._until):
                if self._left() > 0:
                    self._rest(waker, None if self.core.clock.manual else seconds)

    async def suspend(self) -> None:
        while (seconds := self._left()) > 0:
            waker = LoopWaker(self.core.inbox())
            with self._subscribed(waker, self._until), self._in_tree(waker, None):
                if self._left() > 0:
                    await waker.wait(None if self.core.clock.manual else seconds)

    def _left(self) -> float:
        assert self.run is not None  # noqa: S101
        self.run.enter()
        self.core.refuse_when_stopped()
        if self.core.clock.manual:
            return (self._until - self.core.clock.now_ms()) / 1000
        return self._end - self.core.clock.monotonic()


class Wait(_Rest):
    """Wait until something is found or a time has come; gives what was found, or None.

    `peek` looks in memory, `look` in the database; both are asked after subscribing to `channel`,
    so that no wake-up is lost. `is_here` says that memory is enough: what is waited for runs in
    this process, so the database is asked only now and then. A wait that may be long lets the run
    be parked as `park`: one that ends at its time alone is known to be long before it begins, of all others it is found out
    (those whose time is the latest end are marked by `ends_sooner`). One without `park`, as in a step, stays where it is.
    `also` are more channels. `looks_at_end` is false where what was not heard of is not asked for when the time is over.
    """

    def __init__(  # noqa: PLR0913 - the ways to wait
        self,
        core: Engine,
        run: Run | None,
        *,
        park: Park | None,
        until: int | None = None,
        channel: str = "",
        also: Sequence[str] = (),
        peek: Callable[[], Any] = lambda: None,
        look: Callable[[], Any] | None = None,
        is_here: Callable[[], bool] = lambda: False,
        poll: float = 1.0,
        ends_sooner: bool = False,
        looks_at_end: bool = True,
    ) -> None:
        super().__init__(core, run, channel, *also)
        self.park = park
        self.until = until
        self.peek = peek
        self.look = look
        self.is_here = is_here
        self.poll = poll
        self.ends_sooner = ends_sooner
        self.looks_at_end = looks_at_end
        self._timed_out = False
        self._shield = shield_over(run) if run is not None and run.shields else None
        self._patient_until = core.clock.now_ms() + round(core.park_after * 1000)
        self._since = core.clock.monotonic()

    def block(self) -> Any:
        while True:
            waker = ThreadWaker()
            with self._subscribed(waker, self._alarm_at(), *([] if self.run is None else [STARVED])):
                found = self._found()
                if found is None and (look := self._look()) is not None:
                    found = self.core.ask(look)
                if found is not None or self._is_over():
                    return found
                if self.run is not None and self._may_park(starved=self.core.pool.starved):
                    self.run.park = self.park
                    self.run.unwinding = True
                    raise Unwind
                if not self._moved_time():
                    self._timed_out = not self._rest(waker, self._seconds())

    async def suspend(self) -> Any:
        while True:
            waker = LoopWaker(self.core.inbox())
            with self._subscribed(waker, self._alarm_at()):
                found = self._found()
                if found is None and (look := self._look()) is not None:
                    found = await Query(self.core, look).suspend()
                if found is not None or self._is_over():
                    return found
                if self._is_driven() and await asyncio.to_thread(self._moved_time):
                    continue
                park = self.park if self._may_park(starved=False) else None
                with self._in_tree(waker, park):
                    self._timed_out = not await waker.wait(self._seconds())

    def _look(self) -> Callable[[], Any] | None:
        timed_out = self._timed_out and self.looks_at_end
        return self.look if timed_out or self._is_driven() or not self.is_here() else None

    def _found(self) -> Any:
        if self.run is not None:
            self.run.enter()
        self.core.refuse_when_stopped()
        return self.peek()

    def _is_over(self) -> bool:
        return self.until is not None and self.core.clock.now_ms() >= self.until

    def _is_driven(self) -> bool:
        """Whether a test waits here, and nobody but itself moves things on."""
        return self.run is None and self.core.stepper is not None

    def _moved_time(self) -> bool:
        if self.run is not None or self.core.stepper is None:
            return False
        self.core.stepper(self._channels)
        return True

    def _may_park(self, *, starved: bool) -> bool:
        if self.park is None or (self._shield is not None and self._shield.left_ms > 0):
            return False  # a row that was cancelled would not wake up again
        patience = self.core.park_after
        if self.until is not None and not self.ends_sooner:
            return starved or self.until - self.core.clock.now_ms() > patience * 1000
        return starved or self.core.clock.monotonic() - self._since >= patience

    def _alarm_at(self) -> int | None:
        """When a test's clock should wake this."""
        at = self.until
        if self.run is not None and self.park is not None and (self.until is None or self.ends_sooner):
            at = self._patient_until if at is None else min(self._patient_until, at)
        if self._shield is None or self._shield.left_ms <= 0:
            return at
        return self._shield.until if at is None else min(at, self._shield.until)

    def _seconds(self) -> float | None:
        """How long to wait before looking again; None: until woken."""
        if self.core.clock.manual:
            return None
        bounds: list[float] = []
        if self.until is not None:
            bounds.append((self.until - self.core.clock.now_ms()) / 1000)
        if self.look is not None:
            bounds.append(self.poll)
        if self.run is not None and self.park is not None and (self.until is None or self.ends_sooner):
            patience = self.core.park_after - (self.core.clock.monotonic() - self._since)
            bounds.append(max(0.001, patience))
        if self._shield is not None and (left := self._shield.left_ms) > 0:
            bounds.append(left / 1000 + 0.001)
        return min(bounds, default=None)
