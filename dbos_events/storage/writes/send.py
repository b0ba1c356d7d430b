"""Messages to other workflows, in one write with the checkpoint of the call that sends them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dbos_events.storage.writes.answers import Delivered, NoWorkflow
from dbos_events.storage.writes.waiting import Key, wake_waiting
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message. Within its destination the same `message_id` is the same message."""

    destination: str
    message_id: str
    topic: str | None
    codec: str | None
    value: str | None
    sender: str | None = None


@dataclass(slots=True)
class Send(Change):
    """Send these messages, all or none of them."""

    messages: tuple[NewMessage, ...]


class Sends:
    """Inserts messages and wakes whom they are for.

    A write with a destination that does not exist changes nothing: its checkpoint is taken back, and its answer says so.
    """

    def write(self, batch: Batch) -> None:
        sends = batch.changes(Send)
        if not sends:
            return
        known = lock_destinations(batch.tx, (one for _, _, send in sends for one in send.messages))
        sound = []
        for number, write, send in sends:
            missing = [one.destination for one in send.messages if one.destination not in known]
            if missing:
                batch.results[number] = NoWorkflow(missing[0])
                withdraw(batch, write)
            else:
                sound.append((number, send.messages))
        woken = insert(batch.tx, [one for _, messages in sound for one in messages])
        for number, messages in sound:
            if any(one.destination in woken for one in messages):
                batch.results[number] = Delivered(woke=True)


def message_key(workflow_id: str, topic: str | None) -> Key:
    """That this workflow has a message of this topic."""
    return Key("message", workflow_id, topic)


def lock_destinations(tx: Tx, messages: Iterable[NewMessage]) -> set[str]:
    """Lock the workflows that these messages are for; gives those that exist."""
    ids = sorted({one.destination for one in messages})
    return {row.id for row in tx.run("lock_destinations", ids=ids)} if ids else set()


class _Placed(NamedTuple):
    place: int


def insert(tx: Tx, messages: Sequence[NewMessage]) -> set[str]:
    """Insert messages whose destinations are locked; gives those that were parked for one of them, and are not now."""
    if not messages:
        return set()
    rows = [(_Placed(place), message) for place, message in enumerate(messages)]
    tx.change("insert_messages", tx.rows("insert_messages", rows))
    keys = {(one.destination, one.topic): message_key(one.destination, one.topic) for one in messages}
    return set(wake_waiting(tx, [(destination, key) for (destination, _), key in keys.items()]))


def withdraw(batch: Batch, write: Write) -> None:
    """Take the checkpoint of a write back that was written in this batch, or by a lost commit of it."""
    entry = write.checkpoint
    if entry is None:
        return
    row = {
        "workflow_id": write.workflow_id,
        "generation": write.generation,
        "step": entry.step,
        "write_id": entry.write_id,
    }
    batch.tx.change("withdraw_checkpoints", [row])
