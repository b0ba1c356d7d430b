"""The asyncio tasks of a run: who belongs to it, and whether all of them wait.

The task factory gives each task that workflow code starts a branch of its own, and makes the
run know it; tasks that a step starts are the step's own business. The timers that workflow code sets
are known too, since one of them may be a timeout around a wait, which a row would not know.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from dbos_events.engine.contained import Contained
from dbos_events.engine.context import CURRENT, name_of_task
from dbos_events.engine.run import Unwind
from dbos_events.engine.waking import ENGINE
from dbos_events.storage.writes import Park

if TYPE_CHECKING:
    from dbos_events.engine.run import Run
    from dbos_events.engine.waking import LoopWaker


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


class TaskTree:
    """The tasks of one run on its loop."""

    __slots__ = ("_considering", "_made", "_numbers", "_run", "_timers", "begins", "main", "others", "waits")

    def __init__(self, run: Run, main: asyncio.Task[Any]) -> None:
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


def know_runs(loop: asyncio.AbstractEventLoop) -> None:
    """Make `loop` tell a run about the tasks and timers that its code starts.

    Its task factory is kept, and one that somebody sets later is, too: ours stands around it. Cheap where it is done.
    """
    factory = loop.get_task_factory()
    if getattr(factory, "knows_runs", False):
        return
    known: _Telling | None = getattr(loop.set_task_factory, "telling", None)
    telling = known or _Telling(loop)
    telling.set_task_factory(factory)


class _Telling:
    """What one loop does for the runs on it, beside what it does anyway.

    Its methods stand before the loop's own of the same names. A loop that lets nobody do that has no timers that are
    known, so no run there is parked.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._making: contextvars.Context | None = None
        self._set_task_factory = loop.set_task_factory  # a cycle, as a loop has others; nothing outside of it
        names = ["call_at"] if isinstance(loop, asyncio.BaseEventLoop) else ["call_at", "call_later"]
        with suppress(AttributeError, TypeError):
            loop.set_task_factory = _marked(self.set_task_factory, self)  # type: ignore[method-assign]
            for name in names:  # asyncio's own call_later calls call_at
                setattr(loop, name, _marked(self._noting(getattr(loop, name)), self))

    def set_task_factory(self, factory: Any) -> None:
        """Set a task factory, and have runs hear of the tasks that it makes."""
        known = getattr(factory, "knows_runs", False)
        self._set_task_factory(factory if known else self._around(factory))

    def _around(self, previous: Any) -> Callable[..., asyncio.Future[Any]]:
        def factory(
            loop: asyncio.AbstractEventLoop,
            coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
            *,
            context: contextvars.Context | None = None,
            **options: Any,
        ) -> asyncio.Future[Any]:
            scope = CURRENT.get() if context is None else context.get(CURRENT)
            if scope is None or (context is not None and context is self._making):
                return make(loop, coro, context=context, **options)
            name = name_of_task(coro)
            if isinstance(coro, CoroutineType):
                coro = Contained(coro, name)
            tree = scope.run.tasks if scope.step is None else None
            if tree is None:
                return make(loop, coro, context=context, **options)
            context = (context or contextvars.copy_context()).copy()
            context.run(CURRENT.set, scope.branch(name))
            outer, self._making = (
                self._making,
                context,
            )  # a factory around another of ours names the task once
            tree.begins += 1  # an eager task runs before it is known
            try:
                task = make(loop, coro, context=context, **options)
            finally:
                tree.begins -= 1
                self._making = outer
            tree.add(task)
            return task

        make = _make_task if previous is None else previous
        factory.knows_runs = True  # type: ignore[attr-defined]
        return factory

    def _noting(self, call: Callable[..., asyncio.TimerHandle]) -> Callable[..., asyncio.TimerHandle]:
        def timed(
            *args: Any, context: contextvars.Context | None = None, **named: Any
        ) -> asyncio.TimerHandle:
            scope = None if context is ENGINE else CURRENT.get()
            tree = scope.run.tasks if scope is not None and scope.step is None else None
            if tree is None:
                return call(*args, context=context, **named)
            inner = (named[name] for name in ("when", "delay", "callback") if name in named)
            moment, callback, *more = (*args, *inner)
            return tree.timers.note(functools.partial(call, moment, context=context), callback, more)

        return timed


def _marked(function: Callable[..., Any], telling: _Telling) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    call.telling = telling  # type: ignore[attr-defined]
    return call


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Future[Any]:
    return asyncio.Task(coro, loop=loop, **options)
