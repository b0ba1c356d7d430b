"""A durable sleep: the time of waking is recorded before the wait begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.engine.effects import TASK_CANCELLED, Flow, Recorded
from dbos_events.engine.operations.common import counted, deliver, operation, record_cancelled, unreadable
from dbos_events.engine.recall import Recall
from dbos_events.engine.runvalues import Place
from dbos_events.engine.waits import Wait
from dbos_events.model.times import LONGEST_WAIT
from dbos_events.storage.writes import Park

if TYPE_CHECKING:
    from dbos_events.engine.run import Run
    from dbos_events.storage.writes import Checkpoint

NAME = "DBOS.sleep"


def sleep(run: Run, place: Place, seconds: float) -> Flow[None]:
    """Return `seconds` after the first run called it, whatever crashed in between.

    A long sleep costs a row: the run leaves the process and comes back by replay.
    """
    cancelled = False

    def begin() -> Flow[int]:
        nonlocal cancelled
        now = run.core.clock.now_ms()
        wake_at = now + round(min(max(0.0, seconds), LONGEST_WAIT) * 1000)
        codec = run.core.codecs.default
        write = run.checkpoint(
            place, NAME, codec=codec.name, output=codec.encode(wake_at), started_at=now, completed_at=now
        )
        recorded = Recorded(run.core, write, run)
        yield recorded
        run.is_settled()
        cancelled = recorded.cancelled
        return wake_at

    wake_at = yield from operation(run, place, NAME, None, begin, _recorded)
    yield from counted(run, _until(run, Place(f"{place.call}!", -place.number), wake_at, cancelled))


def _recorded(run: Run, entry: Checkpoint) -> int:
    wake_at = deliver(run, entry)
    if not isinstance(wake_at, int):
        raise unreadable(run, entry, "it holds no time of waking.")
    return wake_at


def _until(run: Run, end: Place, wake_at: int, cancelled: bool) -> Flow[None]:
    """Wait for the time.

    Where other branches run beside it, the end of a sleep has its turn in the recorded order, as every
    result has; else a sleep that lost a race would win it in a late replay.
    """
    entry = run.history.by_call.get(end.call) if run.history is not None else None
    try:
        if run.history is not None:
            yield Recall(run, entry)
            if entry is not None:
                return
        if cancelled:  # while the beginning was being recorded
            raise TASK_CANCELLED  # noqa: TRY301 - recorded below, as a later one is
        yield Wait(run.core, run, until=wake_at, park=Park(wake_at))
    except TASK_CANCELLED as cancelling:
        record_cancelled(run, end, NAME, None, cancelling)
        raise
    if run.tasks is not None and not run.tasks.alone:
        run.hand_over(run.checkpoint(end, NAME))
