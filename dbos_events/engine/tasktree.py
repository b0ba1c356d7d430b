"""The asyncio tasks of a run, and whether all of them wait, so that the run can be parked."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dbos_events.engine.runvalues import Unwind
from dbos_events.storage.writes import Park

if TYPE_CHECKING:
    from dbos_events.engine.waking import LoopInbox, LoopWaker


CANCEL_AGAIN_SECONDS = 0.05

MANY_TIMERS = 64
"""Timers of a run after which those that were cancelled are looked for."""


class DurableWait:
    """One durable wait of a task; `park` where it may be given up for a row in the database."""

    __slots__ = ("park", "waker")

    def __init__(self, waker: LoopWaker, park: Park | None) -> None:
        self.waker = waker
        self.park = park


class Timers:
    """The timers that one run's code has set, in its workflow function or a task of it, and that have not gone off."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[object, asyncio.TimerHandle] = {}

    def note(
        self, call: Callable[..., asyncio.TimerHandle], callback: Callable[..., object], args: Sequence[Any]
    ) -> asyncio.TimerHandle:
        """Set a timer by `call`, and know it until it has gone off or was cancelled."""
        left = self._left
        mark = object()

        def goes_off(*args: Any) -> None:
            left.pop(mark, None)
            callback(*args)

        if len(left) > MANY_TIMERS:
            self._drop_cancelled()
        handle = left[mark] = call(goes_off, *args)
        return handle

    def __bool__(self) -> bool:
        self._drop_cancelled()
        return bool(self._left)

    def _drop_cancelled(self) -> None:
        for mark in [mark for mark, handle in self._left.items() if handle.cancelled()]:
            del self._left[mark]


class _Inboxes(Protocol):
    def inbox(self) -> LoopInbox: ...


class Tasked(Protocol):
    """A run, as far as its tasks move it."""

    open_calls: int
    park: Park | None
    unwinding: bool
    verdict: BaseException | None

    @property
    def core(self) -> _Inboxes: ...


class TaskTree:
    """The tasks of one run on its loop."""

    __slots__ = ("_considering", "_made", "_numbers", "_run", "_timers", "begins", "main", "others", "waits")

    def __init__(self, run: Tasked, main: asyncio.Task[Any]) -> None:
        self._run = run
        self._considering = False
        self._timers: Timers | None = None
        self._made = 0
        self._numbers: weakref.WeakKeyDictionary[asyncio.Future[Any], int] | None = None
        self.main = main
        self.begins = 0
        self.others: set[asyncio.Future[Any]] = set()
        self.waits: dict[asyncio.Future[Any], DurableWait] = {}

    @property
    def alone(self) -> bool:
        """Whether the workflow function itself is the only task."""
        return not self.others and not self.begins

    @property
    def timers(self) -> Timers:
        if self._timers is None:
            self._timers = Timers()
        return self._timers

    @property
    def is_left(self) -> bool:
        """Whether the workflow function's own task has ended, and may not even have begun."""
        return self.main.done()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked the workflow function's own task to end."""
        return self.main.cancelling() > 0

    def add(self, task: asyncio.Future[Any]) -> None:
        self.others.add(task)
        self._made += 1
        if self._numbers is None:
            self._numbers = weakref.WeakKeyDictionary()
        self._numbers[task] = self._made
        task.add_done_callback(self._forget)

    def in_order(self, tasks: Iterable[asyncio.Future[Any]]) -> list[asyncio.Future[Any]]:
        """Tasks in the order in which they were made, each once; a set of them has another order in each process."""
        numbers = self._numbers
        once, last = dict.fromkeys(tasks), self._made + 1
        return list(once) if numbers is None else sorted(once, key=lambda task: numbers.get(task, last))

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self.others.discard(task)
        if (self._run.unwinding or self._run.verdict is not None) and not task.cancelled():
            task.exception()  # the run knows why: asyncio need not say that nobody asked
        if self.waits:
            self.consider_parking()

    def consider_parking(self) -> None:
        """Look again, once the loop has run what is ready, whether the run can be parked."""
        if not self._considering:
            self._considering = True
            self._run.core.inbox().consider_parking(self._park_if_all_wait)

    def _park_if_all_wait(self) -> None:
        """Park, unless something else may go on: also a timeout, which a row would not know."""
        self._considering = False
        if self._timers or not hasattr(self.main.get_loop().call_at, "telling"):
            return
        run = self._run
        parks = [wait.park for wait in self.waits.values() if wait.park is not None]
        if run.unwinding or len(parks) < len(self.waits) or not self.all_wait():
            return
        run.park = earliest(parks)
        run.unwinding = True
        for wait in tuple(self.waits.values()):
            if not wait.waker.future.done():
                wait.waker.future.set_exception(Unwind())

    def is_resting(self) -> bool:
        """Whether only the passing of time can move the run on; asked on its loop."""
        waits = self.waits.values()
        kept = any(wait.park is None for wait in waits)
        return kept and self.all_wait() and not any(wait.waker.woken for wait in waits)

    def all_wait(self) -> bool:
        """Whether the run can only go on when a durable wait of it ends; asked on its loop."""
        if not self.waits or self._run.open_calls > len(self.waits):
            return False
        return all(self._waits(task) for task in (self.main, *self.others))

    def _waits(self, task: asyncio.Future[Any]) -> bool:
        """Whether `task` can only go on when a durable wait of this run ends.

        What a task waits for is told by `_fut_waiter`. Where that is neither a task of the run
        nor a gather of them, something else may wake it, and the run stays in memory.
        """
        if task.done() or task in self.waits:
            return True
        waited = getattr(task, "_fut_waiter", None)
        if waited is None or waited.done():  # it runs soon
            return False
        children = getattr(waited, "_children", None) or self._awaited_through(waited) or [waited]
        return all(child is self.main or child in self.others or child.done() for child in children)

    def _awaited_through(self, waited: asyncio.Future[Any]) -> Sequence[asyncio.Future[Any]]:
        """The tasks of the run that end `waited`, and nothing else does: in asyncio.wait, or at the end of a TaskGroup.

        Both tell it by a callback of each task, which knows for how many they wait.
        """
        if isinstance(waited, asyncio.Task):
            return ()
        for task in self.others:
            for entry in getattr(task, "_callbacks", None) or ():
                callback = entry[0]
                group = getattr(callback, "__self__", None)
                if isinstance(group, asyncio.TaskGroup):
                    if getattr(group, "_on_completed_fut", None) is waited:
                        return tuple(getattr(group, "_tasks", ()))
                elif (count := _counted_down(callback, waited)) is not None:
                    ours = [one for one in self.others if _has_callback(one, callback)]
                    return ours if len(ours) == count else ()
        return ()

    async def close(self, seconds: float) -> None:
        """Cancel what still runs and wait for it, at most `seconds`."""
        end = asyncio.get_running_loop().time() + seconds
        while left := [task for task in self.others if not task.done()]:
            # Again and again: a write that is under way is finished first, and its task goes on.
            for task in left:
                task.cancel()
            done, _ = await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)
            if not done and asyncio.get_running_loop().time() >= end:
                return


def _counted_down(callback: object, waited: asyncio.Future[Any]) -> int | None:
    """For how many futures asyncio.wait still waits, where `callback` is its own and ends `waited`."""
    closure = getattr(callback, "__closure__", None) or ()
    names = getattr(getattr(callback, "__code__", None), "co_freevars", ())
    cells = dict(zip(names, closure, strict=False))
    if "waiter" not in cells or "counter" not in cells or cells["waiter"].cell_contents is not waited:
        return None
    count = cells["counter"].cell_contents
    return count if isinstance(count, int) else None


def _has_callback(task: asyncio.Future[Any], callback: object) -> bool:
    return any(entry[0] is callback for entry in getattr(task, "_callbacks", None) or ())


def earliest(parks: list[Park]) -> Park:
    """One wait that ends when the first of `parks` does: at the earliest time, or when one of all keys is true."""
    times = [park.wake_at for park in parks if park.wake_at is not None]
    return Park(min(times, default=None), tuple(key for park in parks for key in park.keys))
