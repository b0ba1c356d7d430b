"""What published values and streams have in common: those who wait for them, and what a new generation does without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from dbos_events.storage.shapes import named
from dbos_events.storage.writes.publish import (
    NewPublication,
    Publish,
    anchor_rows,
    keys_of_publications,
    numbered,
)
from dbos_events.storage.writes.stream import (
    Piece,
    SettleEntries,
    StreamEntry,
    keys_of_entries,
    keys_of_pieces,
)
from dbos_events.storage.writes.value import SetValue, value_key

if TYPE_CHECKING:
    from dbos_events.storage.database import Tx
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write


class WriterLocks:
    """Locks the rows of the workflows that set a value or write into a stream, before anything else of the batch.

    A run that parks to wait for it has this row locked, too: either this batch finds the run parked, or the run finds
    what was written (docs/protocol.md, rule 17).
    """

    def write(self, batch: Batch) -> None:
        ids = writers(batch.writes)
        if ids:
            batch.tx.run("lock_writers", ids=ids)


def writers(writes: Iterable[Write]) -> list[str]:
    """The workflows that set a value or write into a stream, in the order in which they are locked."""
    shown = SetValue | StreamEntry | SettleEntries
    return sorted({write.workflow_id for write in writes if isinstance(write.change, shown)})


def shown_records(writes: Sequence[Write]) -> dict[str, list[tuple[object, ...]]]:
    """Of a batch that fits one call, the records of what it shows: values, entries of streams, publications."""
    values = [(write, write.change) for write in writes if isinstance(write.change, SetValue)]
    return {
        "insert_anchors": [(one,) for one in anchor_rows(anchor.at for anchor in _publications(writes))],
        "insert_publications": [*numbered(_publications(writes))],
        "insert_values": [*values],
        "delete_replaced_values": [(write, value) for write, value in values if value.replaces is not None],
        "insert_stream_entries": [*_entries(writes)],
        "settle_entries": [*_pieces(writes)],
    }


def shown_tables(writes: Sequence[Write]) -> dict[str, list[tuple[str]]]:
    """Whose rows have to be locked for what the batch shows, and the keys that become true with it."""
    values = {(write.workflow_id, write.change.key) for write in writes if isinstance(write.change, SetValue)}
    keys = [value_key(*one) for one in sorted(values)]
    keys += keys_of_entries(_entries(writes)) + keys_of_pieces(_pieces(writes))
    keys += keys_of_publications(_publications(writes))
    return {
        "writers": [(id_,) for id_ in writers(writes)],
        "wake_parked": [(key.text,) for key in keys],
    }


def _entries(writes: Sequence[Write]) -> list[tuple[Write, StreamEntry]]:
    return [(write, write.change) for write in writes if isinstance(write.change, StreamEntry)]


def _pieces(writes: Sequence[Write]) -> list[tuple[Write, Piece]]:
    return [
        (write, piece)
        for write in writes
        if isinstance(write.change, SettleEntries)
        for piece in write.change.pieces
    ]


def _publications(writes: Sequence[Write]) -> list[NewPublication]:
    return [one for write in writes if isinstance(write.change, Publish) for one in write.change.publications]


def note_shown(writes: Iterable[Write], told: str | None) -> None:
    """All that a batch shows is durable; `told` where somebody parked is due now."""
    last = None
    for write in writes:
        change = write.change
        if isinstance(change, SetValue | StreamEntry | SettleEntries):
            change.durable = True
            last = change
    if last is not None and told:
        last.woke = True


def cut_values_and_streams(tx: Tx, ended: Mapping[str, int]) -> None:
    """Leave behind the values and entries of calls that the next generation does not have; `ended` by workflow.

    To be called when the checkpoints have gone on to the next generation.
    """
    rows = named(sorted(ended.items()), "workflow_id", "generation")
    for row in tx.batch("with_values_or_entries", rows):
        tx.run("cut_values", workflow_id=row.workflow_id, generation=row.generation)
        tx.run("cut_entries", workflow_id=row.workflow_id, generation=row.generation)
