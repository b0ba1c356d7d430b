"""The contract between a connector whose events are pushed and the core (docs/protocol.md, rule 26).

A pushed event comes once by itself, and again only when its sender decides so: nobody reads it from a position. So there
are no partitions, offsets or positions here. The connector receives, says what is genuine and what the event's id is,
and asks the `Inbox` to **accept** it. It tells its sender "received" only when the outcome says `durable`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

from dbos_events.model.dataclass import dataclass, field
from dbos_events.model.event import Breaker, OnFailure, PayloadCodec, Retry

F = TypeVar("F", bound=Callable[..., Any])

Headers = Sequence[tuple[str, bytes | None]]

REMEMBERED_SECONDS = 90 * 24 * 3600.0
"""How long the ids of events are remembered, where a consumer does not say it: far longer than senders try again."""


@dataclass(frozen=True, slots=True)
class PushedEvent:
    """One event for one consumer, as it was received.

    An event that several handlers are to run for is one `PushedEvent` for each of them, in one `accept`.

    Args:
        consumer: The name of a consumer that was declared with this connector.
        event_id: What tells it from every other event of this consumer, compared exactly; any text but an empty one. Where
            the sender gives none, it is a digest of the signed bytes, never of headers that change when it is sent again.
        payload: The bytes that the handler's value is decoded from.
        fingerprint: A digest of all that the sender signed (SHA-256 of the body, say): the same id with another
            fingerprint is a conflicting duplicate.
        received_at: Milliseconds since 1970.
        lane: Events of a consumer with the same lane run one after the other, in the order in which they were accepted;
            None: in any order. Where the consumer has an `ordering_key`, that says it, and this is left None.
        headers: As they came, without secrets: they are stored. A value is bytes.
        content_type: Of the payload, as the sender said it.
    """

    consumer: str
    event_id: str
    payload: bytes = field(repr=False)
    fingerprint: bytes
    received_at: int
    lane: str | None = None
    headers: Headers = field(default=(), repr=False)
    content_type: str | None = None


OutcomeKind = Literal["accepted", "duplicate", "conflicting-duplicate", "filtered", "paused", "refused"]

Cause = Literal["", "pause", "breaker", "quota", "database", "busy", "stopping", "consumer", "event"]
"""Why an event was not taken in. `consumer` and `event` (an unknown consumer, an empty id) do not pass with time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event.

    | kind | what it means |
    | --- | --- |
    | `accepted` | its workflow is in the database now, and is run exactly once |
    | `duplicate` | it was accepted before; `workflow_id` is the same as the first time |
    | `conflicting-duplicate` | its id was accepted before with another fingerprint: it is in quarantine, as `workflow_id` |
    | `filtered` | the consumer's `when` said no: counted, without a workflow |
    | `paused` | nothing was taken in: an operator's pause or the circuit breaker; `cause` says which |
    | `refused` | nothing was taken in; `cause` and `reason` say why |

    Args:
        kind: See above.
        workflow_id: The workflow of the event; None where there is none.
        cause: Of `paused` and `refused`, for programs.
        reason: The same for people: a sentence without secrets or payload.
        retry_after: Seconds after which the sender should try again; None where it never helps.
    """

    kind: OutcomeKind
    workflow_id: str | None = None
    cause: Cause = ""
    reason: str = ""
    retry_after: float | None = None

    @property
    def durable(self) -> bool:
        """Whether the sender may be told that the event was received: it will not be lost, nor run twice."""
        return self.kind not in ("paused", "refused")


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How the events of one pushed consumer are run. A connector fills it from its own decorator.

    Args:
        name: The consumer's name, in the ids of its events, the database and the command line: unique in the
            application, and kept when the handler is renamed. The handler's name by default.
        ordering_key: From the message, or from its value where its argument is annotated with a type, to bytes, text, a
            number, or None: events with the same key run in the order in which they were accepted.
        when: Which events start a workflow; called as `ordering_key`. The others are counted.
        codec: Makes values of payloads; JSON by default.
        queue_name: Enqueue the workflows; not with an order.
        max_in_flight: Events that run in this process at once. More are accepted, and any process runs them.
        retries: How often, and with what pauses, a failed event is run again.
        on_failure: "quarantine": a failed event is put aside and, with an order, holds those behind it; "record": it ends
            as ERROR, and the next one runs.
        breaker: When nothing more is accepted because the handler fails; None: never.
        remembered_seconds: How long an id is known after its event was accepted: a redelivery within it starts nothing.
        addresses: Where the events come in, such as a path: shown by commands, and nothing else.
        config: The connector's own; it is not stored.
        namespace: Local names where the handler is defined, to resolve its annotations.
    """

    name: str | None = None
    ordering_key: Callable[[Any], Any] | None = None
    when: Callable[[Any], bool] | None = None
    codec: PayloadCodec | None = None
    queue_name: str | None = None
    max_in_flight: int = 1000
    retries: Retry | None = None
    on_failure: OnFailure = "quarantine"
    breaker: Breaker | None = field(default_factory=Breaker)
    remembered_seconds: float = REMEMBERED_SECONDS
    addresses: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    namespace: Mapping[str, Any] = field(default_factory=dict, repr=False)


class PushHost(Protocol):
    """An App (or `DBOS`), on which a connector declares its consumers."""

    def pushed_consumer(self, connector: str, options: PushOptions) -> Callable[[F], F]:
        """The decorator that makes a handler the durable workflow of each event of a pushed consumer.

        `connector` is the name under which the connector is registered. Declare before the App is launched.

        Raises:
            RegistrationError: An option is wrong, two consumers have one name, or an annotation does not fit.
            DBOSInitializationError: The App is launched already.
        """
        ...


class Inbox(Protocol):
    """The core's side of all pushed consumers of one connector, while the App is launched."""

    @property
    def consumers(self) -> Mapping[str, PushOptions]:
        """The declared consumers, by name; `name` of each is filled."""
        ...

    def accept(self, events: Sequence[PushedEvent], *, timeout_seconds: float = 2.5) -> list[Outcome]:
        """Make events durable and start their workflows, exactly once each; gives an outcome for each, in order.

        All of `events` that are taken in are so in one transaction, together with those of other callers that wait at this
        moment. It waits for that transaction (nothing is held back to gather more), and never for a handler. It
        returns after `timeout_seconds` at the latest: what the database did not answer for is `refused` with the cause
        `database`. It is not kept in memory; it may have become durable all the same, and is a duplicate when it is
        sent again.

        From any thread without a running loop. Never raises for what an event or the database is like.

        Raises:
            DBOSException: It was called where a loop runs, which it would block.
        """
        ...

    async def accept_async(
        self, events: Sequence[PushedEvent], *, timeout_seconds: float = 2.5
    ) -> list[Outcome]:
        """As `accept`, without blocking the loop. If the caller is cancelled, the events may be durable or not."""
        ...

    def workflow_id(self, consumer: str, event_id: str) -> str:
        """The id of the workflow that an event starts, whether or not it was accepted yet."""
        ...

    def problem(self, event: PushedEvent) -> str | None:
        """Why the content of an event is not what the handler of its consumer takes; None where it is, or is not looked at.

        For a connector that refuses such events instead of having them accepted, which puts them into quarantine later.
        Calls the user's filter and codec.
        """
        ...

    def closed_by(self, consumer: str) -> str:
        """Why the consumer takes nothing in now (a pause, its circuit breaker); empty when it does. Never blocks."""
        ...

    def report(self, consumer: str, state: str, detail: str | None = None) -> None:
        """Store what the status shows of this process's part of the consumer ("listening", "closed")."""
        ...
