"""A loop that tells runs of the tasks and timers that their code starts.

The task factory gives each task that workflow code starts a branch of its own, and makes the
run know it; tasks that a step starts are the step's own business. The timers that workflow code sets
are known too, since one of them may be a timeout around a wait, which a row would not know.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from types import CoroutineType
from typing import Any

from dbos_events.engine.contained import Contained
from dbos_events.engine.context import CURRENT, name_of_task
from dbos_events.engine.waking import ENGINE


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
