"""The asyncio tasks of a run: who belongs to it, and whether all of them wait.

The task factory gives each task that workflow code starts a branch of its own, and makes the
run know it; tasks that a step starts are the step's own business.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from dbos_events.engine.context import CURRENT
from dbos_events.engine.run import Unwind
from dbos_events.storage.writes import Park

if TYPE_CHECKING:
    from dbos_events.engine.run import Run
    from dbos_events.engine.waking import LoopWaker


CANCEL_AGAIN_SECONDS = 0.05


class DurableWait:
    """One durable wait of a task; `park` where it may be given up for a row in the database."""

    __slots__ = ("park", "waker")

    def __init__(self, waker: LoopWaker, park: Park | None) -> None:
        self.waker = waker
        self.park = park


class TaskTree:
    """The tasks of one run on its loop."""

    __slots__ = ("_considering", "_run", "main", "others", "waits")

    def __init__(self, run: Run, main: asyncio.Task[Any]) -> None:
        self._run = run
        self._considering = False
        self.main = main
        self.others: set[asyncio.Task[Any]] = set()
        self.waits: dict[asyncio.Task[Any], DurableWait] = {}

    @property
    def alone(self) -> bool:
        """Whether the workflow function itself is the only task."""
        return not self.others

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked the workflow function's own task to end."""
        return self.main.cancelling() > 0

    def add(self, task: asyncio.Task[Any]) -> None:
        self.others.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.others.discard(task)
        if self.waits:
            self.consider_parking()

    def consider_parking(self) -> None:
        """Look again, once the loop has run what is ready, whether the run can be parked."""
        if not self._considering:
            self._considering = True
            self._run.core.inbox().consider_parking(self._park_if_all_wait)

    def _park_if_all_wait(self, timed: frozenset[asyncio.Task[Any]]) -> None:
        """Park, unless something else may go on: also a timeout, which a row would not know."""
        self._considering = False
        if self.main in timed or not timed.isdisjoint(self.others):
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

    def _waits(self, task: asyncio.Task[Any]) -> bool:
        """Whether `task` can only go on when a durable wait of this run ends.

        What a task waits for is told by `_fut_waiter`. Where that is neither a task of the run
        nor a gather of them, something else may wake it, and the run stays in memory.
        """
        if task.done() or task in self.waits:
            return True
        waited = getattr(task, "_fut_waiter", None)
        if waited is None or waited.done():  # it runs soon
            return False
        children = getattr(waited, "_children", None) or [waited]
        return all(child is self.main or child in self.others or child.done() for child in children)

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


def earliest(parks: list[Park]) -> Park:
    """One wait that ends no later than any of `parks`."""
    times = [park.wake_at for park in parks if park.wake_at is not None]
    awaited = [park.awaited_id for park in parks if park.awaited_id is not None]
    return Park(min(times, default=None), awaited[0] if awaited else None, polls=len(awaited) > 1)


def install_task_factory(loop: asyncio.AbstractEventLoop) -> None:
    """Make `loop` tell a run about the tasks that its code starts; an existing factory is kept."""
    previous = loop.get_task_factory()
    if getattr(previous, "knows_runs", False):
        return

    def factory(
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Future[Any]:
        scope = CURRENT.get() if context is None else context.get(CURRENT)
        tree = scope.run.tasks if scope is not None and scope.step is None else None
        if scope is not None and tree is not None:
            context = (context or contextvars.copy_context()).copy()
            context.run(CURRENT.set, scope.branch(getattr(coro, "__qualname__", type(coro).__qualname__)))
        if previous is None:
            task: asyncio.Future[Any] = asyncio.Task(coro, loop=loop, context=context, **options)
        else:
            task = previous(loop, coro, context=context, **options)  # type: ignore[call-arg]
        if tree is not None and isinstance(task, asyncio.Task):
            tree.add(task)
        return task

    factory.knows_runs = True  # type: ignore[attr-defined]
    loop.set_task_factory(factory)
