"""Messages to workflows, as callers write them down and as they wait in a mailbox."""

from __future__ import annotations

from typing import Any

from dbos_events.model.dataclass import dataclass


@dataclass(slots=True)
class SendMessage:
    """One message of `DBOS.send_bulk`; the fields are those of `DBOS.send`.

    `shard_key` is taken for the sake of programs that have it, and has no effect.
    """

    destination_id: str
    message: Any
    topic: str | None = None
    idempotency_key: str | None = None
    shard_key: str | None = None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message that waits to be consumed."""

    number: int
    codec: str | None
    value: str | None
