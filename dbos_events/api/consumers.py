"""Declaring consumers: the handler, its topics, and how its events are run."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dbos_events.api.decorators import workflow
from dbos_events.api.retries import check_retries
from dbos_events.api.session import Session
from dbos_events.connect import Connector, PushConnector, PushOptions, find_connector
from dbos_events.engine.payload import NO_BINDING, Binding, bind, of_messages
from dbos_events.engine.shapes import check_answers, name_of
from dbos_events.errors import ConnectorError, Quarantine, RegistrationError
from dbos_events.model.dataclass import dataclass
from dbos_events.model.event import (
    Breaker,
    ConsumerOptions,
    OnFailure,
    OnRegression,
    Ordering,
    PayloadCodec,
    Placing,
    Retry,
)
from dbos_events.model.subscription import compiled, is_pattern

if TYPE_CHECKING:
    from dbos_events.engine.registry import Registered
    from dbos_events.model.message_type import MessageType

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", Connector, PushConnector)

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
ORDERINGS = ("none", "partition", "key", "topic")


@dataclass(frozen=True, slots=True)
class ConsumerDeclaration:
    """A handler and what its decorator was asked for."""

    connector: str
    function: Registered
    options: ConsumerOptions

    @property
    def name(self) -> str:
        """The consumer's."""
        return self.options.name


@dataclass(frozen=True, slots=True)
class PushedDeclaration:
    """A handler of pushed events and what it was declared with; the name is filled."""

    connector: str
    function: Registered
    options: PushOptions

    @property
    def name(self) -> str:
        """The consumer's."""
        return self.options.name or self.function.name


class ConsumerHost(Session, Protocol):
    """An App that consumers can be declared on."""

    @property
    def declared(self) -> Sequence[ConsumerDeclaration | PushedDeclaration]: ...

    def add_consumer(self, declaration: ConsumerDeclaration | PushedDeclaration) -> None: ...


@dataclass(frozen=True, slots=True)
class ConsumerRequest:
    """The arguments of the decorator of a connector's consumers, as they were given."""

    connector: str
    config: Mapping[str, Any] | None
    topics: Sequence[str] | str
    in_order: bool | None
    name: str | None
    ordering: Ordering
    ordering_key: Callable[[Any], Any] | None
    when: Callable[[Any], bool] | None
    queue_name: str | None
    batch_size: int | None
    max_in_flight: int | None
    retries: Retry | None
    on_failure: OnFailure
    on_regression: OnRegression
    strict_key_order: bool
    codec: PayloadCodec | None = None
    breaker: Breaker | None = None
    publishes: Callable[[Any], Any] | None = None
    placing: Placing | None = None
    expires: Callable[[Any], Any] | None = None
    on_expired: Callable[..., Any] | None = None
    namespace: Mapping[str, Any] | None = None

    @property
    def decorator(self) -> str:
        """What the decorator is called, in errors."""
        return f"{self.connector}_consumer"

    @property
    def chosen_ordering(self) -> Ordering:
        """`in_order` is the older spelling of ordering='topic'."""
        return "topic" if self.in_order and self.ordering == "none" else self.ordering


def declare_consumer(app: ConsumerHost, request: ConsumerRequest) -> Callable[[F], F]:
    """The decorator that makes a handler of what `request` asks for.

    Raises:
        RegistrationError: An option is wrong.
    """
    ordering = request.chosen_ordering
    _check_ordering(ordering, request)
    topics = (request.topics,) if isinstance(request.topics, str) else tuple(request.topics)

    def decorate(given: F | None) -> F:
        function = _only_published(request) if given is None else given
        decorated, entry = workflow_of(app, function, request.name)
        name = request.name or entry.name
        local_names = sys._getframe(1).f_locals if request.namespace is None else request.namespace  # noqa: SLF001
        connector = connector_of(request.connector, Connector)
        binding = bind(
            name, function, request.codec, request.when, local_names, connector.messages, request.expires,
            _late_workflow(app, request, name),
        )  # fmt: skip
        key = request.ordering_key
        if key is not None:
            described = f"Consumer {name!r}: its ordering_key"
            key = of_messages(described, key, request.codec, local_names, connector.messages)
        options = ConsumerOptions(
            name=name,
            topics=topics,
            config=dict(request.config or {}),
            ordering=ordering,
            queue_name=request.queue_name,
            batch_size=500 if request.batch_size is None else request.batch_size,
            max_in_flight=1000 if request.max_in_flight is None else request.max_in_flight,
            on_failure=request.on_failure,
            on_regression=request.on_regression,
            retries=request.retries,
            ordering_key=key,
            strict_key_order=request.strict_key_order,
            breaker=request.breaker,
            publishes=None
            if request.publishes is None
            else of_publications(name, request.publishes, request.codec, local_names, connector.messages),
            starts=given is not None,
            placing=_placing(name, request, local_names, connector.messages),
        )
        _check(options, request.decorator)
        connector.check(options)
        attach(app, entry, binding, connector.messages, name)
        app.add_consumer(ConsumerDeclaration(request.connector, entry, options))
        entry.consumers[name] = topics
        return decorated

    return decorate


def _only_published(request: ConsumerRequest) -> Any:
    """Stands for the handler of a consumer that has none.

    Raises:
        RegistrationError: It would do nothing at all, or has no name.
    """
    if request.publishes is None or request.name is None:
        raise RegistrationError(
            f"{request.decorator}: without a handler it needs publishes=..., which says what is published of a record, "
            "and name=..."
        )

    def nothing(message: Any) -> None:  # noqa: ARG001 - what a handler takes
        """Called for records that could not be published, once they are redriven."""
        raise Quarantine(
            "It was not published: discard it, or deploy a mended `publishes` and publish it by hand."
        )

    nothing.__name__ = nothing.__qualname__ = request.name
    return nothing


def of_publications(
    name: str,
    function: Callable[[Any], Any],
    codec: PayloadCodec | None,
    namespace: Mapping[str, Any],
    messages: Any,
) -> Callable[[Any], tuple[Any, Any]]:
    """The function, for messages; gives what it was asked with beside its answer."""
    described = f"Consumer {name!r}: its publishes"
    check_answers(described, function)

    @functools.wraps(function)
    def noting(asked: Any) -> tuple[Any, Any]:
        return function(asked), asked

    bound = of_messages(described, noting, codec, namespace, messages)
    if bound is not noting:
        return bound

    def of_message(message: Any) -> tuple[Any, Any]:
        return function(message), message.value

    return of_message


def connector_of(name: str, kind: type[C]) -> C:
    """The installed connector of that name and size.

    Raises:
        RegistrationError: It is not installed, or events come through it in another way.
    """
    try:
        connector = find_connector(name)
    except ConnectorError as error:
        raise RegistrationError(str(error)) from error
    if not isinstance(connector, kind):
        raise RegistrationError(
            f"The connector {name!r} is a {type(connector).__name__}, not a {kind.__name__}."
        )
    return connector


def workflow_of(app: ConsumerHost, function: F, name: str | None) -> tuple[F, Registered]:
    """The handler as a workflow: `@DBOS.workflow()` below the consumer is allowed, and implied.

    One without a name of its own, such as a partial, gets that of the consumer.
    """
    if getattr(function, "__dbos_step__", False):
        raise RegistrationError(
            f"{name_of(function) or repr(function)} is a step, and a consumer's handler is a workflow: take @DBOS.step() "
            "away, or call the step from a handler of its own. What it does is then recorded step by step."
        )
    if getattr(function, "__dbos_session__", None) is None:
        own = None if name_of(function) is not None else name
        decorated: F = workflow(app, function, own, 100)  # type: ignore[assignment]
    else:
        decorated = function
    if getattr(decorated, "__dbos_session__", None) is not app:
        raise RegistrationError(f"{function.__qualname__} is a workflow of another App than its consumer.")
    entry = app.registry.workflows[decorated.__dbos_name__]  # type: ignore[attr-defined]
    if decorated is not entry.wrapper:
        raise RegistrationError(
            f"{entry.name}: a decorator stands between the workflow and its consumer, so it would not run for events. "
            "Put it below @DBOS.workflow()."
        )
    return decorated, entry


def attach(
    app: ConsumerHost, entry: Registered, binding: Binding | None, messages: MessageType, name: str
) -> None:
    """Events of one function are bound in one way, whichever process takes them up."""
    declared = (known.function for known in app.declared)
    known = next((one for one in declared if one.name == entry.name and not one.replaced), None)
    if known is not None:
        if known.messages is not messages:
            raise RegistrationError(
                f"Consumer {name!r}: its handler {entry.name} handles events of another connector already. Events find "
                "their message by their function: give each consumer a function of its own."
            )
        # Not that of `entry`: a plain function that is declared once more has a new entry, without a binding yet.
        before, now = known.binding or NO_BINDING, binding or NO_BINDING
        if _judged(before) != _judged(now):
            raise RegistrationError(
                f"Consumer {name!r}: its handler {entry.name} has a consumer with another codec or another `when`, "
                "`expires` or `on_expired` already. Events find them by their function: give each consumer a function of "
                "its own."
            )
    entry.binding = binding
    entry.messages = messages


def _judged(binding: Binding) -> tuple[object, ...]:
    """What has to be the same for all consumers of one function."""
    late = None if binding.late is None else binding.late.name
    return binding.codec, binding.rule, binding.expires, late


def _late_workflow(
    app: ConsumerHost, request: ConsumerRequest, consumer: str
) -> tuple[str, Callable[..., Any]] | None:
    """Name and function of the workflow behind `on_expired`."""
    if request.on_expired is None:
        return None
    if request.expires is None:
        raise RegistrationError(
            f"Consumer {consumer!r}: on_expired=... is about events that are too late, so it needs expires=..., which "
            "says until when an event may begin."
        )
    entry = workflow_of(app, request.on_expired, f"{consumer}-expired")[1]
    return entry.name, entry.function


def _check(options: ConsumerOptions, decorator: str) -> None:
    if not options.topics:
        raise RegistrationError(f"Consumer {options.name!r} names no topic: {decorator}(config, ['orders']).")
    if options.batch_size < 1 or options.max_in_flight < 1:
        raise RegistrationError(
            f"Consumer {options.name!r}: batch_size and max_in_flight must be at least 1."
        )
    if options.on_failure not in ("quarantine", "record"):
        raise RegistrationError(
            f"Consumer {options.name!r}: on_failure must be 'quarantine' or 'record', not {options.on_failure!r}."
        )
    problem = options.breaker.problem() if options.breaker is not None else None
    if problem is not None:
        raise RegistrationError(f"Consumer {options.name!r}: the breaker cannot be used: {problem}.")
    check_retries(options.name, options.retries)
    if options.on_regression not in ("replay", "halt"):
        raise RegistrationError(
            f"Consumer {options.name!r}: on_regression must be 'replay' or 'halt', not {options.on_regression!r}."
        )
    _check_names(options)
    _check_patterns(options)


def _check_names(options: ConsumerOptions) -> None:
    """What no broker accepts as a name would be waited for without end."""
    for topic in options.topics:
        if not isinstance(topic, str):
            raise RegistrationError(f"Consumer {options.name!r}: {topic!r} is not the name of a topic.")
        if is_pattern(topic) or (_TOPIC.fullmatch(topic) and topic not in (".", "..")):
            continue
        legal = re.sub(r"[^a-zA-Z0-9._-]+", "-", topic).strip("-")[:249]
        hint = f" Did you mean {legal!r}?" if legal and legal not in (".", "..") else ""
        raise RegistrationError(
            f"Consumer {options.name!r}: {topic!r} cannot be the name of a topic. Use at most 249 of the letters a to z, "
            f"digits, '.', '_' and '-'.{hint} A pattern begins with ^."
        )


def _check_patterns(options: ConsumerOptions) -> None:
    for subscription in filter(is_pattern, options.topics):
        try:
            compiled(subscription)
        except re.error as error:
            raise RegistrationError(
                f"Consumer {options.name!r}: {subscription!r} begins with ^, so it is a pattern, and none that can be "
                f"read: {error}."
            ) from error


def _placing(
    name: str, request: ConsumerRequest, local_names: Mapping[str, Any], messages: MessageType
) -> Placing | None:
    """The functions that place events on the queue, for messages; None where the consumer has none."""
    wanted = request.placing or Placing()
    asked = {"priority": wanted.priority, "partition": wanted.partition, "delay": wanted.delay}
    shown = {"partition": "queue_partition_key", "delay": "delay_seconds"}
    given = {part: function for part, function in asked.items() if function is not None}
    if not given:
        return None
    if request.queue_name is None:
        first = shown.get(next(iter(given)), next(iter(given)))
        raise RegistrationError(f"Consumer {name!r}: {first}=... is about its queue, so it needs queue_name.")
    bound = {}
    for part, function in given.items():
        described = f"Consumer {name!r}: its {shown.get(part, part)}"
        check_answers(described, function)
        bound[part] = of_messages(described, function, request.codec, local_names, messages)
    return Placing(**bound)


def _check_ordering(ordering: str, request: ConsumerRequest) -> None:
    if ordering not in ORDERINGS:
        raise RegistrationError(
            f"{request.decorator}: ordering must be one of {ORDERINGS}, not {ordering!r}."
        )
    if request.ordering_key is not None and ordering != "key":
        raise RegistrationError(
            f"{request.decorator}: ordering_key=... says what ordering='key' orders by, and the ordering is {ordering!r}."
        )
    if request.ordering_key is not None:
        check_answers(f"{request.decorator}: its ordering_key", request.ordering_key)
    if request.strict_key_order and ordering != "key":
        raise RegistrationError(
            f"{request.decorator}: strict_key_order=True is about ordering='key', and the ordering is {ordering!r}."
        )
    if request.in_order and request.ordering not in ("none", "topic"):
        raise RegistrationError(
            f"{request.decorator}: in_order=True is the older spelling of ordering='topic', and the ordering is "
            f"{request.ordering!r}. Leave in_order out."
        )
    if request.queue_name is not None and ordering != "none":
        raise RegistrationError(
            f"{request.decorator}: a queue runs its workflows in any order, so queue_name goes with "
            f"ordering='none', not {ordering!r}."
        )
