"""What the verbs of published values and of streams share: stored forms, writes from within a step, telling readers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from dbos_events.engine.effects import Flow, Recorded
from dbos_events.engine.runvalues import Unwind
from dbos_events.engine.shield import is_shielded
from dbos_events.errors import DBOSWorkflowConflictIDError, SerializationError
from dbos_events.model.dataclass import dataclass
from dbos_events.serialization import encoded
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.storage.writes import (
    Fenced,
    Refused,
    Result,
    SettleEntries,
    SetValue,
    StreamEntry,
    Write,
    stream_key,
    value_key,
)

if TYPE_CHECKING:
    from dbos_events.engine.run import Engine, Run


ValueOrEntry: TypeAlias = SetValue | StreamEntry | SettleEntries


class Announcement:
    """Tells those who wait, here and in other processes, once a change is durable: a waker of its write."""

    __slots__ = ("_change", "_channels", "_core")

    def __init__(self, core: Engine, workflow_id: str, change: ValueOrEntry) -> None:
        self._core = core
        self._change = change
        if isinstance(change, SetValue):
            self._channels = {value_key(workflow_id, change.key).text}
        elif isinstance(change, StreamEntry):
            self._channels = {stream_channel(workflow_id, change.stream)}
        else:
            self._channels = {stream_channel(workflow_id, piece.stream) for piece in change.pieces}

    def wake(self) -> None:
        for channel in self._channels:
            show(self._core, channel, self._change)


def show(core: Engine, channel: str, change: ValueOrEntry) -> None:
    """Tell of a change that has met its fate; where it is known to be durable, those that wait here need not look."""
    following = core.runner.signal_following
    if not change.durable or isinstance(change, SettleEntries):
        following(channel)
    else:
        core.mailboxes.audience.tell(channel, change)
        following(channel, told=True)
    if change.woke:
        following("timers")


def stream_channel(workflow_id: str, stream: str) -> str:
    """The channel that all readers of a stream listen on."""
    return stream_key(workflow_id, stream, 0).text


@dataclass(frozen=True, slots=True)
class Stored:
    """A value in its stored form, and the codec that reads it."""

    codec: str | None
    text: str | None


def stored(core: Engine, value: object, what: str) -> Stored:
    """The stored form of a value; `what` says whose it is, for people.

    Raises:
        SerializationError: The codec cannot store it.
    """
    codec = core.codecs.default
    try:
        return Stored(codec.name, encoded(codec, value))
    except Exception as error:
        if is_interrupt(error):
            raise
        raise SerializationError(f"{what} cannot be stored: {text_of(error)}") from error


def read_back(core: Engine, codec: str | None, text: str | None, what: str) -> object:
    """A value from its stored form.

    Raises:
        SerializationError: Nothing can be made of it here.
    """
    if text is None:
        return None
    try:
        return core.codecs.get(codec or "json").decode(text)
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise SerializationError(f"{what} cannot be read: {text_of(error)}") from error


def is_on_own_thread(run: Run) -> bool:
    """Whether the caller is on the thread that drives the run, and may hand writes over for it."""
    return run.thread == threading.get_ident()


def refuse_when_stopped(run: Run) -> None:
    """For a step, whose run may have been stopped meanwhile: what it publishes would not be taken."""
    if run.unwinding:
        raise Unwind
    if run.verdict is not None and (verdict := run.refusal()) is not None:
        raise verdict
    run.core.refuse_when_stopped()


def written_in_step(run: Run, change: ValueOrEntry) -> Flow[None]:
    """Write, from within a step, what has no checkpoint of its own; durable when it returns.

    Raises what stopped the run, if something did.
    """
    write = Write(run.id, run.take, run.generation, change=change, shielded=is_shielded(run))
    own = is_on_own_thread(run)
    result = yield Recorded(run.core, write, run if own else None)
    refuse_unwritten(run, result)
    Announcement(run.core, run.id, change).wake()


def refuse_unwritten(run: Run, result: Result) -> None:
    """Raise what became of a write that was not done."""
    if isinstance(result, Refused):
        raise result.error
    if isinstance(result, Fenced):
        if run.verdict is not None:
            raise run.verdict
        raise DBOSWorkflowConflictIDError(run.id)
