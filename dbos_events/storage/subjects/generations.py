"""From one generation of a workflow to the next (docs/protocol.md, rule 6)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dbos_events.storage.database import Database, Tx


class UsedKey(NamedTuple):
    """A call of a step under an idempotency key that it asked for, in an earlier generation.

    `noted` is what its checkpoint says of arguments and key.
    """

    generation: int
    name: str
    noted: str


class KeyDecision(NamedTuple):
    """What an operator said about `generation`: the next one uses the "same" keys, or "new" ones."""

    generation: int
    keys: str


class Generations(Protocol):
    """What the generations before have left to those after them (protocol 6)."""

    def read_divergences(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, int]]:
        """Of each workflow, by generation: from which completion on the next generation may differ."""
        ...

    def read_used_keys(
        self, workflow_ids: Sequence[str]
    ) -> dict[str, tuple[list[UsedKey], list[KeyDecision]]]:
        """Of each workflow whose earlier generations asked for idempotency keys: the calls, and what was decided."""
        ...


class GenerationTable:
    """What the generations before have left to those after them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_divergences(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for row in self._database.transact(lambda tx: tx.run("read_divergences", ids=workflow_ids)):
            found.setdefault(row.workflow_id, {})[row.generation] = row.diverged_at
        return found

    def read_used_keys(
        self, workflow_ids: Sequence[str]
    ) -> dict[str, tuple[list[UsedKey], list[KeyDecision]]]:
        def work(tx: Tx) -> dict[str, tuple[list[UsedKey], list[KeyDecision]]]:
            found: dict[str, tuple[list[UsedKey], list[KeyDecision]]] = {}
            for row in tx.run("read_used_keys", ids=workflow_ids):
                used, _ = found.setdefault(row.workflow_id, ([], []))
                used.append(UsedKey(row.generation, row.name, row.arguments))
            for row in tx.run("read_key_decisions", ids=sorted(found)) if found else ():
                keys = json.loads(row.details).get("keys")
                if keys is not None:
                    found[row.workflow_id][1].append(KeyDecision(row.generation, keys))
            return found

        return self._database.transact(work)
