"""Enqueue and send as a part of the caller's own transaction: with it, or not at all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dbos_events.api.handles import WorkflowHandle
from dbos_events.api.queueing import EnqueueOptions
from dbos_events.api.surface import Surface
from dbos_events.client.enqueueing import starting_of
from dbos_events.engine.committer import Committer
from dbos_events.engine.drivers import drive
from dbos_events.engine.registry import Registry
from dbos_events.engine.tickets import Ticket
from dbos_events.model.message import SendMessage

if TYPE_CHECKING:
    from dbos_events.client.core import ClientCore
    from dbos_events.client.session import Connected
    from dbos_events.engine.tickets import Writer
    from dbos_events.engine.waking import Waker
    from dbos_events.storage.writes import Write


def enqueue_in_transaction(
    session: Connected, connection: Any, options: EnqueueOptions, /, *args: Any, **kwargs: Any
) -> WorkflowHandle[Any]:
    """As `enqueue`, in the transaction of a SQLAlchemy connection or session: the workflow is there when that commits.

    The connection must lead to the database of the client (`postgresql+psycopg://` there, or `sqlite://`). Nothing of the
    application is locked. After an error roll the transaction back.
    """
    within = _Within(session, connection)
    started = drive(starting_of(within, options, args, kwargs).flow())
    within.tell()
    return WorkflowHandle(session, started.workflow_id)


def send_in_transaction(
    session: Connected,
    connection: Any,
    destination_id: str,
    message: Any,
    topic: str | None = None,
    idempotency_key: str | None = None,
    *,
    serialization_type: Any = None,
    send_to_forks: bool = False,
) -> None:
    """As `send`, in the transaction of a SQLAlchemy connection or session: the message is sent when that commits.

    Until then the destination's row is locked, so commit soon. For the connection see `enqueue_in_transaction`.
    """
    within = _Within(session, connection)
    within.send(
        destination_id,
        message,
        topic,
        idempotency_key=idempotency_key,
        serialization_type=serialization_type,
        send_to_forks=send_to_forks,
    )
    within.tell()


def send_bulk_in_transaction(
    session: Connected,
    connection: Any,
    messages: Sequence[SendMessage],
    *,
    serialization_type: Any = None,
    send_to_forks: bool = False,
) -> None:
    """As `send_bulk`, in the transaction of a SQLAlchemy connection or session; see `send_in_transaction`."""
    within = _Within(session, connection)
    within.send_bulk(messages, serialization_type=serialization_type, send_to_forks=send_to_forks)
    within.tell()


class _Within(Surface):
    """The verbs of a client, whose writes are a part of somebody's transaction."""

    def __init__(self, session: Connected, connection: Any) -> None:
        self.registry = Registry()
        self._session = session
        self._connection = (
            connection.connection() if callable(getattr(connection, "connection", None)) else connection
        )
        self._channels: list[str] = []
        self._core = copy.copy(session.core)
        self._core.committer = _Joining(self._core, self._connection)
        self._core.announce = self._channels.append

    @property
    def core(self) -> ClientCore:
        return self._core

    def tell(self) -> None:
        """Have those who wait in other processes hear of it at the commit."""
        self._session.notify_within(self._connection, self._channels)


class _Joining(Committer):
    """Writes into an open transaction, at once."""

    def __init__(self, core: ClientCore, connection: Any) -> None:
        super().__init__(lambda writes: core.storage.outside.write_within(connection, writes), lambda: None)

    def submit(
        self, write: Write, run: Writer | None = None, waker: Waker | None = None, *, final: bool = False
    ) -> Ticket:
        ticket = Ticket(write, None, waker, final=final)
        ticket.settle(self._write_batch([write])[0])
        return ticket

    def before_blocking(self) -> None:
        """Nothing waits here."""
