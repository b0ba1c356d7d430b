"""Publications: published in one write with the checkpoint of the call, and waited for by name and key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import Flow, Query, Recorded
from dbos_events.engine.mailboxes import Ear
from dbos_events.engine.operations.common import deliver, noted_beside, operation
from dbos_events.engine.waits import Wait, subscribed
from dbos_events.errors import DBOSException, SerializationError
from dbos_events.model.dataclass import dataclass
from dbos_events.model.publication import ExpiredPublication, Matched, WaitFor
from dbos_events.serialization import encoded, stored_error
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.storage.writes import (
    Anchor,
    Awaited,
    Checkpoint,
    Fenced,
    Found,
    Gone,
    Match,
    NewPublication,
    Park,
    Publish,
    Refused,
    Register,
    Result,
    Write,
    anchor_key,
)
from dbos_events.storage.writes.send import Owner

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.run import Run
    from dbos_events.engine.runvalues import Place
    from dbos_events.serialization import Codec

PUBLISH = "DBOS.publish"
WAITS = ("DBOS.wait_for", "DBOS.wait_for_any", "DBOS.wait_for_all")
EXPIRY = "expiry"
"""Hub channel: something was published that expires."""

SEEN = "seen:"
"""Begins what the checkpoint of a wait notes of the publications that it got."""


LONGEST_TTL = 1e10
"""Seconds; more than a database counts."""


def handler_named(handler: Callable[..., Any] | str | None) -> str | None:
    """The name of the workflow of `on_expired`.

    Raises:
        DBOSException: It is not a workflow, nor the name of one.
    """
    if handler is None:
        return None
    name = handler if isinstance(handler, str) else getattr(handler, "__dbos_name__", None)
    if not isinstance(name, str) or not name or "\0" in name or getattr(handler, "__dbos_step__", False):
        raise DBOSException(
            f"on_expired takes a workflow, or the name of one, not {handler!r}. Decorate it with @DBOS.workflow()."
        )
    if not isinstance(handler, str) and not _takes_one(handler):
        raise DBOSException(
            f"on_expired={name}: the workflow is called with one argument, the ExpiredPublication, and without an "
            "instance. Give a function, or a static method, that takes one."
        )
    return name


def _takes_one(workflow: Callable[..., Any]) -> bool:
    """Whether it can be called with one argument as it was declared; where that cannot be told, it is tried when it runs."""
    if isinstance(getattr(workflow, "__self__", None), type):
        return True
    try:
        inspect.signature(getattr(workflow, "__func__", workflow)).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def channel_of(anchor: str) -> str:
    """The channel of the hub that tells of what happens at an anchor."""
    return f"anchor:{anchor}"


@dataclass(frozen=True, slots=True)
class Publishing:
    """What to publish; `ttl` in seconds, None for ever. `on_expired` is the name of a workflow."""

    name: str
    key: str
    value: Any
    event_id: str | None
    ttl: float | None
    on_expired: str | None = None


def publish(core: Core, publishing: Publishing) -> Flow[None]:
    """Publish from outside of workflows; durable when it returns."""
    new = new_publication(core, publishing, f"sent:{core.next_start_id():x}")
    while True:
        result = yield Recorded(core, Write(change=Publish((new,))))
        if not isinstance(result, Fenced):
            _published(core, new, result)
            return
        core.refuse_when_stopped()
        yield Query(core, lambda: core.stopped.wait(0.1))  # this process is about to register anew


def publish_from_step(core: Core, run: Run, publishing: Publishing) -> Flow[None]:
    """Publish from within a step: once for each attempt, unless there is an event id."""
    new = new_publication(core, publishing, f"sent:{core.next_start_id():x}", run.id)
    owner = Owner(core.executor, run.id, run.take)
    yield Query(core, lambda: core.storage.publications.publish([new], owner))
    tell(core, [new.anchor])


def publish_from_workflow(core: Core, run: Run, place: Place, publishing: Publishing) -> Flow[None]:
    """Publish from within a workflow: exactly once, in one write with the checkpoint of the call."""

    def fresh() -> Flow[None]:
        now = core.clock.now_ms()
        try:
            new = new_publication(core, publishing, f"call:{run.id}:{run.generation}:{place.call}", run.id)
        except Exception as error:
            codec, stored = stored_error(core.codecs.default, error)
            failed = run.checkpoint(
                place, PUBLISH, codec=codec, error=stored, started_at=now, completed_at=now
            )
            run.hand_over(failed)
            run.note(error, failed.checkpoint)
            raise
        write = run.checkpoint(place, PUBLISH, started_at=now, completed_at=now)
        write.change = Publish((new,))
        result = yield Recorded(core, write, run)
        run.is_settled()
        _published(core, new, result)

    return operation(run, place, PUBLISH, None, fresh)


def new_publication(core: Core, one: Publishing, own_id: str, publisher: str | None = None) -> NewPublication:
    """The row of a publication; `own_id` is its event id where it was given none."""
    codec = core.codecs.default
    return NewPublication(
        Anchor(core.application, one.name, one.key),
        own_id if one.event_id is None else f"event:{one.event_id}",
        codec.name,
        encoded(codec, one.value),
        publisher,
        None if one.ttl is None else round(one.ttl * 1000),
        one.on_expired,
        None if one.on_expired is None else input_when_expired(codec, one),
    )


def input_when_expired(codec: Codec, one: Publishing) -> str:
    """What the workflow of `on_expired` is called with, made now: whoever ends the publication need not read its value."""
    given = ExpiredPublication(one.name, one.key, one.value, one.event_id)
    return codec.encode({"args": [given], "kwargs": {}})


def _published(core: Core, new: NewPublication, result: Result) -> None:
    if isinstance(result, Refused):
        raise result.error
    tell(core, [new.anchor])
    if new.ttl_ms is not None:
        core.hub.signal(EXPIRY)


def tell(core: Core, anchors: Sequence[str]) -> None:
    """Wake those who wait at these anchors, in memory and parked, here and in other processes."""
    for anchor in anchors:
        core.signal(channel_of(anchor))
    core.signal("timers")


class PublicationWait:
    """One call that waits for publications, at its place in the run."""

    def __init__(
        self,
        core: Core,
        run: Run,
        place: Place,
        name: str,
        waits: Sequence[WaitFor],
        timeout: float | None,
        validate: Callable[[Any, Any], Any],
    ) -> None:
        self.core = core
        self.run = run
        self.place = place
        self.name = name
        self.waits = waits
        self.timeout = timeout
        self.validate = validate
        self.anchors = [Anchor(core.application, one.name, one.key) for one in waits]

    def flow(self) -> Flow[Any]:
        """What came, recorded with the call; None when the time was over first."""
        return operation(self.run, self.place, self.name, None, self._fresh, self._recorded)

    def _recorded(self, run: Run, entry: Checkpoint) -> Any:
        told = entry.arguments or ""
        if told.startswith(SEEN):
            pairs = [one.split("=") for one in told.removeprefix(SEEN).split(",") if one]
            self._note([(int(place), int(number)) for place, number in pairs])
        return deliver(run, entry)

    def _note(self, found: Sequence[tuple[int, int]]) -> None:
        """What this workflow has got, it does not get again."""
        seen = self.core.mailboxes.seen(self.run)
        for place, number in found:
            if place < len(self.anchors):
                anchor = self.anchors[place].id
                seen[anchor] = max(seen.get(anchor, 0), number)

    def _awaited(self) -> tuple[Awaited, ...]:
        seen = self.core.mailboxes.seen(self.run)
        return tuple(
            Awaited(anchor, one.take, 0 if one.take else seen.get(anchor.id, 0))
            for anchor, one in zip(self.anchors, self.waits, strict=True)
        )

    def _fresh(self) -> Flow[Any]:
        core, run = self.core, self.run
        started_at = core.clock.now_ms()
        dropped = [] if run.history is None else run.history.take_dropped(*WAITS)
        if dropped:
            owner = Owner(core.executor, run.id, run.take)
            yield Query(core, lambda: core.storage.publications.give_back(owner, dropped))
        ear = Ear()
        with subscribed(core, ear, [channel_of(anchor.id) for anchor in self.anchors]):
            while True:
                found = yield from self._next(ear)
                value, write = self._write(found or [], started_at)
                result = yield Recorded(core, write, run)
                run.is_settled()
                if not isinstance(result, Gone):
                    break
        self._told(found or [])
        if isinstance(value, Exception):
            run.note(value, write.checkpoint)
            raise value
        return value

    def _next(self, ear: Ear) -> Flow[list[Found] | None]:
        awaited = self._awaited()
        park = Park(None)

        def look() -> list[Found] | None:
            ear.looks()
            there = self.core.storage.publications.next_of(self.run.id, self.place.number, awaited)
            # What is there already would wake the run at once, again and again.
            places = {one.place for one in there}
            missing = [one for place, one in enumerate(awaited) if place not in places]
            park.keys = tuple(anchor_key(one.at.id, one.since) for one in missing)
            return self._chosen(there)

        found: list[Found] | None = yield Query(self.core, look)
        if found is not None or (self.timeout is not None and self.timeout <= 0):
            return found
        deadline = yield from self._registered(awaited)
        # Whoever registered before us in the meantime, or published: looked for again, now that our place is known.
        ear.wake()
        park.wake_at = deadline
        found = yield Wait(
            self.core,
            self.run,
            also=[channel_of(anchor.id) for anchor in self.anchors],
            look=look,
            is_here=lambda: not ear.has_heard,
            until=deadline,
            ends_sooner=True,
            park=park,
        )
        return found

    def _chosen(self, found: Sequence[Found]) -> list[Found] | None:
        """What ends the wait: all, or the oldest of any."""
        if self.name.endswith("_any"):
            return [min(found, key=lambda one: one.number)] if found else None
        return list(found) if len(found) == len(self.waits) else None

    def _registered(self, awaited: tuple[Awaited, ...]) -> Flow[int | None]:
        """Stand in line, and note when the wait ends, in one write; a run that comes back finds both."""
        core, run = self.core, self.run
        note = noted_beside(self.place)
        known = run.history.by_call.get(note.call) if run.history is not None else None
        if known is None:
            now = core.clock.now_ms()
            deadline = None if self.timeout is None else now + round(self.timeout * 1000)
            output = None if deadline is None else str(deadline)
            write = run.checkpoint(note, self.name, output=output, started_at=now, completed_at=now)
            write.change = Register(self.place.number, awaited)
            yield Recorded(core, write, run)
            run.is_settled()
            return deadline
        return None if known.output is None else int(known.output)

    def _write(self, found: Sequence[Found], started_at: int) -> tuple[Any, Write]:
        """The value, or the error that the call raises, and the write that decides the wait."""
        core, run = self.core, self.run
        codec = core.codecs.default
        pairs = tuple((one.place, one.number) for one in found)
        name, output, error = codec.name, None, None
        value: Any
        try:
            value = self._value(found)
            output = encoded(codec, value)
        except Exception as why:  # noqa: BLE001 - what the value or its model raises is raised by the call
            value, pairs = why, ()
            name, error = stored_error(codec, why)
        write = run.checkpoint(
            self.place,
            self.name,
            arguments=SEEN + ",".join(f"{place}={number}" for place, number in pairs),
            codec=name,
            output=output,
            error=error,
            started_at=started_at,
            completed_at=core.clock.now_ms(),
        )
        write.change = Match(self._awaited(), pairs)
        return value, write

    def _value(self, found: Sequence[Found]) -> Any:
        if not found:
            return None
        values = [self._read(one) for one in sorted(found, key=lambda one: one.place)]
        if self.name.endswith("_any"):
            wait = self.waits[found[0].place]
            return Matched(found[0].place, wait.name, wait.key, values[0])
        return values if self.name.endswith("_all") else values[0]

    def _read(self, found: Found) -> Any:
        """The value as its wait wants it. One that cannot be had is not taken: it stays for a mended waiter."""
        wait = self.waits[found.place]
        try:
            value = None
            if found.value is not None:
                value = self.core.codecs.get(found.codec or "json").decode(found.value)
            return self.validate(wait.model, value)
        except BaseException as why:
            if is_interrupt(why):
                raise
            model = "" if wait.model is None else f" as {getattr(wait.model, '__name__', wait.model)}"
            raise SerializationError(
                f"Publication {found.number} of {wait.name!r} under {wait.key!r} cannot be read{model}: {text_of(why)}. It "
                "was not taken; `dbos-events match discard` gives it up."
            ) from None

    def _told(self, found: Sequence[Found]) -> None:
        self._note([(one.place, one.number) for one in found])
        if taken := [self.anchors[one.place].id for one in found if self.waits[one.place].take]:
            tell(self.core, taken)
