"""Sending of a client: the key may be given by its place, as programs for DBOS Transact do."""

from __future__ import annotations

from typing import Any

from dbos_events.api.messages import Messages


def send(
    session: Messages,
    destination_id: str,
    message: Any,
    topic: str | None = None,
    idempotency_key: str | None = None,
    *,
    serialization_type: Any = None,
    send_to_forks: bool = False,
) -> None:
    """Send a message to a workflow; durable when this returns.

    Messages of one sender arrive in the order in which they were sent. The same `idempotency_key` to the same destination is
    the same message, whoever sends it; without one each call is a message. `serialization_type` is taken and has no effect.

    Raises:
        DBOSNonExistentWorkflowError: There is no workflow with that id.
    """
    session.send(
        destination_id,
        message,
        topic,
        idempotency_key=idempotency_key,
        serialization_type=serialization_type,
        send_to_forks=send_to_forks,
    )


async def send_async(
    session: Messages,
    destination_id: str,
    message: Any,
    topic: str | None = None,
    idempotency_key: str | None = None,
    *,
    serialization_type: Any = None,
    send_to_forks: bool = False,
) -> None:
    """As `send`, without blocking the loop."""
    await session.send_async(
        destination_id,
        message,
        topic,
        idempotency_key=idempotency_key,
        serialization_type=serialization_type,
        send_to_forks=send_to_forks,
    )
