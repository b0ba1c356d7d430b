"""Ask the database, or change another workflow, from within a workflow: recorded like a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import Flow, Query
from dbos_events.engine.operations.common import operation

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place


def recorded_query(core: Core, run: Run, place: Place, name: str, work: Callable[[], Any]) -> Flow[Any]:
    """Do `work` (which may repeat after a crash) and record what it gave under `name`."""

    def fresh() -> Flow[Any]:
        started_at = core.clock.now_ms()
        value = yield Query(core, work)
        codec = core.codecs.default
        write = run.checkpoint(
            place,
            name,
            codec=codec.name,
            output=None if value is None else codec.encode(value),
            started_at=started_at,
            completed_at=core.clock.now_ms(),
        )
        run.hand_over(write)
        return value

    return operation(run, place, name, None, fresh)
