"""Attributes of workflows: a mapping that JSON can hold, by which they are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dbos_events.storage.database import Database, Tx


class Attributes(Protocol):
    """Changing attributes; `list_workflows` reads them."""

    def change(self, workflow_id: str, change: Callable[[str | None], str | None]) -> bool:
        """Give a workflow other attributes, as JSON; False when there is none. Two changes go one after the other."""
        ...


class AttributeTable:
    """Attributes over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def change(self, workflow_id: str, change: Callable[[str | None], str | None]) -> bool:
        def work(tx: Tx) -> bool:
            row = tx.one("lock_attributes", workflow_id=workflow_id)
            if row is None:
                return False
            tx.run("set_attributes", workflow_id=workflow_id, attributes=change(row.attributes))
            return True

        return self._database.transact(work)
