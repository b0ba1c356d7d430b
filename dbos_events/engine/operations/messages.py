"""Messages: sent in one write with the checkpoint of the call, received in one write with theirs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import Flow, Query, Recorded
from dbos_events.engine.mailboxes import Line, channel_of, in_line
from dbos_events.engine.operations.common import noted_beside, operation
from dbos_events.engine.shield import may_write
from dbos_events.engine.waits import Wait
from dbos_events.errors import DBOSNonExistentWorkflowError, SerializationError
from dbos_events.serialization import encoded, stored_error
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.storage.writes import (
    Consume,
    Fenced,
    NewMessage,
    NoWorkflow,
    Park,
    Refused,
    Result,
    Send,
    Write,
    message_key,
)
from dbos_events.storage.writes.send import Owner

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.run import Place, Run
    from dbos_events.storage.subjects.messages import StoredMessage

SEND = "DBOS.send"
SEND_BULK = "DBOS.send_bulk"
RECV = "DBOS.recv"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that was checked; the value is encoded when it is sent."""

    destination: str
    value: Any
    topic: str | None
    key: str | None


def send(core: Core, outgoing: Sequence[Outgoing]) -> Flow[None]:
    """Send from outside of workflows; durable when it returns. What has a key is sent at most once."""
    messages = _messages(core, outgoing, [f"sent:{uuid.uuid4()}" for _ in outgoing])
    while True:
        result = yield Recorded(core, Write(change=Send(messages)))
        if not isinstance(result, Fenced):
            _sent(core, messages, result)
            return
        core.refuse_when_stopped()
        # This process was declared dead, and is about to register anew.
        yield Query(core, lambda: core.stopped.wait(0.1))


def send_from_step(core: Core, run: Run, outgoing: Sequence[Outgoing]) -> Flow[None]:
    """Send from within a step: nothing is recorded, so an attempt that is made again sends again what has no key."""
    messages = _messages(core, outgoing, [f"sent:{uuid.uuid4()}" for _ in outgoing], run.id)
    sender = Owner(core.executor, run.id, run.take)
    yield Query(core, lambda: core.storage.messages.send(messages, sender))
    tell(core, messages)


def send_from_workflow(
    core: Core, run: Run, place: Place, name: str, outgoing: Sequence[Outgoing]
) -> Flow[None]:
    """Send from within a workflow: exactly once, in one write with the checkpoint of the call."""

    def fresh() -> Flow[None]:
        now = core.clock.now_ms()
        made = f"{run.id}:{run.generation}:{place.call}"
        ids = [f"call:{made}" if number == 0 else f"call:{made}#{number}" for number in range(len(outgoing))]
        try:
            messages = _messages(core, outgoing, ids, run.id)
        except Exception as error:
            _record_failure(run, place, name, error, now)
            raise
        write = run.checkpoint(place, name, started_at=now, completed_at=now)
        write.change = Send(messages)
        result = yield Recorded(core, write, run)
        try:
            _sent(core, messages, result, run)
        except DBOSNonExistentWorkflowError as error:
            _record_failure(run, place, name, error, now)
            raise

    return operation(run, place, name, None, fresh)


def recv(core: Core, run: Run, place: Place, topic: str | None, timeout: float | None) -> Flow[Any]:
    """The next message of a topic; None when none came within `timeout` seconds of the first run's call."""

    def fresh() -> Flow[Any]:
        started_at = core.clock.now_ms()
        dropped = [] if run.history is None else run.history.take_dropped(RECV)
        if dropped:
            owner = Owner(core.executor, run.id, run.take)
            yield Query(core, lambda: core.storage.messages.give_back(owner, dropped))
        with in_line(core, run, topic) as line:

            def look() -> StoredMessage | None:
                return core.storage.messages.peek(run.id, topic) if line.may_look() else None

            found = yield Query(core, look)
            if found is None and not (timeout is not None and timeout <= 0):
                found = yield _wait(core, run, topic, _deadline(core, run, place, timeout), line, look)
            value, write = None, run.checkpoint(place, RECV, started_at=started_at)
            if found is not None and write.checkpoint is not None:
                value = _read(core, run, found)
                write.checkpoint.codec, write.checkpoint.output = found.codec, found.value
                write.change = Consume(found.number)
            if write.checkpoint is not None:
                write.checkpoint.completed_at = core.clock.now_ms()
            yield Recorded(core, write, run)
            run.is_settled()
            return value

    return operation(run, place, RECV, None, fresh)


def _wait(
    core: Core,
    run: Run,
    topic: str | None,
    deadline: int | None,
    line: Line,
    look: Callable[[], StoredMessage | None],
) -> Wait:
    return Wait(
        core,
        run,
        channel=channel_of(run.id),
        look=look,
        is_here=lambda: not line.has_heard,
        until=deadline,
        ends_sooner=True,
        park=Park(deadline, (message_key(run.id, topic),)),
    )


def _deadline(core: Core, run: Run, place: Place, timeout: float | None) -> int | None:
    """When the wait ends, as the first run that waited has noted it: a crash does not prolong it.

    The note is durable before the wait is over, or the run parked: all writes of a run go out in their order.
    """
    if timeout is None:
        return None
    note = noted_beside(place)
    known = run.history.by_call.get(note.call) if run.history is not None else None
    if known is not None and known.output is not None:
        return int(known.output)
    now = core.clock.now_ms()
    deadline = now + round(timeout * 1000)
    run.hand_over(run.checkpoint(note, RECV, output=str(deadline), started_at=now, completed_at=now))
    return deadline


def _read(core: Core, run: Run, message: StoredMessage) -> Any:
    """The value of a message. One that cannot be read stops the run, and stays for when the code is mended."""
    if message.value is None:
        return None
    try:
        return core.codecs.get(message.codec or "json").decode(message.value)
    except BaseException as why:
        if is_interrupt(why):
            raise
        error = SerializationError(
            f"Message {message.number} to workflow {run.id} cannot be read: {text_of(why)}"
        )
        run.stop(error)
        raise error from None


def _messages(
    core: Core, outgoing: Sequence[Outgoing], ids: Sequence[str], sender: str | None = None
) -> tuple[NewMessage, ...]:
    codec = core.codecs.default
    return tuple(
        NewMessage(
            one.destination,
            own_id if one.key is None else f"key:{one.key}",
            one.topic,
            codec.name,
            encoded(codec, one.value),
            sender,
        )
        for one, own_id in zip(outgoing, ids, strict=True)
    )


def _sent(core: Core, messages: Sequence[NewMessage], result: Result, run: Run | None = None) -> None:
    if isinstance(result, NoWorkflow):
        raise DBOSNonExistentWorkflowError(result.workflow_id)
    if isinstance(result, Refused):
        raise result.error
    if isinstance(result, Fenced):
        if run is not None:
            run.is_settled()  # raises what stopped the sender
        return
    tell(core, messages)


def tell(core: Core, messages: Sequence[NewMessage]) -> None:
    """Wake those who wait for these messages, wherever they are.

    A run that is here hears it at once; should it be parking now, the timers look when it has left.
    """
    elsewhere = False
    for destination in {one.destination for one in messages}:
        if destination in core.runner.active:
            core.hub.signal(channel_of(destination))
        else:
            core.signal(channel_of(destination))
            elsewhere = True
    if elsewhere:
        core.signal("timers")


def _record_failure(run: Run, place: Place, name: str, error: Exception, started_at: int) -> None:
    if not may_write(run):
        return
    codec, stored = stored_error(run.core.codecs.default, error)
    now = run.core.clock.now_ms()
    write = run.checkpoint(place, name, codec=codec, error=stored, started_at=started_at, completed_at=now)
    run.hand_over(write)
    run.note(error, write.checkpoint)
