"""Streams that workflows write (docs/protocol.md, rule 18)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.database import Database, Tx


class StoredEntry(NamedTuple):
    """One entry of a stream, as it is stored.

    `committed` is None while the step that wrote it runs. `cut_in` is the generation that does without its call.
    """

    position: int
    take: int
    generation: int
    step: int
    committed: bool | None
    resets: int | None
    ends: bool
    codec: str | None
    value: str | None
    cut_in: int | None


class StreamPage(NamedTuple):
    """How a workflow stands, and some entries of one of its streams, at one moment."""

    status: str
    take: int
    generation: int
    entries: tuple[StoredEntry, ...]


@dataclass(slots=True)
class StreamEnd:
    """Where a stream goes on for a run that has been taken up.

    `cut_from` is the first position of what the run's generation does without, if that has written nothing yet;
    `unsettled` are, by call, the first positions of what an earlier run of the generation left behind.
    """

    next_position: int
    cut_from: int | None
    unsettled: Mapping[int, int]


class Streams(Protocol):
    """Reading streams; they are written by runs, as a member of their batches."""

    def read(self, workflow_id: str, stream: str, position: int, count: int) -> StreamPage | None:
        """At most `count` entries from `position` on; None where there is no such workflow.

        Their positions may have gaps: a run that was lost may have counted some that it never wrote.
        """
        ...

    def read_ends(self, workflow_id: str, take: int, generation: int) -> dict[str, StreamEnd]:
        """Where each stream of the workflow goes on, for the run that has this token."""
        ...


class StreamTable:
    """Reads the rows of `stream_entries`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, workflow_id: str, stream: str, position: int, count: int) -> StreamPage | None:
        rows = self._database.transact(
            lambda tx: tx.run(
                "read_entries", workflow_id=workflow_id, stream=stream, position=position, count=count
            )
        )
        if not rows:
            return None
        first = rows[0]
        entries = tuple(_entry(row) for row in rows if row.position is not None)
        return StreamPage(first.status, first.current_take, first.current_generation, entries)

    def read_ends(self, workflow_id: str, take: int, generation: int) -> dict[str, StreamEnd]:
        run = {"workflow_id": workflow_id, "generation": generation}

        def work(tx: Tx) -> dict[str, StreamEnd]:
            unsettled: dict[str, dict[int, int]] = {}
            for row in tx.run("read_open_entries", take=take, **run):
                unsettled.setdefault(row.stream, {})[row.step] = row.first
            return {
                row.stream: StreamEnd(row.next_position, row.cut_from, unsettled.get(row.stream, {}))
                for row in tx.run("read_stream_ends", **run)
            }

        return self._database.transact(work)


def _entry(row: Any) -> StoredEntry:
    committed = None if row.committed is None else bool(row.committed)  # SQLite has numbers for them
    return StoredEntry(
        row.position,
        row.take,
        row.generation,
        row.step,
        committed,
        row.resets,
        bool(row.ends),
        row.codec,
        row.value,
        row.cut_in,
    )
