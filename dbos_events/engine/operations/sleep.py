"""A durable sleep: the time of waking is recorded before the wait begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.engine.effects import Flow, Recorded, Wait
from dbos_events.engine.operations.common import deliver, replayed
from dbos_events.storage.writes import Park

if TYPE_CHECKING:
    from dbos_events.engine.run import Place, Run

NAME = "DBOS.sleep"


def sleep(run: Run, place: Place, seconds: float) -> Flow[None]:
    """Return `seconds` after the first run called it, whatever crashed in between.

    A long sleep costs a row: the run leaves the process and comes back by replay.
    """
    run.open_calls += 1
    try:
        entry = yield from replayed(run, place, NAME, None)
        if entry is not None:
            wake_at = int(deliver(run, entry))
        else:
            now = run.core.clock.now_ms()
            wake_at = now + round(max(0.0, seconds) * 1000)
            codec = run.core.codecs.default
            write = run.checkpoint(
                place, NAME, codec=codec.name, output=codec.encode(wake_at), started_at=now, completed_at=now
            )
            yield Recorded(run.core, write, run)
            run.is_settled()
        yield Wait(run.core, run, until=wake_at, park=Park(wake_at))
    finally:
        run.open_calls -= 1
