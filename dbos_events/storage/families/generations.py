"""From one generation of a workflow to the next (docs/protocol.md, rule 6)."""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.database import Database


class GenerationTable:
    """What the generations before have left to those after them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_divergences(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for row in self._database.transact(lambda tx: tx.run("read_divergences", ids=workflow_ids)):
            found.setdefault(row.workflow_id, {})[row.generation] = row.diverged_at
        return found
