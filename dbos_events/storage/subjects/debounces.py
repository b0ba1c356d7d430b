"""Debounced calls: of each workflow and key at most one run is put off, and each call belongs to one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dbos_events.storage.database import Database
from dbos_events.storage.writes.debounce import Bounce, add_call


class DebouncedCall(NamedTuple):
    """With what one call was made, encoded."""

    codec: str | None
    input: str


class Debounces(Protocol):
    """Calls from outside of workflows, and what a run is made of."""

    def add(self, bounce: Bounce) -> str:
        """Add a call to the run of its key that is put off, or open the next one; gives the run's id.

        Safe to repeat after a lost commit answer.
        """
        ...

    def members(self, workflow_ids: Sequence[str]) -> dict[str, list[DebouncedCall]]:
        """The calls that these runs get, in their order."""
        ...


class DebounceTable:
    """Debounces over SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, bounce: Bounce) -> str:
        return self._database.transact(lambda tx: add_call(tx, 0, bounce))

    def members(self, workflow_ids: Sequence[str]) -> dict[str, list[DebouncedCall]]:
        found: dict[str, list[DebouncedCall]] = {workflow_id: [] for workflow_id in workflow_ids}
        for row in self._database.transact(lambda tx: tx.run("read_members", ids=workflow_ids)):
            found[row.workflow_id].append(DebouncedCall(row.codec, row.input))
        return found
