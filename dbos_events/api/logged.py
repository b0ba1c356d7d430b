"""Declaring consumers of a log, for a connector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dbos_events.api.consumers import ConsumerHost, ConsumerRequest, declare_consumer
from dbos_events.api.session import Session
from dbos_events.model.event import Placing

if TYPE_CHECKING:
    from dbos_events.connect import LogOptions

G = TypeVar("G", bound=Callable[..., Any] | None)


class LogConsumers(Session):
    """What a connector declares its consumers with."""

    def log_consumer(self, connector: str, options: LogOptions) -> Callable[[G], G]:
        """Run the function as a durable workflow for each record of a log, exactly once.

        For connectors, which have a decorator of their own; `dbos_events.connect` has the contract (docs/connectors.md). The
        annotation of the function's argument says what it gets: the connector's message, or its value, decoded and
        validated. With `publishes` and a `name`, None in the place of a function starts no workflow.

        Args:
            connector: The name that the connector is registered under.
            options: What is read, and how its events are run.

        Raises:
            RegistrationError: An option is wrong, two consumers have one name, or an annotation does not fit.
            DBOSInitializationError: The App is launched already.
        """
        return declare_consumer(  # type: ignore[return-value]
            cast("ConsumerHost", self),
            ConsumerRequest(
                connector=connector,
                config=options.config,
                topics=options.topics,
                in_order=None,
                name=options.name,
                ordering=options.ordering,
                ordering_key=options.ordering_key,
                when=options.when,
                queue_name=options.queue_name,
                batch_size=options.batch_size,
                max_in_flight=options.max_in_flight,
                retries=options.retries,
                on_failure=options.on_failure,
                on_regression=options.on_regression,
                strict_key_order=options.strict_key_order,
                codec=options.codec,
                breaker=options.breaker,
                publishes=options.publishes,
                placing=Placing(options.priority, options.queue_partition_key, options.delay_seconds),
                expires=options.expires,
                on_expired=options.on_expired,
                namespace=options.namespace,
            ),
        )
