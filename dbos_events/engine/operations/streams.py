"""Streams: what a workflow and its steps write, and readers anywhere (docs/protocol.md, rule 18)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dbos_events.engine.effects import Flow, Query
from dbos_events.engine.operations.common import deliver, operation
from dbos_events.engine.operations.deadline import begin_deadline, recorded_deadline
from dbos_events.engine.outlet import Room, outlet_of
from dbos_events.engine.reader import Item, StreamReader
from dbos_events.engine.runvalues import Place
from dbos_events.engine.shield import is_shielded
from dbos_events.engine.values_and_streams import (
    Stored,
    is_on_own_thread,
    read_back,
    refuse_when_stopped,
    stored,
    stream_channel,
    written_in_step,
)
from dbos_events.engine.waits import Wait
from dbos_events.errors import (
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSStreamTimeoutError,
    DBOSUnexpectedStepError,
)
from dbos_events.model.stream import StreamReset
from dbos_events.serialization import fingerprint, stored_error
from dbos_events.storage.writes import Park, Write, stream_key

if TYPE_CHECKING:
    from dbos_events.engine.outlet import Outlet
    from dbos_events.engine.run import Engine, Run
    from dbos_events.model.workflow import StepStatus
    from dbos_events.storage.writes import Checkpoint

WRITE = "DBOS.writeStream"
CLOSE = "DBOS.closeStream"
READ = "DBOS.readStream"
READ_OFFSET = "DBOS.readStreamOffset"

END, RESET = "stream-end", "stream-reset"
"""In the place of a codec, for what a reader gets beside values."""


def entry_to_store(run: Run, stream: str, value: object) -> Stored:
    """The stored form of an entry; raises an error that names workflow and stream."""
    return stored(run.core, value, f"The value for the stream {stream!r} of workflow {run.id}")


def write_entry(run: Run, place: Place, stream: str, form: Stored | None) -> Flow[None]:
    """Write an entry from the workflow, or close the stream (`form` is None): one write with its checkpoint.

    It is handed over and not waited for. Entries follow each other without waiting; any other operation of the
    workflow waits until all of them are durable.
    """
    outlet = outlet_of(run)
    name = CLOSE if form is None else WRITE

    def fresh() -> Flow[None]:
        yield from _ready(run, outlet)
        if not outlet.has_room:
            yield Room(run, outlet)
            run.enter()
        now = run.core.clock.now_ms()
        write = run.checkpoint(place, name, arguments=arguments, started_at=now, completed_at=now)
        _hand_over(outlet, write, stream, place.number, form, None)

    arguments = outlet.arguments(stream)
    return operation(run, place, name, arguments, fresh, may_go_on=outlet.may_go_on)


def write_entry_in_step(run: Run, step: StepStatus, stream: str, form: Stored | None) -> Flow[None]:
    """Write an entry from within a step, or close the stream: again when the step is repeated."""
    refuse_when_stopped(run)
    outlet = outlet_of(run)
    yield from _ready(run, outlet)
    if is_on_own_thread(run):
        if not outlet.has_room:
            yield Room(run, outlet)
            refuse_when_stopped(run)
        write = Write(run.id, run.take, run.generation, shielded=is_shielded(run))
        _hand_over(outlet, write, stream, step.step_id, form, step.current_attempt or 0)
        return
    entry = outlet.entry(
        stream,
        step.step_id,
        None if form is None else form.codec,
        None if form is None else form.text,
        ends=form is None,
        attempt=step.current_attempt or 0,
    )
    yield from written_in_step(run, entry)


def _ready(run: Run, outlet: Outlet) -> Flow[None]:
    if not outlet.ready:
        ends = yield Query(
            run.core, lambda: run.core.storage.streams.read_ends(run.id, run.take, run.generation)
        )
        outlet.begin(ends)


def _hand_over(
    outlet: Outlet, write: Write, stream: str, step: int, form: Stored | None, attempt: int | None
) -> None:
    codec, text = (None, None) if form is None else (form.codec, form.text)
    outlet.hand_over(write, stream, step, codec, text, ends=form is None, attempt=attempt)


# -- reading -----------------------------------------------------------------------------------


def next_item(
    core: Engine, run: Run | None, reader: StreamReader, until: int | None, poll: float, *, parks: bool
) -> Flow[Item | None]:
    """The next thing that a reader gets; None when the time is over."""
    while (item := reader.take()) is None:
        key = stream_key(
            reader.workflow_id, reader.stream, reader.position, committed=reader.mode == "committed"
        )
        found = yield Wait(
            core,
            run,
            channel=stream_channel(reader.workflow_id, reader.stream),
            also=(f"workflow:{reader.workflow_id}",),
            look=reader.look,
            until=until,
            poll=poll,
            ends_sooner=True,
            park=Park(until, (key,)) if parks else None,
        )
        if found is None:
            return None
    return item


def read_item(
    core: Engine, run: Run | None, reader: StreamReader, seconds: float | None, poll: float
) -> Flow[Item]:
    """For a reader outside of workflows, or within a step (then of `run`); nothing is recorded.

    Raises:
        DBOSStreamTimeoutError: Nothing came in time.
    """
    until = None if seconds is None else core.clock.now_ms() + round(max(0.0, seconds) * 1000)
    item = yield from next_item(core, run, reader, until, poll, parks=False)
    if item is None:
        raise DBOSStreamTimeoutError(reader.workflow_id, reader.stream, seconds)
    return item


def read_item_recorded(
    run: Run, place: Place, name: str, reader: StreamReader, seconds: float | None, poll: float
) -> Flow[Item]:
    """For a reader in a workflow: what it gets is recorded, also that the stream has ended, or that nothing came in time.

    A long wait costs a row. Until when it waits is recorded before, out of sight: the peer's calls have one number each.
    """
    core = run.core
    arguments = fingerprint((reader.workflow_id, reader.stream), {})
    end = Place(f"{place.call}!", -place.number)
    until = yield from recorded_deadline(run, end)

    def fresh() -> Flow[Item]:
        started_at = core.clock.now_ms()
        position, ends_at, item = reader.position, until, reader.take()
        error: DBOSException | None = None
        try:
            if item is None:
                if ends_at is None and seconds is not None and not (yield Query(core, reader.look)):
                    ends_at = yield from begin_deadline(run, end, seconds)
                item = yield from next_item(core, run, reader, ends_at, poll, parks=True)
        except DBOSNonExistentWorkflowError as unknown:
            error = unknown
        if item is None and error is None:
            error = DBOSStreamTimeoutError(reader.workflow_id, reader.stream, seconds)
        codec, output, text = _recorded_form(core, item, error)
        write = run.checkpoint(
            place,
            name,
            arguments=f"{arguments}@{position if item is None else item.position}",
            codec=codec,
            output=output,
            error=text,
            started_at=started_at,
            completed_at=core.clock.now_ms(),
        )
        run.hand_over(write)
        if item is None:
            assert error is not None  # noqa: S101
            run.note(error, write.checkpoint)
            raise error
        return item

    def again(run: Run, entry: Checkpoint) -> Item:
        return _again(run, entry, reader, arguments)

    item: Item = yield from operation(run, place, name, None, fresh, again)
    return item


def _recorded_form(
    core: Engine, item: Item | None, error: DBOSException | None
) -> tuple[str | None, str | None, str | None]:
    """Codec, value and error that a checkpoint has: a value's own, or what tells that it is none."""
    if item is None:
        assert error is not None  # noqa: S101
        codec, text = stored_error(core.codecs.default, error)
        return codec, None, text
    if item.ends:
        return END, None, None
    if item.reset is not None:
        return RESET, json.dumps([item.reset.step_id, item.reset.offset]), None
    return item.codec, item.text, None


def _again(run: Run, entry: Checkpoint, reader: StreamReader, arguments: str) -> Item:
    """What was recorded; the reader goes on behind it.

    Raises:
        DBOSUnexpectedStepError: The recorded call has read another stream.
    """
    noted, _, place = (entry.arguments or "").partition("@")
    if noted != arguments:
        raise DBOSUnexpectedStepError(
            run.id,
            f"Workflow {run.id} ({run.function.name}) is not deterministic: call {entry.call} has read another stream "
            f"than {reader.stream!r} of workflow {reader.workflow_id!r}. A workflow must make the same calls with the "
            "same arguments each time it runs.",
        )
    position = int(place)
    if entry.error is not None:
        deliver(run, entry)
    if entry.codec == END:
        return Item(position, ends=True)
    if entry.codec == RESET:
        reader.skip(position)
        step, offset = json.loads(entry.output or "[]")
        return Item(position, reset=StreamReset(step, offset))
    reader.skip(position + 1)
    return Item(position, entry.codec, entry.output)


def value_of(core: Engine, reader: StreamReader, item: Item) -> object:
    """What a user gets of an item that is not the end."""
    if item.reset is not None:
        return item.reset
    what = f"The entry at {item.position} of the stream {reader.stream!r} of workflow {reader.workflow_id}"
    return read_back(core, item.codec, item.text, what)
