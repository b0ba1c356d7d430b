"""Writes checkpoints: the stored outcomes of calls, each under the token of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Checkpoint, Write

Numbered: TypeAlias = "tuple[int, Write, Checkpoint]"
"""A checkpoint with its write, and the number of that in the batch."""


class Checkpoints:
    """Writes the checkpoints of a batch that stand in rows of their own."""

    def __init__(self, entries: Sequence[Numbered]) -> None:
        self._entries = entries

    def write(self, batch: Batch) -> None:
        plain = [one for one in self._entries if not one[1].shielded]
        self._insert(batch, "insert_checkpoints", plain)
        if len(plain) < len(self._entries):
            shielded = [one for one in self._entries if one[1].shielded]
            self._insert(batch, "insert_shielded_checkpoints", shielded)

    def _insert(self, batch: Batch, statement: str, entries: Sequence[Numbered]) -> None:
        rows = batch.tx.rows(statement, [(write, entry) for _, write, entry in entries])
        written = batch.change(statement, rows) if rows else 0
        if rows and not written:
            batch.repeated.update(number for number, _, _ in entries)
        if written < len(rows):
            places = [
                {"workflow_id": write.workflow_id, "generation": write.generation, "step": entry.step}
                for _, write, entry in entries
            ]
            ids = [(number, write, entry.write_id) for number, write, entry in entries]
            batch.refuse_unwritten(ids, "read_written_checkpoints", places)


class CrashResets:
    """Forgets crashes of runs that have made progress."""

    def write(self, batch: Batch) -> None:
        resets = [
            {"workflow_id": write.workflow_id, "take": write.take}
            for write in batch.writes
            if write.reset_crashes
        ]
        batch.change("reset_crashes", resets)
