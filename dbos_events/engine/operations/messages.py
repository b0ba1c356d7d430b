"""Messages: sent in one write with the checkpoint of the call, received in one write with theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import Flow, Query, Recorded, Settled
from dbos_events.engine.mailboxes import Delivery, Turn, in_turn, turn_of
from dbos_events.engine.operations.common import follows, noted_beside, operation
from dbos_events.engine.shield import may_write
from dbos_events.engine.waits import Wait
from dbos_events.errors import DBOSNonExistentWorkflowError, SerializationError
from dbos_events.model.dataclass import dataclass
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
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place
    from dbos_events.model.message import StoredMessage

SEND = "DBOS.send"
SEND_BULK = "DBOS.send_bulk"
RECV = "DBOS.recv"

UNNOTED_MS = 250
CROWDED_MS = 20
"""How long a `recv` waits before it notes when its wait is over and can be parked: usually, and where memory is full."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that was checked; the value is encoded when it is sent."""

    destination: str
    value: Any
    topic: str | None
    key: str | None


def send(core: Core, outgoing: Sequence[Outgoing]) -> Flow[None]:
    """Send from outside of workflows; durable when it returns. What has a key is sent at most once."""
    messages = _messages(core, outgoing, [f"sent:{core.next_start_id():x}" for _ in outgoing])
    while True:
        change = Send(messages, _near(core, messages))
        result = yield Recorded(core, Write(change=change), then=Delivery(core, change))
        if not isinstance(result, Fenced):
            _sent(result)
            return
        core.refuse_when_stopped()
        # This process was declared dead, and is about to register anew.
        yield Query(core, lambda: core.stopped.wait(0.1))


def send_from_step(core: Core, run: Run, outgoing: Sequence[Outgoing]) -> Flow[None]:
    """Send from within a step: nothing is recorded, so an attempt that is made again sends again what has no key."""
    messages = _messages(core, outgoing, [f"sent:{core.next_start_id():x}" for _ in outgoing], run.id)
    sender = Owner(core.executor, run.id, run.take)
    yield Query(core, lambda: core.storage.messages.send(messages, sender))
    Delivery(core, Send(messages)).wake()


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
        write.change = change = Send(messages, _near(core, messages))
        result = yield Recorded(core, write, run, Delivery(core, change))
        try:
            _sent(result, run)
        except DBOSNonExistentWorkflowError as error:
            _record_failure(run, place, name, error, now)
            raise

    return operation(run, place, name, None, fresh, may_go_on=follows)


def recv(core: Core, run: Run, place: Place, topic: str | None, timeout: float | None) -> Flow[Any]:
    """The next message of a topic; None when none came within `timeout` seconds of the first run's call."""

    def fresh() -> Flow[Any]:
        started_at = core.clock.now_ms()
        dropped = [] if run.history is None else run.history.take_dropped(RECV)
        if dropped:
            owner = Owner(core.executor, run.id, run.take)
            yield Settled(run)
            yield Query(core, lambda: core.storage.messages.give_back(owner, dropped))
            core.mailboxes.of(run).forget()
        with in_turn(core, run, topic) as turn:

            def look() -> StoredMessage | None:
                return turn.topic.look(core, run.id, topic) if turn.is_first else None

            only_looks = timeout is not None and timeout <= 0
            found = _known(turn)
            if found is None and (only_looks or not turn.topic.is_known_empty(core)):
                found = yield Query(core, look)
            if found is None and not only_looks:
                found = yield from _waited(run, place, topic, timeout, turn, look)
            run.enter()
            write = run.checkpoint(place, RECV, started_at=started_at)
            assert write.checkpoint is not None  # noqa: S101
            write.checkpoint.completed_at = core.clock.now_ms()
            if found is None:
                yield Recorded(core, write, run)
                run.is_settled()
                return None
            value = _read(core, run, found)
            write.checkpoint.codec, write.checkpoint.output = found.codec, found.value
            write.change = Consume(found.number)
            turn.topic.take(found, all_durable=not run.under_way)
            run.hand_over(write)
            return value

    return operation(run, place, RECV, None, fresh, may_go_on=follows)


def _known(turn: Turn) -> StoredMessage | None:
    return turn.topic.first() if turn.is_first else None


def _near(core: Core, messages: Sequence[NewMessage]) -> set[tuple[str, str | None]]:
    """Destinations and topics of which a run in this process has received before."""
    near = set()
    for one in messages:
        box = core.mailboxes.known(core.runner.active.get(one.destination))
        if box is not None and one.topic in box.topics:
            near.add((one.destination, one.topic))
    return near


def _waited(
    run: Run,
    place: Place,
    topic: str | None,
    timeout: float | None,
    turn: Turn,
    look: Callable[[], StoredMessage | None],
) -> Flow[StoredMessage | None]:
    """Wait for a message, until the end that the first run which waited has noted: a crash does not prolong it.

    A wait of milliseconds notes nothing: after a crash in them it is as if the call had not begun. Nobody waits for the
    note. It is durable before the wait is over, or the run parked: all writes of a run go out in their order.
    """
    core = run.core
    found: StoredMessage | None
    if timeout is None:
        found = yield _wait(run, topic, None, turn, look)
        return found
    note = noted_beside(place)
    known = run.history.by_call.get(note.call) if run.history is not None else None
    if known is not None and known.output is not None:
        found = yield _wait(run, topic, int(known.output), turn, look)
        return found
    now = core.clock.now_ms()
    deadline = now + round(timeout * 1000)
    if not core.clock.manual:
        unnoted = CROWDED_MS if core.pool.starved or core.runner.is_crowded else UNNOTED_MS
        found = yield _wait(run, topic, min(deadline, now + unnoted), turn, look, parks=False)
        if found is not None:
            return found
        run.enter()
        if deadline - now <= unnoted:
            found = yield Query(core, look)
            return found
    run.hand_over(run.checkpoint(note, RECV, output=str(deadline), started_at=now, completed_at=now))
    found = yield _wait(run, topic, deadline, turn, look)
    return found


def _wait(
    run: Run,
    topic: str | None,
    deadline: int | None,
    turn: Turn,
    look: Callable[[], StoredMessage | None],
    *,
    parks: bool = True,
) -> Wait:
    return Wait(
        run.core,
        run,
        channel=turn_of(run.id),
        peek=lambda: _known(turn),
        look=look,
        is_here=lambda: not turn.must_look,
        until=deadline,
        ends_sooner=True,
        looks_at_end=parks,
        park=Park(deadline, (message_key(run.id, topic),)) if parks else None,
    )


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


def _sent(result: Result, run: Run | None = None) -> None:
    if isinstance(result, NoWorkflow):
        raise DBOSNonExistentWorkflowError(result.workflow_id)
    if isinstance(result, Refused):
        raise result.error
    if isinstance(result, Fenced) and run is not None:
        run.is_settled()  # raises what stopped the sender


def _record_failure(run: Run, place: Place, name: str, error: Exception, started_at: int) -> None:
    if not may_write(run):
        return
    codec, stored = stored_error(run.core.codecs.default, error)
    now = run.core.clock.now_ms()
    write = run.checkpoint(place, name, codec=codec, error=stored, started_at=started_at, completed_at=now)
    run.hand_over(write)
    run.note(error, write.checkpoint)
