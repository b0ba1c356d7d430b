"""How a connector for a log declares its consumers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from dbos_events.model.dataclass import dataclass, field
from dbos_events.model.event import Breaker, OnFailure, OnRegression, Ordering, PayloadCodec, Retry

F = TypeVar("F", bound=Callable[..., Any] | None)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is read of a log, and how its events are run. A connector fills it from its own decorator.

    Functions over an event are called with the message, or with its value where their argument is annotated with a type.

    Args:
        topics: One topic or several; each a name of at most 249 letters, digits, `.`, `_` and `-`, or a pattern that begins
            with `^`, if the connector knows patterns.
        name: The consumer's name in the database and the command line; the handler's by default.
        ordering: "none": events run at once; "partition", "key", "topic": one after the other of each.
        ordering_key: With ordering="key": gives the key of an event; the record's key by default.
        strict_key_order: With ordering="key": partitions that are added to a topic wait for what lay in the others.
        when: Which records start a workflow; the others are counted.
        codec: Makes values of the records' bytes; JSON by default.
        queue_name: Enqueue the workflows; any process that serves the queue runs them.
        priority: With queue_name: the priority of each event, from 1 on (lower first), or None.
        queue_partition_key: With queue_name: the partition of the queue that it belongs to.
        delay_seconds: With queue_name: how long it waits before its turn, or None.
        expires: Until when an event may begin; one that is too late ends as EXPIRED, without a run.
        on_expired: With expires: what is run, as a workflow of its own, once for each event that is too late.
        publishes: Gives (name, key), or (name, key, value), to be published with the intake of each record; or None.
        batch_size: Records per transaction at most.
        max_in_flight: Events that run in this process at once; more stay in the log.
        retries: How often, and with what pauses, a failed event is run again.
        on_failure: "quarantine": a failed event is put aside and, with an order, holds those behind it; "record": it ends
            as ERROR, and the next one runs.
        on_regression: What to do when the database went back behind what the log knows to be taken in: "replay" the events
            between, or "halt" the partition until an operator decides. For connectors whose log knows.
        breaker: When nothing more is taken in because the handler fails; None: never.
        config: The connector's own. Its source finds it in `intake.options.config`; it is not stored.
        namespace: Local names where the handler is defined, to resolve its annotations. By default those of the frame
            that the decorator is called in.
    """

    topics: Sequence[str] | str
    name: str | None = None
    ordering: Ordering = "none"
    ordering_key: Callable[[Any], Any] | None = None
    strict_key_order: bool = False
    when: Callable[[Any], bool] | None = None
    codec: PayloadCodec | None = None
    queue_name: str | None = None
    priority: Callable[[Any], Any] | None = None
    queue_partition_key: Callable[[Any], Any] | None = None
    delay_seconds: Callable[[Any], Any] | None = None
    expires: Callable[[Any], Any] | None = None
    on_expired: Callable[..., Any] | None = None
    publishes: Callable[[Any], Any] | None = None
    batch_size: int = 500
    max_in_flight: int = 1000
    retries: Retry | None = None
    on_failure: OnFailure = "quarantine"
    on_regression: OnRegression = "replay"
    breaker: Breaker | None = field(default_factory=Breaker)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    namespace: Mapping[str, Any] | None = field(default=None, repr=False)


class LogHost(Protocol):
    """An App (or `DBOS`), on which a connector declares its consumers."""

    def log_consumer(self, connector: str, options: LogOptions) -> Callable[[F], F]:
        """The decorator that makes a handler the durable workflow of each record of a consumer's topics.

        `connector` is the name under which the connector is registered. Declare before the App is launched. With
        `publishes` and a `name`, None in the place of the handler starts no workflow.

        Raises:
            RegistrationError: An option is wrong, two consumers have one name, or an annotation does not fit.
            DBOSInitializationError: The App is launched already.
        """
        ...
