"""Messages to workflows, beside the runs that send and consume them (docs/protocol.md, rule 16)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from dbos_events.errors import DBOSNonExistentWorkflowError, DBOSWorkflowConflictIDError
from dbos_events.model.message import StoredMessage
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.rollback import NotAsExpected
from dbos_events.storage.shapes import records
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.writes.send import NewMessage, Owner, insert, lock_destinations


class Messages(Protocol):
    """Sending from outside of workflows, and looking into a mailbox."""

    def send(self, messages: Sequence[NewMessage], sender: Owner | None = None) -> None:
        """Send all of them, or none, and wake the workflows that are parked until one of them comes.

        Safe to repeat after a lost commit answer: the same message id is the same message.
        Raises `DBOSNonExistentWorkflowError` when a destination does not exist, and `DBOSWorkflowConflictIDError` or
        `ExecutorFenced` when the sender does not run any more.
        """
        ...

    def peek(self, workflow_id: str, topic: str | None) -> StoredMessage | None:
        """The oldest message of the topic that was not consumed."""
        ...

    def look(self, workflow_id: str, topic: str | None, after: int, most: int) -> Sequence[StoredMessage]:
        """The oldest messages of the topic that were not consumed and have higher numbers than `after`, in their order."""
        ...

    def give_back(self, receiver: Owner, steps: Sequence[int]) -> None:
        """What these calls of a run consumed is not consumed; raises as `send` does when the run does not own it."""
        ...


class MessageTable:
    """Messages over a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def send(self, messages: Sequence[NewMessage], sender: Owner | None = None) -> None:
        def work(tx: Tx) -> None:
            if sender is not None:
                fence(tx, sender.executor)
            known = lock_destinations(tx, messages)
            if sender is not None:
                hold_owned(tx, sender)
            for message in messages:
                if message.destination not in known:
                    raise DBOSNonExistentWorkflowError(message.destination)
            insert(tx, messages)

        if messages:
            self._database.transact(work)

    def peek(self, workflow_id: str, topic: str | None) -> StoredMessage | None:
        found = self.look(workflow_id, topic, 0, 1)
        return found[0] if found else None

    def look(self, workflow_id: str, topic: str | None, after: int, most: int) -> Sequence[StoredMessage]:
        asked = {"destination": workflow_id, "topic": topic, "after": after, "most": most}
        if self._database.calls:
            with suppress(NotAsExpected):
                found = self._database.call("look_for_messages", asked, {})
                return [] if found is None else [StoredMessage(**row) for row in json.loads(found)]
        return records(StoredMessage, self._database.transact(lambda tx: tx.run("next_messages", **asked)))

    def give_back(self, receiver: Owner, steps: Sequence[int]) -> None:
        rows = [{"workflow_id": receiver.workflow_id, "generation": 0, "step": step} for step in steps]

        def work(tx: Tx) -> None:
            fence(tx, receiver.executor)
            hold_owned(tx, receiver)
            tx.change("return_messages", rows)

        self._database.transact(work)


def hold_owned(tx: Tx, sender: Owner) -> None:
    """Refuse a sender that does not own its workflow any more; nobody takes it while the executor's row is held."""
    rows = tx.run("read_tokens", ids=[sender.workflow_id])
    tokens = [(row.status, row.owner, row.take) for row in rows]
    if tokens != [("PENDING", sender.executor, sender.take)]:
        raise DBOSWorkflowConflictIDError(sender.workflow_id)
