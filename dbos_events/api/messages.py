"""Verbs of messages between workflows, and to workflows."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.engine.context import CURRENT, Scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.messages import (
    SEND,
    SEND_BULK,
    Outgoing,
    recv,
    send,
    send_from_step,
    send_from_workflow,
)
from dbos_events.errors import DBOSException
from dbos_events.model.message import SendMessage
from dbos_events.model.times import LONGEST_WAIT

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow

DEFAULT_TIMEOUT = 60.0


class Messages(Session):
    """Sending to workflows, and receiving in them."""

    def send(
        self,
        destination_id: str,
        message: Any,
        topic: str | None = None,
        *,
        idempotency_key: str | None = None,
        serialization_type: Any = None,
        send_to_forks: bool = False,
    ) -> None:
        """Send a message to a workflow, which gets it by `recv` of the same topic; durable when this returns.

        Messages of one sender arrive in the order in which they were sent. From a workflow a message is sent exactly
        once; from a step once for each attempt; from elsewhere once for each call. The same `idempotency_key` to the same
        destination is the same message, whoever sends it. `serialization_type` is taken and has no effect.

        Raises:
            DBOSNonExistentWorkflowError: There is no workflow with that id.
        """
        refuse_on_loop("send")
        message_ = SendMessage(destination_id, message, topic, idempotency_key)
        drive(_send_flow(self, SEND, [message_], forks=send_to_forks))

    def send_async(
        self,
        destination_id: str,
        message: Any,
        topic: str | None = None,
        *,
        idempotency_key: str | None = None,
        serialization_type: Any = None,
        send_to_forks: bool = False,
    ) -> Coroutine[Any, Any, None]:
        """As `send`, without blocking the loop."""
        message_ = SendMessage(destination_id, message, topic, idempotency_key)
        return drive_async(_send_flow(self, SEND, [message_], forks=send_to_forks))

    def send_bulk(
        self,
        messages: Sequence[SendMessage],
        *,
        serialization_type: Any = None,
        send_to_forks: bool = False,
    ) -> None:
        """Send several messages in one transaction: all of them, or none.

        Raises:
            DBOSNonExistentWorkflowError: One of the destinations does not exist.
            DBOSException: Two of them have the same key and the same destination.
        """
        refuse_on_loop("send_bulk")
        drive(_send_flow(self, SEND_BULK, messages, forks=send_to_forks))

    def send_bulk_async(
        self,
        messages: Sequence[SendMessage],
        *,
        serialization_type: Any = None,
        send_to_forks: bool = False,
    ) -> Coroutine[Any, Any, None]:
        """As `send_bulk`, without blocking the loop."""
        return drive_async(_send_flow(self, SEND_BULK, messages, forks=send_to_forks))

    def recv(self, topic: str | None = None, timeout_seconds: float | None = DEFAULT_TIMEOUT) -> Any:
        """The oldest message to the calling workflow of this topic, waited for; None when none came in time.

        A message is consumed exactly once. The time counts from the first run's call: a crash does not prolong it.
        0 only looks; None waits for ever. A long wait costs a row, not a thread. Of several calls of one topic at once,
        each waits for its turn. A message that comes too late stays for the next call.

        Raises:
            DBOSException: It was not called from a workflow.
        """
        refuse_on_loop("recv")
        return drive(_recv_flow(self, "recv", topic, timeout_seconds))

    def recv_async(
        self, topic: str | None = None, timeout_seconds: float | None = DEFAULT_TIMEOUT
    ) -> Coroutine[Any, Any, Any]:
        """As `recv`, for workflows on an event loop."""
        return drive_async(_recv_flow(self, "recv_async", topic, timeout_seconds))


def _send_flow(session: Session, name: str, messages: Sequence[SendMessage], *, forks: bool) -> Flow[None]:
    """Check the messages and take the place of the call now, before anything waits."""
    core = session.core
    if forks:
        raise DBOSException("send_to_forks is not supported: send to the fork by its own id.")
    outgoing = [_outgoing(message) for message in messages]
    keys = [(one.destination, one.key) for one in outgoing if one.key is not None]
    if len(set(keys)) < len(keys):
        raise DBOSException(
            "Two messages of this send_bulk have the same idempotency key and the same destination. One of them "
            "would not be sent: give each a key of its own."
        )
    scope = CURRENT.get()
    if scope is None:
        return send(core, outgoing)
    if scope.step is not None:
        return send_from_step(core, scope.run, outgoing)
    return send_from_workflow(core, scope.run, scope.run.locate(scope), name, outgoing)


def _recv_flow(session: Session, verb: str, topic: str | None, timeout: float | None) -> Flow[Any]:
    core = session.core
    scope = workflow_only(verb)
    check_text("topic of a message", topic, optional=True)
    seconds = check_timeout(verb, timeout)
    place = scope.run.locate(scope)
    scope.run.take_number()  # of its time limit, which listings show behind it
    return recv(core, scope.run, place, topic, seconds)


def workflow_only(verb: str) -> Scope:
    """The calling workflow's scope.

    Raises:
        DBOSException: The caller is a step, or no workflow at all.
    """
    scope = CURRENT.get()
    if scope is None:
        raise DBOSException(
            f"DBOS.{verb}() must be called from within a workflow; it was called outside of workflows."
        )
    if scope.step is not None:
        raise DBOSException(
            f"DBOS.{verb}() must be called from within a workflow; it was called within a step of one."
        )
    return scope


def check_timeout(verb: str, seconds: Any, name: str = "timeout_seconds") -> float | None:
    """Refuse what is not a number of seconds, nor None; gives None for what no clock will see the end of."""
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and (not number or isnan(min(seconds, 1))):
        raise DBOSException(
            f"DBOS.{verb}: {name} must be a number of seconds, or None for ever, not {seconds!r}."
        )
    return None if seconds is None or seconds > LONGEST_WAIT else max(-LONGEST_WAIT, seconds)


def _outgoing(message: object) -> Outgoing:
    if not isinstance(message, SendMessage):
        raise DBOSException(f"send_bulk takes SendMessage objects, not {type(message).__name__}.")
    check_text("destination_id of a message", message.destination_id)
    check_text("topic of a message", message.topic, optional=True)
    check_text("idempotency_key of a message", message.idempotency_key, optional=True)
    return Outgoing(message.destination_id, message.message, message.topic, message.idempotency_key)


def check_text(name: str, value: object, *, optional: bool = False) -> None:
    """Refuse what is not a text that a database can store; `optional` says that None and an empty one will do."""
    if value is None and optional:
        return
    if not isinstance(value, str) or (not value and not optional):
        raise DBOSException(f"The {name} must be a text, not {value!r}.")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DBOSException(f"The {name}, {value!r}, holds a character that a database cannot store.")
