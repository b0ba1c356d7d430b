"""The end of a wait: recorded before the wait begins, so that no crash prolongs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.engine.effects import Flow, Recorded
from dbos_events.engine.operations.common import deliver, operation, unreadable
from dbos_events.engine.values_and_streams import refuse_unwritten
from dbos_events.model.times import LONGEST_WAIT

if TYPE_CHECKING:
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place
    from dbos_events.storage.writes import Checkpoint

NAME = "DBOS.sleep"
"""What it is recorded as."""


def recorded_deadline(run: Run, place: Place) -> Flow[int | None]:
    """Until when the call waits by its history, in its turn there; None where it has begun no wait."""
    if run.history is None:
        return None
    if place.call not in run.history.by_call:
        if place.number in run.history.numbers:  # of a call that does not fit any more
            place.number = run.take_number()
        return None
    until: int = yield from operation(run, place, NAME, None, lambda: begin_deadline(run, place, 0.0), _time)
    return until


def begin_deadline(run: Run, place: Place, seconds: float) -> Flow[int]:
    """Record until when the call waits; gives it once it is durable."""
    now = run.core.clock.now_ms()
    until = now + round(min(max(0.0, seconds), LONGEST_WAIT) * 1000)
    codec = run.core.codecs.default
    write = run.checkpoint(
        place, NAME, codec=codec.name, output=codec.encode(until), started_at=now, completed_at=now
    )
    result = yield Recorded(run.core, write, run)
    refuse_unwritten(run, result)
    return until


def _time(run: Run, entry: Checkpoint) -> int:
    until = deliver(run, entry)
    if not isinstance(until, int):
        raise unreadable(run, entry, "it does not hold a time.")
    return until
