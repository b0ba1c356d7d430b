"""Values that workflows publish under a key (docs/protocol.md, rule 17)."""

from __future__ import annotations

from typing import Protocol

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.database import Database
from dbos_events.storage.shapes import records


@dataclass(frozen=True, slots=True)
class StoredValue:
    """How a workflow stands, and the latest value of one of its keys, at one moment."""

    status: str
    is_set: bool
    codec: str | None
    value: str | None


@dataclass(frozen=True, slots=True)
class KeyedValue:
    """The latest value of a key."""

    key: str
    codec: str | None
    value: str | None


class PublishedValues(Protocol):
    """Reading what was published; it is written by runs, as a member of their batches."""

    def read(self, workflow_id: str, key: str) -> StoredValue | None:
        """The value of a key; None where there is no such workflow.

        A value counts once the call that set it is recorded, and until a generation begins that does without the call.
        """
        ...

    def read_all(self, workflow_id: str) -> list[KeyedValue]:
        """The latest value of each key, by key."""
        ...


class PublishedValueTable:
    """Reads the rows of `published_values`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, workflow_id: str, key: str) -> StoredValue | None:
        row = self._database.transact(lambda tx: tx.one("read_value", workflow_id=workflow_id, key=key))
        return None if row is None else records(StoredValue, [row])[0]

    def read_all(self, workflow_id: str) -> list[KeyedValue]:
        return records(
            KeyedValue, self._database.transact(lambda tx: tx.run("read_values", workflow_id=workflow_id))
        )
