"""Entries of streams, and what becomes of those that a step has written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.writes.waiting import Key, wake
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write


@dataclass(slots=True)
class StreamEntry(Change):
    """One entry of a stream, or its end (`ends`), at a position that the run has counted.

    `committed` is true for what the workflow itself writes; for what a step writes it is None until the step has ended.
    `resets` says that a new attempt of the call begins: from this position on, what the call wrote before counts no more.
    """

    stream: str
    position: int
    step: int
    attempt: int
    committed: bool | None
    ends: bool
    codec: str | None
    value: str | None
    write_id: int
    resets: int | None = None
    woke: bool = False
    """Set when it was written: whether a parked run is due now that had waited for it."""
    durable: bool = False
    """As that of a value."""

    @property
    def fits_one_call(self) -> bool:
        return True


class Piece(NamedTuple):
    """What one attempt of a step has written into one stream, and whether it counts."""

    stream: str
    first: int
    last: int
    step: int
    attempt: int
    committed: bool


@dataclass(slots=True)
class SettleEntries(Change):
    """A step has ended: with the attempt whose entries count, or with an error."""

    pieces: tuple[Piece, ...]
    woke: bool = False
    durable: bool = False
    """As those of an entry."""

    @property
    def fits_one_call(self) -> bool:
        return True


def stream_key(workflow_id: str, stream: str, since: int, *, committed: bool = False) -> Key:
    """That there is something to read in a stream from a position on, or that its workflow has ended."""
    return Key("committed" if committed else "stream", workflow_id, stream, since)


class StreamEntries:
    """Writes the entries of a batch, each once, and wakes those who wait for them."""

    def write(self, batch: Batch) -> None:
        entries = batch.changes(StreamEntry)
        if not entries:
            return
        rows = batch.tx.rows("insert_stream_entries", [(write, entry) for _, write, entry in entries])
        if batch.change("insert_stream_entries", rows) < len(rows):
            places = batch.tx.rows("read_written_entries", [(write, entry) for _, write, entry in entries])
            ids = [(number, write, entry.write_id) for number, write, entry in entries]
            batch.refuse_unwritten(ids, "read_written_entries", places)
        done = batch.changes(StreamEntry)
        if not done:
            return
        done[-1][2].woke = bool(wake(batch.tx, keys_of_entries((write, entry) for _, write, entry in done)))


class SettledEntries:
    """Says of the entries of steps that have ended whether they count."""

    def write(self, batch: Batch) -> None:
        settled = batch.changes(SettleEntries)
        pieces = [(write, piece) for _, write, change in settled for piece in change.pieces]
        if not pieces:
            return
        batch.tx.change("settle_entries", batch.tx.rows("settle_entries", pieces))
        settled[-1][2].woke = bool(wake(batch.tx, keys_of_pieces(pieces)))


def keys_of_entries(entries: Iterable[tuple[Write, StreamEntry]]) -> list[Key]:
    """What becomes true with these entries."""
    written: set[tuple[str, str]] = set()
    counting: set[tuple[str, str]] = set()
    for write, entry in entries:
        written.add((write.workflow_id, entry.stream))
        if entry.committed:
            counting.add((write.workflow_id, entry.stream))
    keys = [stream_key(*one, 0) for one in sorted(written)]
    return keys + [stream_key(*one, 0, committed=True) for one in sorted(counting)]


def keys_of_pieces(pieces: Iterable[tuple[Write, Piece]]) -> list[Key]:
    """What becomes true when it is known whether these count."""
    streams = {(write.workflow_id, piece.stream) for write, piece in pieces}
    return [stream_key(*one, 0, committed=True) for one in sorted(streams)]
