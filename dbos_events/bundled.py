"""What is typed for the connectors that come with this package: decorators, messages, sections of the settings.

Another connector brings its own decorator, and its section is as good without a type. Nothing else in this package knows
a connector by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dbos_events.api.session import Session
from dbos_events.api.wording import decorator_options
from dbos_events.config import CoreConfig
from dbos_events.model.event import Breaker, OnFailure, OnRegression, Ordering, PayloadCodec, Placing, Retry

if TYPE_CHECKING:
    from dbos_events.api.consumers import ConsumerHost
    from dbos_events_kafka.message import KafkaMessage

__all__ = ["DBOSConfig", "KafkaMessage"]

G = TypeVar("G", bound=Callable[..., Any] | None)

MESSAGES = {"KafkaMessage": "dbos_events_kafka.message"}
"""Names that users import from `dbos_events` and that a connector defines; each is imported when it is asked for."""

_BREAKER = Breaker()


class DBOSConfig(CoreConfig, total=False):
    """Keys of `DBOS(config=...)`; see docs/settings.md.

    A key that is left out comes from the environment, then from the settings file, then from its default. A mapping
    of another type may have a section for each installed connector, under its name.
    """

    kafka: Mapping[str, Any]


class BundledConsumers(Session):
    """Decorators for consumers."""

    @decorator_options
    def kafka_consumer(  # noqa: PLR0913 - the options of one declaration
        self,
        config: Mapping[str, Any] | None = None,
        topics: Sequence[str] | str = (),
        in_order: bool | None = None,
        *,
        name: str | None = None,
        ordering: Ordering = "none",
        ordering_key: Callable[[Any], Any] | None = None,
        when: Callable[[Any], bool] | None = None,
        queue_name: str | None = None,
        batch_size: int | None = None,
        max_in_flight: int | None = None,
        retries: Retry | None = None,
        on_failure: OnFailure = "quarantine",
        on_regression: OnRegression = "replay",
        strict_key_order: bool = False,
        codec: PayloadCodec | None = None,
        breaker: Breaker | None = _BREAKER,
        publishes: Callable[[Any], Any] | None = None,
        priority: Callable[[Any], Any] | None = None,
        queue_partition_key: Callable[[Any], Any] | None = None,
        delay_seconds: Callable[[Any], Any] | None = None,
        expires: Callable[[Any], Any] | None = None,
        on_expired: Callable[..., Any] | None = None,
    ) -> Callable[[G], G]:
        """Run the function as a durable workflow for each record of the topics, exactly once.

        The annotation of its argument says what it gets: the message, or its value as bytes, text, or
        decoded and validated (docs/payloads.md). A record that does not fit is put into quarantine.

        A record is taken in together with its partition's next offset in one transaction, so it starts
        one workflow whatever crashes, is redelivered or reassigned. Steps within are at-least-once.

        Args:
            config: Settings of the Kafka client, over those of the environment and the settings file.
            topics: One topic or several.
            in_order: Older spelling of `ordering="topic"`.
            name: The consumer's name in the database and the command line; the handler's by default.
            ordering: "none": events run at once; "partition", "key", "topic": one after the other of each.
            ordering_key: With ordering="key": gives the key of a message; the record's key by default.
            queue_name: Enqueue the workflows instead; any process that serves the queue runs them.
            batch_size: Records per transaction at most (500).
            max_in_flight: Events that run here at once (1000); more stay in Kafka.
            on_failure: "quarantine": a failed event is put aside and, with order, holds those behind it;
                "record": it ends as ERROR and the next one runs.
            when: Which records start a workflow: called with the message, or with its value where its own
                argument is annotated with a type. Those that it says no to are counted, and nothing else.
            codec: Makes values of the records' bytes, for handlers that take something else than bytes or
                text; JSON by default.
            retries: How often, and with what pauses, an event whose handler fails is tried again, before
                `on_failure` counts. A retry repeats the failed step and nothing that succeeded.
            on_regression: What to do when the database went back behind what Kafka knows to be taken in: "replay"
                the events between, or "halt" the partition until an operator decides.
            strict_key_order: With ordering="key": partitions that are added to a topic wait until all that lay in
                the others at that moment has finished, since keys move.
            publishes: Gives (name, key), or (name, key, value), to be published with the intake of each record; or None.
                Called as `when` is. With None for the handler, records start no workflow.
            breaker: When to stop taking events in because the handler fails; None: never.
            priority: With queue_name: the priority of each event, from 1 on (lower first), or None; called as `when`. So are
            queue_partition_key: the partition of the queue that it belongs to, and
            delay_seconds: how long it waits before its turn, or None.
            expires: Called as `when` is; gives until when an event may begin (docs/timeouts.md). One that is too late
                when its turn comes ends as EXPIRED, without a run, and frees its lane.
            on_expired: With expires: a function, sync or async, that takes what a handler takes. It is run as a workflow
                of its own, once for each event that is too late; its id is that of the event and `/expired`.

        Raises:
            RegistrationError: An option is wrong, or the kafka extra is not installed.
        """
        from dbos_events.api.consumers import (
            ConsumerRequest,
            declare_consumer,
        )  # with the contract of connectors

        return declare_consumer(  # type: ignore[return-value]
            cast("ConsumerHost", self),
            ConsumerRequest(
                "kafka", config, topics, in_order, name, ordering, ordering_key, when, queue_name, batch_size, max_in_flight,
                retries, on_failure, on_regression, strict_key_order, codec, breaker,
                publishes, Placing(priority, queue_partition_key, delay_seconds), expires,
                on_expired,
            ),
        )  # fmt: skip
