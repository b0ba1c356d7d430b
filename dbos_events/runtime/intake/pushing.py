"""One consumer whose events are pushed: from an event to its row, and from what became of that to a run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from dbos_events.connect.connector import PushConnector
from dbos_events.connect.inbox import Outcome, PushedEvent, PushOptions
from dbos_events.engine.core import Core
from dbos_events.engine.problems import problem_with
from dbos_events.engine.registry import Registered
from dbos_events.engine.run import Run
from dbos_events.engine.runvalues import EventOrigin
from dbos_events.engine.shapes import at_once
from dbos_events.errors import DBOSException, Quarantine, StorageUnavailable, TryAgain
from dbos_events.model.dataclass import dataclass
from dbos_events.model.naming import pushed_id, pushed_prefix
from dbos_events.runtime.intake.gate import Gate
from dbos_events.runtime.intake.holdups import PUSHED, HoldUps
from dbos_events.runtime.intake.keeper import LaneService
from dbos_events.runtime.intake.lanes import LaneGroup
from dbos_events.runtime.intake.naming import key_bytes, key_name
from dbos_events.runtime.intake.places import HEAVY_BYTES, Places
from dbos_events.runtime.intake.standing import ConsumerService
from dbos_events.runtime.taken import Taken
from dbos_events.serialization import stored_error
from dbos_events.serialization.headers import encode_headers
from dbos_events.serialization.raised import is_interrupt
from dbos_events.storage.apart import after, passes_by, refuses
from dbos_events.storage.subjects.acceptance import Accepted, NewPushed
from dbos_events.telemetry.log import Recurring

KEYLESS = "!"
"""The lane of events for which `ordering_key` failed; no encoded key is called so."""

CLOSED_SECONDS = 30.0
"""After so long a sender may try a consumer again that takes nothing in."""

QUOTA_SECONDS = 60.0
AGAIN_SECONDS = 5.0


LONGEST_CONTENT_TYPE = 1000

REFUSED_SECONDS = 0.5
"""How long a caller who is alone makes others wait, if the database refuses its events."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Services:
    """What a pushed consumer needs of the launched App."""

    core: Core
    taken: Taken
    lanes: LaneService
    consumers: ConsumerService
    freed: Callable[[], object]
    """Called by the committer when an event has left its place."""


class FormedEvent(NamedTuple):
    """An event on its way: its row, its message, and why its handler must not be called, if it must not."""

    row: NewPushed
    message: Any
    refused: DBOSException | None
    size: int


class Reserved(NamedTuple):
    """The lanes that an acceptance under way puts events into."""

    group: LaneGroup
    names: tuple[str, ...]


class PushedConsumer:
    """All but `workflow_id` and `closed_by` belongs to the thread that accepts."""

    def __init__(
        self, services: Services, connector: PushConnector, function: Registered, options: PushOptions
    ) -> None:
        core = services.core
        self.name = options.name or function.name
        self.options = options
        self.function = function
        self._services = services
        self._core = core
        self._messages = connector.messages
        self._connector = connector.name
        self.prefix = pushed_prefix(connector.id_prefix, core.application, self.name)
        self.gate = Gate()
        self.places = Places(options.max_in_flight, services.freed)
        self.holdups = HoldUps(core, self.name, core.quotas)
        self.number = 0
        self._remembered_ms = round(options.remembered_seconds * 1000)
        self._trouble = Recurring()
        self._planned = 0
        self._tried = False

    def open(self) -> None:
        """Register the consumer; what it accepts counts from then on."""
        core, options = self._core, self.options
        self.number = core.ask(
            lambda: core.storage.inbox.register(
                core.application,
                self.name,
                self.function.name,
                self._connector,
                self.prefix,
                options.addresses,
            )
        )
        core.retries[self.number] = options.retries
        self._services.taken.quarantines[self.number] = options.on_failure == "quarantine"
        self._lanes = self._services.lanes.push(self.number, self.places)
        left = "Those who push its events are told to come again."
        core.ask(lambda: self._services.consumers.watch(self.number, options, self.gate, left))

    def workflow_id(self, event_id: str) -> str:
        """The id of the workflow that an event starts."""
        return f"{self.prefix}{pushed_id(event_id)}"

    # -- before the transaction ---------------------------------------------------------------

    def begin(self) -> None:
        """A batch begins: nothing of it has a place yet."""
        self._planned, self._tried = 0, False

    def form(self, event: PushedEvent) -> FormedEvent | Outcome:
        """The row of an event; an outcome where it is refused without a question to the database."""
        workflow_id = self.workflow_id(event.event_id)
        headers = tuple(event.headers)
        shown = PushedEvent(
            event.consumer,
            event.event_id,
            event.payload,
            b"",
            event.received_at,
            None,
            headers,
            event.content_type,
        )
        message = self._messages.of(shown, workflow_id)
        wanted, refused = self._judge(message)
        try:
            lane = self._lane(event, message)
        except TryAgain as again:
            return Outcome("refused", None, "busy", again.message, AGAIN_SECONDS)
        if lane is not None and (full := self.holdups.reason_of(lane)) is not None:
            return Outcome("refused", None, "quota", full, QUOTA_SECONDS)
        checksum = blake2b(event.fingerprint, digest_size=16)
        row = NewPushed(
            digest=blake2b(f"{self.prefix}\0{workflow_id}".encode(), digest_size=20).hexdigest(),
            workflow_id=workflow_id if wanted else None,
            conflict_id=f"{workflow_id}#{checksum.hexdigest()}",
            consumer=self.number,
            name=self.function.name,
            queue=self.options.queue_name,
            lane=lane,
            kept=wanted and self._has_place(event),
            closed=not self._admits(),
            start_id=self._core.next_start_id(),
            remembered_ms=self._remembered_ms,
            fingerprint=event.fingerprint.hex() if len(event.fingerprint) <= 64 else checksum.hexdigest(),
            checksum=int.from_bytes(checksum.digest()[:8]) >> 1,
            key=event.event_id.encode("utf-8", "surrogatepass"),
            value=event.payload,
            headers=encode_headers(headers),
            content_type=event.content_type,
            timestamp=event.received_at,
            refusal=None if refused is None else self._stored(refused),
        )
        return FormedEvent(row, message, refused, len(event.payload))

    def _judge(self, message: Any) -> tuple[bool, DBOSException | None]:
        """Whether the event is to run, and why its handler must not be called although it is."""
        binding = self.function.binding
        if binding is None or binding.when is None:
            return True, None
        try:
            return self._services.taken.new_context().run(binding.when, message), None
        except (Quarantine, TryAgain) as error:
            return True, error

    def problem(self, event: PushedEvent) -> str | None:
        """Why the content is not what the handler takes; None where it is, or where nobody can tell now. Any thread."""
        binding = self.function.binding
        if binding is None or binding.decode is None:
            return None
        context = self._services.taken.new_context()
        try:
            message = self._messages.of(event, self.workflow_id(event.event_id))
            if binding.when is None or context.run(binding.when, message):
                context.run(binding.decode, message)
        except TryAgain:
            return None
        except BaseException as error:
            if is_interrupt(error):
                raise
            return problem_with(error)
        return None

    def _stored(self, error: DBOSException) -> tuple[str, str]:
        return self._services.taken.new_context().run(stored_error, self._core.codecs.default, error)

    def _lane(self, event: PushedEvent, message: Any) -> str | None:
        """The name of its lane; two different keys never share one."""
        key: bytes | None
        if self.options.ordering_key is None:
            key = None if event.lane is None else event.lane.encode("utf-8", "surrogatepass")
        else:
            try:
                key = self._services.taken.new_context().run(self._key_of, message)
            except TryAgain:
                raise
            except BaseException as error:
                if is_interrupt(error):
                    raise
                self._trouble.say(
                    "%s: ordering_key failed for %s; events for which it fails are run one after the other: %s",
                    self.name, self._messages.place(message), problem_with(error),
                )  # fmt: skip
                return KEYLESS
        if key is None:
            return None
        name = key_name(key)
        return name if name.startswith("#") else f"/{name}"

    def _key_of(self, message: Any) -> bytes | None:
        assert self.options.ordering_key is not None  # noqa: S101
        return key_bytes(at_once(self.options.ordering_key(message)))

    def _has_place(self, event: PushedEvent) -> bool:
        """Whether it can run here at once."""
        if not self._core.holds_lease or self._planned >= self.places.free:
            return False
        if self.places.heavy and len(event.payload) >= HEAVY_BYTES:
            return False
        self._planned += 1
        return True

    def _admits(self) -> bool:
        if not self.gate.closed_by and not self.gate.trying:
            return True
        self.gate.wait(0.0)  # notes that there would be something to try
        if not self.gate.trying or self._tried:
            return False
        self._tried = True
        return True

    def reserve(self, formed: Sequence[FormedEvent]) -> Reserved:
        """Keep the lanes of these events from being given up until `carry_out`."""
        counts = Counter(one.row.lane for one in formed if one.row.lane is not None)
        group = self._lanes.current()
        group.plan(counts)
        return Reserved(group, tuple(counts))

    # -- after it -----------------------------------------------------------------------------

    def carry_out(
        self, reserved: Reserved, formed: Sequence[FormedEvent], found: Sequence[Accepted]
    ) -> list[Outcome]:
        """Run what is to run here; gives what the senders are told. Without answers, only give up the lanes."""
        fresh = [(one, what) for one, what in zip(formed, found, strict=True) if what.kind == "accepted"]
        if self.gate.admitted(what.workflow_id or "" for _, what in fresh):
            self._services.consumers.wake()
        runs: list[Run] = []
        ordered: dict[str, list[Run]] = {}
        for one, what in fresh:
            if what.owned and what.workflow_id is not None:
                run = self._run(one, what.workflow_id)
                if one.row.lane is None:
                    runs.append(run)
                else:
                    ordered[one.row.lane] = [run]
        self.places.occupy(len(runs))
        self._core.runner.submit(runs)
        # Any process may put more into a lane whose head runs here: it is asked for when that ends.
        reserved.group.admit(reserved.names, ordered, ordered)
        self._tell_others(fresh)
        return [self._outcome(what) for what in found]

    def give_up(self, reserved: Reserved) -> None:
        """Nothing is known of what was taken in: the watch over what this process owns gives it back."""
        reserved.group.admit(reserved.names, {}, {})

    def _run(self, one: FormedEvent, workflow_id: str) -> Run:
        run = Run(self._core, workflow_id, self.function, (one.message,), {})
        quarantines = self.options.on_failure == "quarantine"
        run.origin = EventOrigin(self.number, quarantines, holds_lane=one.row.lane is not None)
        run.verdict = one.refused
        run.host = self.places
        if one.size >= HEAVY_BYTES:
            self.places.weigh(run, 0, one.size)
        return run

    def _tell_others(self, fresh: Sequence[tuple[FormedEvent, Accepted]]) -> None:
        """Events that do not run here: some process has room for them, or they come after others."""
        left = [one for one, what in fresh if not what.owned]
        if not left:
            return
        behind = Counter(one.row.lane for one in left if one.row.lane is not None)
        if behind:
            self.holdups.spilled(PUSHED[0], {PUSHED[1]: behind})
            self._core.signal("lanes")
        if len(left) > behind.total():
            self._core.signal("queues")

    def look(self) -> None:
        """Count what is held, if that is due."""
        self.holdups.look(self.number, {})

    # -- what senders are told ----------------------------------------------------------------

    @property
    def closed_by(self) -> str:
        """Why nothing is taken in; empty when something is."""
        return self.gate.closed_by

    def _outcome(self, found: Accepted) -> Outcome:
        if found.kind != "closed":
            return Outcome(found.kind, found.workflow_id)
        standstill = self._services.consumers.standstills.get(self.name)
        wanted = standstill is None or standstill.wanted
        reason = self.gate.closed_by or "it takes one event in to try"
        return Outcome("paused", None, "pause" if wanted else "breaker", reason, CLOSED_SECONDS)


def unusable(event: PushedEvent) -> str | None:
    """Why the event cannot be stored, whatever its consumer thinks of it."""
    given: tuple[object, ...] = (
        event.event_id,
        event.payload,
        event.fingerprint,
    )  # of any type, from any caller
    if not event.event_id or not isinstance(given[0], str):
        return "the event has no id"
    if not all(isinstance(one, bytes) for one in given[1:]):
        return "its payload and its fingerprint have to be bytes"
    kind = event.content_type
    if kind is not None and (len(kind) > LONGEST_CONTENT_TYPE or not kind.isprintable()):
        return "its content type cannot be stored"
    return None


def answered(core: Core, ask: Callable[[], R], until: float, *, patient: bool) -> R:
    """As `Core.ask` until then; but one event may be to blame for a refusal, which is waited for only if `patient`."""
    try:
        return ask()
    except StorageUnavailable as error:
        if refuses(error) and not passes_by(error):
            if not patient:
                raise
            until = min(until, time.monotonic() + REFUSED_SECONDS)
        ask = after(error, ask)
    return core.ask(ask, max(0.0, until - time.monotonic()))
