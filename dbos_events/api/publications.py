"""Verbs of publications: to whom it may concern, by name and key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.api.messages import check_text, check_timeout, workflow_only
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.engine.context import CURRENT
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.publications import (
    LONGEST_TTL,
    PublicationWait,
    Publishing,
    handler_named,
    publish,
    publish_from_step,
    publish_from_workflow,
)
from dbos_events.errors import DBOSException
from dbos_events.model.publication import WEEK_MS, Matched, WaitFor

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow

WEEK = WEEK_MS / 1000
DEFAULT_TIMEOUT = 60.0
LONGEST = 500
"""Characters of a name or a key."""

Item = WaitFor | tuple[str, str] | tuple[str, str, Any]
"""What `wait_for_any` and `wait_for_all` take: a name and a key, and perhaps a model; or a `WaitFor`."""


class PublicationVerbs(Session):
    """Publishing, and waiting for what is published."""

    def publish(
        self,
        name: str,
        key: str,
        value: Any = None,
        *,
        event_id: str | None = None,
        ttl_seconds: float | None = WEEK,
        on_expired: Callable[..., Any] | str | None = None,
    ) -> None:
        """Publish a value under a name and a key, for whoever waits for it now or until `ttl_seconds` are over.

        It may come before its waiter. All publications of a key are kept, in their order; the same `event_id` is the
        same publication. From a workflow it is published exactly once; from a step once for each attempt; from elsewhere
        once for each call. One that nobody has seen when its time is over is counted and listed as unmatched; None
        keeps it for ever.

        `on_expired` is a workflow, or the name of one, that is started then with an `ExpiredPublication`: once for each
        time that it expires, by any process of the application that has the function.

        Raises:
            DBOSException: An argument is wrong.
            SerializationError: The value cannot be stored.
        """
        refuse_on_loop("publish")
        drive(
            _publish_flow(
                self, Publishing(name, key, value, event_id, ttl_seconds, _handler(self, on_expired))
            )
        )

    def publish_async(
        self,
        name: str,
        key: str,
        value: Any = None,
        *,
        event_id: str | None = None,
        ttl_seconds: float | None = WEEK,
        on_expired: Callable[..., Any] | str | None = None,
    ) -> Coroutine[Any, Any, None]:
        """As `publish`, without blocking the loop."""
        one = Publishing(name, key, value, event_id, ttl_seconds, _handler(self, on_expired))
        return drive_async(_publish_flow(self, one))

    def wait_for(
        self,
        name: str,
        key: str,
        model: Any = None,
        timeout_seconds: float | None = DEFAULT_TIMEOUT,
        take: bool = False,
    ) -> Any:
        """The oldest value published under this name and key that the calling workflow has not got yet; waited for.

        Gives None when none came within `timeout_seconds` of the first run's call; 0 only looks, None waits for ever.
        With `take`, nobody else gets it, and those who wait are served in the order in which they came; without it, all
        get it, each workflow at most once.

        Args:
            name: What kind of thing it is, such as "payment".
            key: Which one, such as the id of an order. Both are compared letter by letter.
            model: A type that the value must fit (pydantic). One that does not raises SerializationError, and
                is not taken.
            timeout_seconds: How long to wait.
            take: Whether the value is for this workflow alone.

        Raises:
            DBOSException: It was not called from a workflow.
        """
        refuse_on_loop("wait_for")
        wait = WaitFor(name, key, model, take)
        return drive(_wait_flow(self, "wait_for", [wait], timeout_seconds))

    def wait_for_async(
        self,
        name: str,
        key: str,
        model: Any = None,
        timeout_seconds: float | None = DEFAULT_TIMEOUT,
        take: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """As `wait_for`, for workflows on an event loop."""
        wait = WaitFor(name, key, model, take)
        return drive_async(_wait_flow(self, "wait_for", [wait], timeout_seconds))

    def wait_for_any(
        self, waits: Sequence[Item], timeout_seconds: float | None = DEFAULT_TIMEOUT
    ) -> Matched | None:
        """As `wait_for`, for the first that comes of several; None when the time is over.

        What comes for the others afterwards stays for the next who waits for it.
        """
        refuse_on_loop("wait_for_any")
        first: Matched | None = drive(_wait_flow(self, "wait_for_any", waits, timeout_seconds))
        return first

    def wait_for_any_async(
        self, waits: Sequence[Item], timeout_seconds: float | None = DEFAULT_TIMEOUT
    ) -> Coroutine[Any, Any, Matched | None]:
        """As `wait_for_any`, for workflows on an event loop."""
        return drive_async(_wait_flow(self, "wait_for_any", waits, timeout_seconds))

    def wait_for_all(
        self, waits: Sequence[Item], timeout_seconds: float | None = DEFAULT_TIMEOUT
    ) -> list[Any] | None:
        """As `wait_for`, until there is one of each; gives the values in the order of `waits`.

        When the time is over before the last one has come it gives None, and has taken none of them.
        """
        refuse_on_loop("wait_for_all")
        values: list[Any] | None = drive(_wait_flow(self, "wait_for_all", waits, timeout_seconds))
        return values

    def wait_for_all_async(
        self, waits: Sequence[Item], timeout_seconds: float | None = DEFAULT_TIMEOUT
    ) -> Coroutine[Any, Any, list[Any] | None]:
        """As `wait_for_all`, for workflows on an event loop."""
        return drive_async(_wait_flow(self, "wait_for_all", waits, timeout_seconds))


def _publish_flow(session: Session, one: Publishing) -> Flow[None]:
    core = session.core
    check_anchor("publish", one.name, one.key)
    check_text("event_id of a publication", one.event_id, optional=True)
    check_timeout("publish", one.ttl, "ttl_seconds")
    if one.ttl is not None and not 0 < one.ttl < LONGEST_TTL:
        raise DBOSException(f"DBOS.publish: ttl_seconds must be above 0, or None for ever, not {one.ttl!r}.")
    scope = CURRENT.get()
    if scope is None:
        return publish(core, one)
    if scope.step is not None:
        return publish_from_step(core, scope.run, one)
    return publish_from_workflow(core, scope.run, scope.run.locate(scope), one)


def _handler(session: Session, on_expired: Callable[..., Any] | str | None) -> str | None:
    """The name of the workflow of `on_expired`, which belongs to the application that publishes."""
    if getattr(on_expired, "__dbos_session__", session) is not session:
        raise DBOSException(
            f"DBOS.publish: on_expired={on_expired!r} belongs to another App than the one that publishes. Give its name."
        )
    return handler_named(on_expired)


def _wait_flow(session: Session, verb: str, items: Sequence[Item], timeout: float | None) -> Flow[Any]:
    """Check what is waited for, and take the place of the call now."""
    core = session.core
    scope = workflow_only(verb)
    timeout = check_timeout(verb, timeout)
    waits = [_wait_of(verb, item) for item in items]
    if not waits:
        raise DBOSException(f"DBOS.{verb} was given nothing to wait for.")
    if len({(one.name, one.key) for one in waits}) < len(waits):
        raise DBOSException(f"DBOS.{verb} was given one name and key twice. Name each once.")
    place = scope.run.locate(scope)
    return PublicationWait(core, scope.run, place, f"DBOS.{verb}", waits, timeout, validated).flow()


def _wait_of(verb: str, item: object) -> WaitFor:
    wait = item
    if isinstance(item, tuple) and 2 <= len(item) <= 3:
        wait = WaitFor(*item)
    if not isinstance(wait, WaitFor):
        raise DBOSException(f"DBOS.{verb} takes (name, key), (name, key, model) or WaitFor, not {item!r}.")
    check_anchor(verb, wait.name, wait.key)
    return wait


def check_anchor(verb: str, name: object, key: object) -> None:
    """Refuse a name or a key that cannot be compared or stored."""
    for what, text in (("name", name), ("key", key)):
        check_text(f"{what} given to DBOS.{verb}", text)
        if len(str(text)) > LONGEST:
            raise DBOSException(
                f"DBOS.{verb}: the {what} has {len(str(text))} characters; at most {LONGEST} can be looked for."
            )


def validated(model: Any, value: Any) -> Any:
    """The value as a model wants it; text and bytes are read as JSON where the model takes neither."""
    if model is None:
        return value
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(model)
    try:
        return adapter.validate_python(value)
    except ValidationError:
        if not isinstance(value, str | bytes):
            raise
        return adapter.validate_json(value)
