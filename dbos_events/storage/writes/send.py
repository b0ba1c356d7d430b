"""Messages to other workflows, in one write with the checkpoint of the call that sends them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.writes.answers import NoWorkflow
from dbos_events.storage.writes.waiting import Key
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write


@dataclass(frozen=True, slots=True)
class Owner:
    """A run that changes something without a checkpoint, as a step does when it sends."""

    executor: int
    workflow_id: str
    take: int


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message. Within its destination the same `message_id` is the same message."""

    destination: str
    message_id: str
    topic: str | None
    codec: str | None
    value: str | None
    sender: str | None = None


class PlacedMessage(NamedTuple):
    """A message in its mailbox; `previous` is the number of the one of its topic that waits there before it."""

    message: NewMessage
    number: int
    previous: int | None


@dataclass(slots=True)
class Send(Change):
    """Send these messages, all or none of them.

    `near` are destinations and topics of which a receiver in this process keeps what is in its mailbox. Where the database
    says it at once, `placed` tells of their messages, when they are durable, which number each has got.
    """

    messages: tuple[NewMessage, ...]
    near: Collection[tuple[str, str | None]] = ()
    placed: Sequence[PlacedMessage] = ()

    @property
    def fits_one_call(self) -> bool:
        return True


class Sends:
    """Inserts messages and wakes whom they are for.

    A write with a destination that does not exist changes nothing: its checkpoint is taken back, and its answer says so.
    """

    def write(self, batch: Batch) -> None:
        sends = batch.changes(Send)
        if not sends:
            return
        known = lock_destinations(batch.tx, [one for _, _, send in sends for one in send.messages])
        sound: list[NewMessage] = []
        for number, write, send in sends:
            missing = [one.destination for one in send.messages if one.destination not in known]
            if missing:
                batch.results[number] = NoWorkflow(missing[0])
                withdraw(batch, write)
            else:
                sound += send.messages
        insert(batch.tx, sound)


def message_key(workflow_id: str, topic: str | None) -> Key:
    """That this workflow has a message of this topic."""
    return Key("message", workflow_id, topic)


def destinations(messages: Iterable[NewMessage]) -> list[str]:
    """Whom these messages are for, in the order in which their rows are locked."""
    return sorted({one.destination for one in messages})


def lock_destinations(tx: Tx, messages: Sequence[NewMessage]) -> set[str]:
    """Lock the workflows that these messages are for; gives those that exist."""
    return {row.id for row in tx.run("lock_destinations", ids=destinations(messages))}


class Placed(NamedTuple):
    """The place of a message among those that are inserted at once."""

    place: int


def placed(messages: Sequence[NewMessage]) -> list[tuple[Placed, NewMessage]]:
    """Messages with their places."""
    return [(Placed(place), message) for place, message in enumerate(messages)]


def near_places(writes: Sequence[Write]) -> list[tuple[int]]:
    """Of all messages that these writes send: the places of those that are near."""
    return [
        (place,)
        for place, (send, message) in enumerate(_sent(writes))
        if (message.destination, message.topic) in send.near
    ]


def note_placed(writes: Sequence[Write], told: str | None) -> None:
    """Keep what the database has said of the messages that are near; they are durable."""
    if not told:  # a function that returns nothing gives an empty text
        return
    sent = list(_sent(writes))
    for row in json.loads(told):
        send, message = sent[row["place"]]
        send.placed = (*send.placed, PlacedMessage(message, row["number"], row["previous"]))


def _sent(writes: Sequence[Write]) -> Iterable[tuple[Send, NewMessage]]:
    return (
        (write.change, message)
        for write in writes
        if isinstance(write.change, Send)
        for message in write.change.messages
    )


class Waiter(NamedTuple):
    """Who may be parked on what."""

    workflow_id: str
    key: str


def waiters(messages: Iterable[NewMessage]) -> list[tuple[Waiter]]:
    """Who may be parked until one of these messages comes."""
    pairs = {(one.destination, one.topic) for one in messages}
    return [
        (Waiter(destination, message_key(destination, topic).text),)
        for destination, topic in sorted(pairs, key=repr)
    ]


def insert(tx: Tx, messages: Sequence[NewMessage]) -> None:
    """Insert messages whose destinations are locked, and wake those that are parked until one of them comes."""
    tx.change("insert_messages", tx.rows("insert_messages", placed(messages)))
    tx.change("wake_waiting", tx.rows("wake_waiting", waiters(messages)))


def withdraw(batch: Batch, write: Write) -> None:
    """Take the checkpoint of a write back that was written in this batch, or by a lost commit of it."""
    entry = write.checkpoint
    if entry is None:
        return
    batch.tx.run(
        "withdraw_checkpoints",
        workflow_id=write.workflow_id,
        generation=write.generation,
        step=entry.step,
        write_id=entry.write_id,
        executor=batch.executor,
    )
