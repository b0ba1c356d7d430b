"""What published values and streams have in common: those who wait for them, and what a new generation does without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dbos_events.storage.shapes import named
from dbos_events.storage.writes.stream import SettleEntries, StreamEntry
from dbos_events.storage.writes.value import SetValue

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx
    from dbos_events.storage.writes.member import Batch


class WriterLocks:
    """Locks the rows of the workflows that set a value or write into a stream, before anything else of the batch.

    A run that parks to wait for it has this row locked, too: either this batch finds the run parked, or the run finds
    what was written (docs/protocol.md, rule 17).
    """

    def write(self, batch: Batch) -> None:
        ids = {
            write.workflow_id
            for write in batch.writes
            if isinstance(write.change, SetValue | StreamEntry | SettleEntries)
        }
        if ids:
            batch.tx.run("lock_writers", ids=sorted(ids))


def cut_values_and_streams(tx: Tx, ended: Mapping[str, int]) -> None:
    """Leave behind the values and entries of calls that the next generation does not have; `ended` by workflow.

    To be called when the checkpoints have gone on to the next generation.
    """
    rows = named(sorted(ended.items()), "workflow_id", "generation")
    for row in tx.batch("with_values_or_entries", rows):
        tx.run("cut_values", workflow_id=row.workflow_id, generation=row.generation)
        tx.run("cut_entries", workflow_id=row.workflow_id, generation=row.generation)
