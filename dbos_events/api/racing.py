"""Races: wait for some of several tasks, or of several workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.session import refuse_on_loop
from dbos_events.api.shielding import Shielding
from dbos_events.engine.context import workflow_scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.first import first_of, recorded_first_of
from dbos_events.engine.operations.sleep import sleep as sleep_flow
from dbos_events.engine.racing import wait_for_some
from dbos_events.errors import DBOSException

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place

Handle = TypeVar("Handle", WorkflowHandle[Any], WorkflowHandleAsync[Any])
Task = asyncio.Future[Any]
WAYS = (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED)


class Racing(Shielding):
    """The verbs that wait for one of several."""

    def asyncio_wait(
        self,
        fs: Iterable[Awaitable[Any]],
        *,
        timeout: float | None = None,
        return_when: str = asyncio.ALL_COMPLETED,
    ) -> Coroutine[Any, Any, tuple[set[Task], set[Task]]]:
        """As `asyncio.wait`, within an async workflow; which tasks have ended is recorded, so a replay goes the same way.

        Gives `(done, pending)`; nothing is cancelled. Coroutines are made tasks. The timeout, in seconds, is durable: a
        crash does not prolong it, and a long one costs a row. Outside of workflows, and in a step, it is `asyncio.wait`.

        Raises:
            ValueError: There is nothing to wait for, or `return_when` is none of asyncio's three.
            TypeError: It was given a set of coroutines.
        """
        if isinstance(fs, (set, frozenset)) and any(asyncio.iscoroutine(one) for one in fs):
            raise TypeError(
                "DBOS.asyncio_wait was given a set of coroutines, which has another order each time that the program "
                "runs. Give it a list, or tasks."
            )
        tasks: list[Task] = [asyncio.ensure_future(one) for one in fs]
        if not tasks:
            raise ValueError("DBOS.asyncio_wait needs at least one task to wait for.")
        if return_when not in WAYS:
            raise ValueError(f"DBOS.asyncio_wait: return_when must be one of {WAYS}, not {return_when!r}.")
        scope = workflow_scope()
        if scope is None:
            return asyncio.wait(tasks, timeout=timeout, return_when=return_when)
        run = scope.run
        if run.tasks is not None:
            tasks = run.tasks.in_order(tasks)
        place = run.locate(scope)
        timed = None if timeout is None else (run.locate(scope), timeout)
        return _waited(run, place, tasks, timed, return_when)

    def wait_first(self, handles: Sequence[Handle], *, polling_interval_sec: float = 1.0) -> Handle:
        """Wait until one of these workflows has ended, in whichever way; gives its handle, the earliest one of several.

        Within a workflow it is recorded, and a long wait costs a row.

        Raises:
            ValueError: There is no handle.
        """
        refuse_on_loop("wait_first")
        return _of(handles, drive(self._first(handles, polling_interval_sec)))

    def wait_first_async(
        self, handles: Sequence[Handle], *, polling_interval_sec: float = 1.0
    ) -> Coroutine[Any, Any, Handle]:
        """As `wait_first`, without blocking the loop."""
        return _of_async(handles, self._first(handles, polling_interval_sec))

    def _first(self, handles: Sequence[Handle], poll: float) -> Flow[str]:
        if not handles:
            raise ValueError("DBOS.wait_first needs at least one handle.")
        for handle in handles:
            if not isinstance(handle, (WorkflowHandle, WorkflowHandleAsync)):
                raise DBOSException(f"DBOS.wait_first takes handles of workflows, not {handle!r}.")
        ids = [handle.workflow_id for handle in handles]
        runs = [handle.run for handle in handles]
        scope = workflow_scope()
        if scope is None:
            return first_of(self.core, ids, runs, poll)
        return recorded_first_of(self.core, scope.run, scope.run.locate(scope), ids, runs, poll)


async def _waited(
    run: Run, place: Place, tasks: list[Task], timed: tuple[Place, float] | None, return_when: str
) -> tuple[set[Task], set[Task]]:
    timer = None
    if timed is not None:
        timer = asyncio.ensure_future(drive_async(sleep_flow(run, *timed)))
    try:
        ended = await wait_for_some(run, place, tasks, timer, return_when)
    finally:
        if timer is not None:
            timer.cancel()
    if timer is not None:
        await asyncio.wait([timer])
        if not timer.cancelled() and (error := timer.exception()) is not None:
            raise error  # the run was stopped
    done = {tasks[number] for number in ended}
    return done, {task for task in tasks if task not in done}


def _of(handles: Sequence[Handle], workflow_id: str) -> Handle:
    return next(handle for handle in handles if handle.workflow_id == workflow_id)


async def _of_async(handles: Sequence[Handle], flow: Flow[str]) -> Handle:
    return _of(handles, await drive_async(flow))
