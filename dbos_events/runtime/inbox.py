"""Accepts pushed events: those of all who wait at a moment, in one transaction (docs/protocol.md, rule 26)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from dbos_events.connect.connector import PushConnector
from dbos_events.connect.inbox import Outcome, PushedEvent, PushOptions
from dbos_events.engine.problems import problem_with
from dbos_events.engine.registry import Registered
from dbos_events.errors import (
    BadWrite,
    ConflictingDuplicate,
    ExecutorFenced,
    StorageError,
)
from dbos_events.runtime.connectorinbox import ConnectorInbox, Request
from dbos_events.runtime.intake.pushing import (
    FormedEvent,
    PushedConsumer,
    Reserved,
    Services,
    answered,
    unusable,
)
from dbos_events.runtime.service import Service
from dbos_events.serialization import error_summary, stored_error
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.storage.apart import halved, refuses
from dbos_events.storage.subjects.acceptance import AcceptBatch, Accepted, StoredError
from dbos_events.telemetry.log import Recurring

EVENTS_AT_ONCE = 500
BYTES_AT_ONCE = 8 << 20
"""One transaction takes no more, but always one caller's events."""

MOST_EVENTS = 10_000
MOST_BYTES = 64 << 20
"""What may wait for a transaction; more is refused at once."""

DATABASE_SECONDS = 5.0
BUSY_SECONDS = 1.0
STOPPING_SECONDS = 1.0
"""After so long a sender should try again."""

FORGET_SECONDS = 600.0
"""Between two looks for ids and lanes whose time is over."""
FORGET_AT_ONCE = 1000
IDLE_LANE_MS = 24 * 3600 * 1000

DATABASE = Outcome(
    "refused", None, "database", "the database gave no answer in time; nothing is kept here", DATABASE_SECONDS
)
BUSY = Outcome("refused", None, "busy", "too many events wait to be accepted", BUSY_SECONDS)
STOPPING = Outcome("refused", None, "stopping", "this process is stopping", STOPPING_SECONDS)


class InboxService(Service):
    """Takes what callers have brought, in one transaction after the other; while one is under way, more gathers.

    Nothing is held back to gather more. Callers wait no longer than they say, whatever the database does: their
    events are dropped then, and their senders bring them again.
    """

    name = "inbox"
    takes_work = True

    def __init__(self, services: Services, on_fenced: Callable[[], object]) -> None:
        super().__init__(interval=FORGET_SECONDS)
        self._services = services
        self._core = services.core
        self._on_fenced = on_fenced
        self._lock = threading.Lock()
        self._accepting = threading.Lock()
        self._waiting: deque[Request] = deque()
        self._events = 0
        self._bytes = 0
        self._closed = False
        self._forget_at = time.monotonic() + FORGET_SECONDS
        self._trouble = Recurring()
        self._conflict: StoredError | None = None
        self.consumers: dict[str, PushedConsumer] = {}

    def open(
        self, connector: PushConnector, consumers: Sequence[tuple[Registered, PushOptions]]
    ) -> ConnectorInbox:
        """Register the consumers of a connector; gives what it hands its events to."""
        opened = {}
        for function, options in consumers:
            consumer = PushedConsumer(self._services, connector, function, options)
            consumer.open()
            self.consumers[consumer.name] = opened[consumer.name] = consumer
        return ConnectorInbox(self, self._core, opened)

    @property
    def waiting(self) -> int:
        """Events that wait for a transaction."""
        return self._events

    # -- callers ------------------------------------------------------------------------------

    def submit(self, request: Request) -> Outcome | None:
        """Have the events accepted; gives why they are not even waited for."""
        with self._lock:
            if self._closed or self._core.stopped.is_set():
                return STOPPING
            if self._events and (
                self._events + len(request.events) > MOST_EVENTS or self._bytes + request.size > MOST_BYTES
            ):
                return BUSY
            self._waiting.append(request)
            self._events += len(request.events)
            self._bytes += request.size
        if self._thread is None:  # in tests, which move the services by hand
            self._accept_waiting()
        else:
            self.wake()
        return None

    def result(self, request: Request) -> list[Outcome]:
        """What became of the events; whoever asks waits no longer."""
        with self._lock:
            if request.outcomes is not None:
                return request.outcomes
            request.outcomes = [DATABASE] * len(request.events)
            if not request.taken:
                self._waiting.remove(request)
                self._leave(request)
            return request.outcomes

    def let_go(self) -> None:
        with self._lock:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            for request in waiting:
                self._leave(request)
        for request in waiting:
            self._tell(request, [STOPPING] * len(request.events))
        super().let_go()

    def _leave(self, request: Request) -> None:
        self._events -= len(request.events)
        self._bytes -= request.size

    def _tell(self, request: Request, outcomes: list[Outcome]) -> None:
        with self._lock:
            if request.outcomes is None:
                request.outcomes = outcomes
        request.wake()

    # -- the thread ---------------------------------------------------------------------------

    def tick(self) -> float | None:
        self._accept_waiting()
        if time.monotonic() >= self._forget_at or self._core.clock.manual:
            self._forget_at = time.monotonic() + FORGET_SECONDS
            while self._core.storage.inbox.forget(FORGET_AT_ONCE) == FORGET_AT_ONCE:
                self._accept_waiting()
            self._core.storage.inbox.forget_lanes(IDLE_LANE_MS)
        held_up = [consumer for consumer in tuple(self.consumers.values()) if consumer.holdups.watches]
        for consumer in held_up:
            consumer.look()
        return 1.0 if held_up else None

    def _accept_waiting(self) -> None:
        with self._accepting:
            while requests := self._next():
                try:
                    self._accept(requests)
                except BaseException:
                    for request in requests:
                        self._tell(request, [DATABASE] * len(request.events))
                    raise

    def _next(self) -> list[Request]:
        """Whoever waits, as many as one transaction takes."""
        requests: list[Request] = []
        events = size = 0
        with self._lock:
            while self._waiting:
                first = self._waiting[0]
                if requests and (
                    events + len(first.events) > EVENTS_AT_ONCE or size + first.size > BYTES_AT_ONCE
                ):
                    break
                self._waiting.popleft()
                self._leave(first)
                first.taken = True
                requests.append(first)
                events += len(first.events)
                size += first.size
        return requests

    def _accept(self, requests: Sequence[Request]) -> None:
        """Accept the events of these callers in one transaction, and tell each of them.

        What the database refuses of one of them is found by halving, and refused to that one alone.
        """
        try:
            self._accept_together(requests, patient=len(requests) == 1 and not self._waiting)
        except ExecutorFenced as error:
            self._on_fenced()
            self._refuse(requests, error)
        except Exception as error:
            if len(requests) > 1 and refuses(error):
                self._accept_apart(requests, error)
            elif isinstance(error, StorageError):
                self._refuse(requests, error)
            else:
                raise

    def _accept_apart(self, requests: Sequence[Request], first: Exception) -> None:
        try:
            _, refused = halved(requests, lambda some: self._accept_together(some, patient=False))
        except StorageError as error:
            first, refused = error, []
        for request, why in refused:
            self._refuse([request], why)
        left = [request for request in requests if request.outcomes is None]
        if left:
            self._refuse(left, first)

    def _accept_together(self, requests: Sequence[Request], *, patient: bool) -> None:
        outcomes = self._accepted(requests, patient=patient)
        self._trouble.over("Pushed events are accepted again.")
        for request, told in zip(requests, outcomes, strict=True):
            self._tell(request, told)

    def _refuse(self, requests: Sequence[Request], error: Exception) -> None:
        """Tell these that nothing of theirs was kept: for good where their event cannot be stored, else for now."""
        outcome = DATABASE
        if isinstance(error, BadWrite) and len(requests) == 1:
            outcome = Outcome("refused", None, "event", f"the event cannot be stored: {text_of(error)}")
        else:
            self._trouble.say(
                "Pushed events are refused, since the database does not take them: %s", text_of(error)
            )
        for request in requests:
            self._tell(request, [outcome] * len(request.events))

    def _accepted(self, requests: Sequence[Request], *, patient: bool) -> list[list[Outcome]]:
        for consumer in self.consumers.values():
            consumer.begin()
        formed = [[self._form(event) for event in request.events] for request in requests]
        by_consumer: dict[str, list[FormedEvent]] = {}
        places: dict[str, list[tuple[int, int]]] = {}
        outcomes: list[list[Outcome]] = []
        for number, request in enumerate(requests):
            told: list[Outcome] = []
            for index, one in enumerate(formed[number]):
                if isinstance(one, Outcome):
                    told.append(one)
                    continue
                told.append(DATABASE)
                name = request.events[index].consumer
                by_consumer.setdefault(name, []).append(one)
                places.setdefault(name, []).append((number, index))
            outcomes.append(told)
        if by_consumer:
            until = max(request.deadline for request in requests)
            for name, found in self._transact(by_consumer, until, patient=patient).items():
                for (number, index), outcome in zip(places[name], found, strict=True):
                    outcomes[number][index] = outcome
        return outcomes

    def _form(self, event: PushedEvent) -> FormedEvent | Outcome:
        """The event on its way; an outcome where nothing can be done with it. The others of its batch go on."""
        consumer = self.consumers.get(event.consumer)
        if consumer is None:
            return Outcome("refused", None, "consumer", f"there is no consumer {event.consumer!r}")
        problem = unusable(event)
        if problem is not None:
            return Outcome("refused", None, "event", problem)
        try:
            return consumer.form(event)
        except BaseException as error:
            if is_interrupt(error):
                raise
            self._trouble.say("%s: an event cannot be read: %s", consumer.name, problem_with(error))
            return Outcome("refused", None, "event", f"it cannot be read: {type(error).__name__}")

    def _transact(
        self, events: Mapping[str, list[FormedEvent]], until: float, *, patient: bool
    ) -> dict[str, list[Outcome]]:
        core, storage = self._core, self._core.storage
        rows = tuple(one.row for formed in events.values() for one in formed)
        batch = AcceptBatch(core.executor, core.application, core.version, rows, self._conflicting())
        reserved: dict[str, Reserved] = {}
        with self._services.taken.takings.under_way():
            try:
                for name, formed in events.items():
                    reserved[name] = self.consumers[name].reserve(formed)
                found = answered(core, lambda: storage.inbox.accept(batch), until, patient=patient)
            except BaseException:
                for name, lanes in reserved.items():
                    self.consumers[name].give_up(lanes)
                raise
            return self._carry_out(events, reserved, found)

    def _carry_out(
        self,
        events: Mapping[str, list[FormedEvent]],
        reserved: Mapping[str, Reserved],
        found: Sequence[Accepted],
    ) -> dict[str, list[Outcome]]:
        outcomes: dict[str, list[Outcome]] = {}
        begin = 0
        for name, formed in events.items():
            end = begin + len(formed)
            outcomes[name] = self.consumers[name].carry_out(reserved[name], formed, found[begin:end])
            begin = end
        return outcomes

    def _conflicting(self) -> StoredError:
        """What is stored of every event whose id was used before with other content."""
        if self._conflict is None:
            why = ConflictingDuplicate(
                "Its id was accepted before with other signed content, or another workflow has it. The first one stays as "
                "it is; this one was not run. Redrive it to run it as an event of its own, or discard it."
            )
            codec, text = stored_error(self._core.codecs.default, why)
            kind, message, _ = error_summary(text)
            self._conflict = StoredError(codec, text, kind, message)
        return self._conflict
