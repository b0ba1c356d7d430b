"""Wait until some of several tasks, or of several workflows, have ended; which ones is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.engine.drivers import drive_async
from dbos_events.engine.effects import Flow
from dbos_events.engine.operations.common import deliver, operation, record_cancelled, unreadable
from dbos_events.engine.waits import Wait
from dbos_events.model.workflow import FINISHED, WorkflowFilter
from dbos_events.storage.writes import Park

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.run import Place, Run
    from dbos_events.storage.writes import Checkpoint

WAIT = "DBOS.asyncio_wait"
FIRST = "DBOS.waitFirst"


class _SomeOf(asyncio.Future[None]):
    """Ends when enough of its tasks have. As with a gather, a run in which all else waits can be parked meanwhile."""

    def __init__(self, tasks: Sequence[asyncio.Future[Any]], is_enough: Callable[[], bool]) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._children = tasks
        self._is_enough = is_enough
        for task in tasks:
            task.add_done_callback(self._look)

    def _look(self, _task: asyncio.Future[Any]) -> None:
        if not self.done() and self._is_enough():
            self.set_result(None)

    async def wait(self, run: Run) -> None:
        try:
            if not self._is_enough():
                if run.tasks is not None and run.tasks.waits:
                    run.tasks.consider_parking()
                await self
        finally:
            for task in self._children:
                task.remove_done_callback(self._look)


def _are_enough(tasks: Sequence[asyncio.Future[Any]], return_when: str) -> bool:
    if return_when == asyncio.FIRST_COMPLETED:
        return any(task.done() for task in tasks)
    failed = return_when == asyncio.FIRST_EXCEPTION and any(
        task.done() and not task.cancelled() and task.exception() is not None for task in tasks
    )
    return failed or all(task.done() for task in tasks)


async def wait_for_some(
    run: Run,
    place: Place,
    tasks: Sequence[asyncio.Future[Any]],
    timer: asyncio.Future[Any] | None,
    return_when: str,
) -> list[int]:
    """The indices of those that have ended when enough of them have, or the timer has; a replay gets the same.

    Only what a replay needs is recorded: the decision, not what the tasks gave.
    """
    known = run.history.by_call.get(place.call) if run.history is not None else None
    if known is None:
        everything = [*tasks, timer] if timer is not None else tasks
        try:
            await _SomeOf(
                everything,
                lambda: _are_enough(tasks, return_when) or (timer is not None and timer.done()),
            ).wait(run)
        except asyncio.CancelledError as cancelled:
            record_cancelled(run, place, WAIT, None, cancelled)
            raise

    def fresh() -> Flow[list[int]]:
        yield from ()
        ended = [number for number, task in enumerate(tasks) if task.done()]
        codec, now = run.core.codecs.default, run.core.clock.now_ms()
        write = run.checkpoint(
            place, WAIT, codec=codec.name, output=codec.encode(ended), started_at=now, completed_at=now
        )
        run.hand_over(write)
        return ended

    def again(run: Run, entry: Checkpoint) -> list[int]:
        ended = deliver(run, entry)
        if not isinstance(ended, list) or any(not isinstance(one, int) for one in ended):
            raise unreadable(run, entry, "it does not hold which tasks have ended.")
        return ended

    ended: list[int] = await drive_async(operation(run, place, WAIT, None, fresh, again))
    if any(number >= len(tasks) for number in ended):
        assert known is not None  # noqa: S101
        raise unreadable(run, known, f"it is about more tasks than the {len(tasks)} that there are now.")
    late = [tasks[number] for number in ended if not tasks[number].done()]
    if late:  # what they do beside durable operations takes its time in a replay, too
        await _SomeOf(late, lambda: all(task.done() for task in late)).wait(run)
    return ended


class _FirstOf(Wait):
    """Wait until one of several workflows has ended, wherever they run; gives its id."""

    def __init__(
        self,
        core: Core,
        run: Run | None,
        workflow_ids: Sequence[str],
        runs: Sequence[Run | None],
        poll: float,
    ) -> None:
        here = {id_: one for id_, one in zip(workflow_ids, runs, strict=True) if one is not None}

        def peek() -> str | None:
            ended = (
                id_ for id_, one in here.items() if one.ending is not None and one.ending.kind == "ended"
            )
            return next(ended, None)

        def look() -> str | None:
            criteria = WorkflowFilter(
                workflow_ids=tuple(workflow_ids),
                statuses=tuple(sorted(FINISHED)),
                with_input=False,
                with_output=False,
            )
            rows = core.storage.list_workflows(criteria)
            first = min(rows, key=lambda row: (row["completed_at"] or 0, row["id"]), default=None)
            return None if first is None else str(first["id"])

        super().__init__(
            core,
            run,
            peek=peek,
            look=look,
            poll=poll,
            park=Park(None, awaited_id=workflow_ids[0], polls=len(workflow_ids) > 1),
        )
        self._channels += [f"workflow:{id_}" for id_ in workflow_ids]


def first_of(core: Core, workflow_ids: Sequence[str], runs: Sequence[Run | None], poll: float) -> Flow[str]:
    """The id of the workflow that has ended first, for a caller outside of workflows."""
    found: str = yield _FirstOf(core, None, workflow_ids, runs, poll)
    return found


def recorded_first_of(
    core: Core, run: Run, place: Place, workflow_ids: Sequence[str], runs: Sequence[Run | None], poll: float
) -> Flow[str]:
    """As `first_of`, from within a workflow: recorded, so a replay gets the same one."""

    def fresh() -> Flow[str]:
        started_at = core.clock.now_ms()
        found: str = yield _FirstOf(core, run, workflow_ids, runs, poll)
        codec = core.codecs.default
        write = run.checkpoint(
            place,
            FIRST,
            codec=codec.name,
            output=codec.encode(found),
            child_id=found,
            started_at=started_at,
            completed_at=core.clock.now_ms(),
        )
        run.hand_over(write)
        return found

    return operation(run, place, FIRST, None, fresh)
