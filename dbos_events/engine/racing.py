"""Wait until some of several tasks have ended; which ones is recorded.

Tasks belong to asyncio, so this part is written for loops only. What it records goes through flows, as everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.engine.drivers import drive_async
from dbos_events.engine.operations.common import deliver, operation, record_cancelled, unreadable

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place
    from dbos_events.storage.writes import Checkpoint

NAME = "DBOS.asyncio_wait"


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
            record_cancelled(run, place, NAME, None, cancelled)
            raise

    def fresh() -> Flow[list[int]]:
        yield from ()
        ended = [number for number, task in enumerate(tasks) if task.done()]
        codec, now = run.core.codecs.default, run.core.clock.now_ms()
        write = run.checkpoint(
            place, NAME, codec=codec.name, output=codec.encode(ended), started_at=now, completed_at=now
        )
        run.hand_over(write)
        return ended

    def again(run: Run, entry: Checkpoint) -> list[int]:
        ended = deliver(run, entry)
        if not isinstance(ended, list) or any(not isinstance(one, int) for one in ended):
            raise unreadable(run, entry, "it does not hold which tasks have ended.")
        return ended

    ended: list[int] = await drive_async(operation(run, place, NAME, None, fresh, again))
    if any(number >= len(tasks) for number in ended):
        assert known is not None  # noqa: S101
        raise unreadable(run, known, f"it is about more tasks than the {len(tasks)} that there are now.")
    late = [tasks[number] for number in ended if not tasks[number].done()]
    if late:  # what they do beside durable operations takes its time in a replay, too
        await _SomeOf(late, lambda: all(task.done() for task in late)).wait(run)
    return ended
