"""What parked workflows wait for, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dbos_events.storage.database import Database


class Parking(Protocol):
    """Questions about parked workflows."""

    def awaited(self, workflow_ids: Sequence[str]) -> dict[str, list[str]]:
        """By workflow, the keys that it is parked on, in words."""
        ...


class ParkingTable:
    """Parked workflows over a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def awaited(self, workflow_ids: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in self._database.transact(lambda tx: tx.run("list_awaited", ids=workflow_ids)):
            words = row.key if row.name is None else f"the publication {row.name!r} under {row.of_key!r}"
            found.setdefault(row.id, []).append(words)
        return found
