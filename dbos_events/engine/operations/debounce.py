"""Debounce a call: from outside, or from within a workflow in one write with its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.engine.effects import Flow, Query, Recorded
from dbos_events.engine.operations.common import operation
from dbos_events.engine.operations.start import Start, Started, new_workflow
from dbos_events.model.dataclass import dataclass
from dbos_events.serialization import fingerprint
from dbos_events.storage.writes import Bounce, Debounced, Refused

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place
    from dbos_events.storage.writes import Checkpoint
    from dbos_events.storage.writes.debounce import Keep

NAME = "DBOS.debounce_delayed_workflow"


@dataclass(frozen=True, slots=True)
class Bouncing:
    """A call that is debounced by `key`; `start` is the run that it opens where none is put off."""

    start: Start
    key: str
    period_ms: int
    limit_ms: int | None
    keep: Keep


def bounce(core: Core, run: Run | None, place: Place | None, call: Bouncing) -> Flow[Started]:
    """Add the call to the run of its key that is put off, or open the next one; durable when it returns."""
    if run is None or place is None:
        return _from_outside(core, call)
    return _from_workflow(core, run, place, call)


def _from_outside(core: Core, call: Bouncing) -> Flow[Started]:
    change = _change(core, call)
    workflow_id = yield Query(core, lambda: core.storage.debounces.add(change))
    core.signal("timers")
    return Started(workflow_id)


def _from_workflow(core: Core, run: Run, place: Place, call: Bouncing) -> Flow[Started]:
    arguments = fingerprint((call.key, *call.start.args), call.start.kwargs)

    def fresh() -> Flow[Started]:
        now = core.clock.now_ms()
        write = run.checkpoint(place, NAME, arguments=arguments, started_at=now, completed_at=now)
        write.change = _change(core, call)
        result = yield Recorded(core, write, run)
        if isinstance(result, Refused):
            raise result.error
        if not isinstance(result, Debounced):
            run.is_settled()  # raises what stopped the run
            return Started(call.start.workflow_id)
        core.signal("timers")
        return Started(result.workflow_id)

    def again(_: Run, entry: Checkpoint) -> Started:
        return Started(entry.child_id or call.start.workflow_id)

    return operation(run, place, NAME, arguments, fresh, again)


def _change(core: Core, call: Bouncing) -> Bounce:
    """The first call's delay is the period, and no more than the limit."""
    delay_ms = call.period_ms if call.limit_ms is None else min(call.period_ms, call.limit_ms)
    call.start.delay_ms = delay_ms
    new = new_workflow(core, call.start, parent=None)
    return Bounce(call.key, call.period_ms, call.limit_ms, call.keep, core.next_start_id(), new)
