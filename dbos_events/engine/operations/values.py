"""Values that a workflow publishes under a key, and whoever waits for them (docs/protocol.md, rule 17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import Flow, Query, Recorded
from dbos_events.engine.operations.common import follows, operation
from dbos_events.engine.operations.deadline import begin_deadline, recorded_deadline
from dbos_events.engine.outlet import outlet_of
from dbos_events.engine.values_and_streams import (
    Announcement,
    Stored,
    read_back,
    refuse_unwritten,
    refuse_when_stopped,
    stored,
    written_in_step,
)
from dbos_events.engine.waits import Wait
from dbos_events.model.workflow import FINISHED, PENDING
from dbos_events.serialization import fingerprint
from dbos_events.storage.writes import Park, value_key

if TYPE_CHECKING:
    from dbos_events.engine.run import Engine, Run
    from dbos_events.engine.runvalues import Place
    from dbos_events.model.workflow import StepStatus
    from dbos_events.storage.subjects.values import StoredValue

SET = "DBOS.setEvent"
GET = "DBOS.getEvent"
GET_ALL = "DBOS.get_events"


def value_to_store(run: Run, key: str, value: object) -> Stored:
    """The stored form of an event's value; raises an error that names workflow and key."""
    return stored(run.core, value, f"The value of the event {key!r} of workflow {run.id}")


def set_value(run: Run, place: Place, key: str, value: object) -> Flow[None]:
    """Publish a value from the workflow: one write with its checkpoint, durable when this returns."""

    def fresh() -> Flow[None]:
        now = run.core.clock.now_ms()
        form = value_to_store(run, key, value)
        write = run.checkpoint(place, SET, arguments=arguments, started_at=now, completed_at=now)
        write.change = change = outlet_of(run).set_value(key, place.number, form.codec, form.text)
        result = yield Recorded(run.core, write, run, Announcement(run.core, run.id, change))
        refuse_unwritten(run, result)

    arguments = fingerprint((key,), {})
    return operation(run, place, SET, arguments, fresh, may_go_on=follows)


def set_value_in_step(run: Run, step: StepStatus, key: str, value: object) -> Flow[None]:
    """Publish a value from within a step: at once, and again when the step is repeated."""
    refuse_when_stopped(run)
    form = value_to_store(run, key, value)
    change = outlet_of(run).set_value(key, step.step_id, form.codec, form.text, again=True)
    yield from written_in_step(run, change)


def _wait(
    core: Engine, run: Run | None, workflow_id: str, key: str, until: int | None, *, parks: bool
) -> Flow[StoredValue | None]:
    """What there is once the key is set or its workflow has ended; None when the time is over."""
    waited_for = value_key(workflow_id, key)
    listener = core.mailboxes.audience.join(core.hub, waited_for.text, [f"workflow:{workflow_id}"])

    has_looked = False

    def told() -> StoredValue | None:
        # What is told late may have been replaced before the wait began: only a look that finds nothing rules that out.
        change = listener.last_told() if has_looked else None
        if change is None:
            return None
        from dbos_events.storage.subjects.values import StoredValue

        return StoredValue(PENDING, True, change.codec, change.value)

    def look() -> StoredValue | None:
        nonlocal has_looked
        listener.heard = False
        found = _decided(core, run, workflow_id, key)
        has_looked = True
        return found

    try:
        found: StoredValue | None = yield Wait(
            core,
            run,
            channel=listener.own,
            peek=told,
            look=look,
            is_here=lambda: not listener.heard,
            until=until,
            ends_sooner=True,
            park=Park(until, (waited_for,)) if parks else None,
        )
    finally:
        core.mailboxes.audience.leave_soon(core.hub, listener)
    return found


def _decided(core: Engine, run: Run | None, workflow_id: str, key: str) -> StoredValue | None:
    """The value, or that there will be none: its workflow has ended.

    A run that waits for a value of its own has not ended, though it may be cancelled: it cleans up in a shield.
    """
    found = core.storage.values.read(workflow_id, key)
    if found is None or found.is_set:
        return found
    own = run is not None and run.id == workflow_id
    return found if found.status in FINISHED and not own else None


def get_value(core: Engine, run: Run | None, workflow_id: str, key: str, seconds: float | None) -> Flow[Any]:
    """The value of a key for a caller outside of workflows, or within a step (then of `run`); nothing is recorded."""
    until = None if seconds is None else core.clock.now_ms() + round(max(0.0, seconds) * 1000)
    found = yield from _wait(core, run, workflow_id, key, until, parks=False)
    return None if found is None else _value(core, workflow_id, key, found)


def _value(core: Engine, workflow_id: str, key: str, found: StoredValue) -> object:
    return read_back(core, found.codec, found.value, f"The event {key!r} of workflow {workflow_id}")


def get_value_recorded(
    run: Run, place: Place, end: Place, workflow_id: str, key: str, seconds: float | None
) -> Flow[Any]:
    """The value of a key for a workflow: recorded at `place`. The end of the wait is recorded at `end`, before it begins."""
    core = run.core
    arguments = fingerprint((workflow_id, key), {})
    until = yield from recorded_deadline(run, end)

    def fresh() -> Flow[Any]:
        started_at = core.clock.now_ms()
        ends_at, found = until, None
        if until is None and seconds is not None:
            found = yield Query(core, lambda: _decided(core, run, workflow_id, key))
            if found is None:
                ends_at = yield from begin_deadline(run, end, seconds)
        if found is None:
            found = yield from _wait(core, run, workflow_id, key, ends_at, parks=True)
        write = run.checkpoint(
            place,
            GET,
            arguments=arguments,
            codec=None if found is None else found.codec,
            output=None if found is None else found.value,
            started_at=started_at,
            completed_at=core.clock.now_ms(),
        )
        value = None if found is None else _value(core, workflow_id, key, found)
        run.hand_over(write)
        return value

    return (yield from operation(run, place, GET, arguments, fresh))


def get_all_values(core: Engine, workflow_id: str) -> dict[str, Any]:
    """The latest value of each key of a workflow."""
    return {
        each.key: read_back(core, each.codec, each.value, f"The event {each.key!r} of workflow {workflow_id}")
        for each in core.storage.values.read_all(workflow_id)
    }
