"""Declaring consumers whose events are pushed, for a connector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dbos_events.api.consumers import ConsumerHost, PushedDeclaration, attach, connector_of, workflow_of
from dbos_events.api.retries import check_retries
from dbos_events.api.session import Session
from dbos_events.connect import PushConnector, PushOptions
from dbos_events.engine.payload import bind, of_messages
from dbos_events.engine.shapes import check_answers
from dbos_events.errors import RegistrationError

if TYPE_CHECKING:
    from dbos_events.model.event import PayloadCodec
    from dbos_events.model.message_type import MessageType

F = TypeVar("F", bound=Callable[..., Any])


class PushedConsumers(Session):
    """What a connector declares its consumers with."""

    def pushed_consumer(self, connector: str, options: PushOptions) -> Callable[[F], F]:
        """Run the function as a durable workflow for each event that a connector's senders push, exactly once.

        For connectors, which have a decorator of their own; `dbos_events.connect` has the contract. The annotation of the
        function's argument says what it gets: the connector's message, or its value, decoded and validated.

        Args:
            connector: The name that the connector is registered under.
            options: How its events are run.

        Raises:
            RegistrationError: An option is wrong, two consumers have one name, or an annotation does not fit.
            DBOSInitializationError: The App is launched already.
        """
        app = cast("ConsumerHost", self)
        found = connector_of(connector, PushConnector)

        def decorate(function: F) -> F:
            decorated, entry = workflow_of(app, function, options.name)
            name = options.name or entry.name
            _check(name, options)
            binding = bind(name, function, options.codec, options.when, options.namespace, found.messages)
            key = _ordering_key(name, options, found.messages)
            attach(app, entry, binding, found.messages, name)
            declared = PushedDeclaration(connector, entry, replace(options, name=name, ordering_key=key))
            app.add_consumer(declared)
            entry.consumers[name] = (
                f"{connector}/{name}",
            )  # where they come in may differ between processes
            return decorated

        return decorate


def _ordering_key(name: str, options: PushOptions, messages: MessageType) -> Callable[[Any], Any] | None:
    if options.ordering_key is None:
        return None
    described = f"Consumer {name!r}: its ordering_key"
    check_answers(described, options.ordering_key)
    codec: PayloadCodec | None = options.codec
    return of_messages(described, options.ordering_key, codec, options.namespace, messages)


def _check(name: str, options: PushOptions) -> None:
    if options.max_in_flight < 1:
        raise RegistrationError(f"Consumer {name!r}: max_in_flight must be at least 1.")
    if options.on_failure not in ("quarantine", "record"):
        raise RegistrationError(
            f"Consumer {name!r}: on_failure must be 'quarantine' or 'record', not {options.on_failure!r}."
        )
    if not options.remembered_seconds > 0:
        raise RegistrationError(
            f"Consumer {name!r}: remembered_seconds must be above 0, not {options.remembered_seconds!r}: an id that is not "
            "remembered lets its event run twice."
        )
    problem = options.breaker.problem() if options.breaker is not None else None
    if problem is not None:
        raise RegistrationError(f"Consumer {name!r}: the breaker cannot be used: {problem}.")
    check_retries(name, options.retries)
    if options.queue_name is not None and options.ordering_key is not None:
        raise RegistrationError(
            f"Consumer {name!r}: a queue runs its workflows in any order, so queue_name does not go with ordering_key."
        )
