"""The way of almost every batch: steps and their outcomes, all as expected.

Nothing is read in between: each statement must hit as many rows as it says. If one does not (the executor is dead, a
write is refused, or was there before), nothing is kept, and the batch is written again step by step, which finds out
whose write was refused. On PostgreSQL all of it is one call of a function (`dbos_events/storage/functions.sql`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dbos_events.storage.database import Database, Step
from dbos_events.storage.rollback import NotAsExpected
from dbos_events.storage.subjects.starts import start_rows
from dbos_events.storage.writes import Write
from dbos_events.storage.writes.family import plain_records
from dbos_events.storage.writes.own_checkpoints import Parted
from dbos_events.storage.writes.send import near_places, note_placed
from dbos_events.storage.writes.values_and_streams import note_shown, shown_tables

if TYPE_CHECKING:
    from dbos_events.storage.line import Line

FUNCTIONS = ("write_step", "write_ends", "write_batch", "write_talk", "write_published", "write_children")
"""One checkpoint alone; outcomes; checkpoints and outcomes; those with messages that are sent and consumed; those with
what workflows show; those with children that start or end."""


def write_plain(database: Database, executor: int, writes: Sequence[Write], parted: Parted) -> None:
    """Write a plain batch under the fence, in a transaction of its own.

    Raises:
        NotAsExpected: Nothing was kept.
    """
    if database.calls:
        call = _call(database, executor, writes, parted)
        told = database.call(*call)
        if (note := _NOTES.get(call[0])) is not None:
            note(writes, told)
        return
    records_of = plain_records(parted)
    if not records_of.keys().isdisjoint(("insert_messages", "insert_values", "starts")):
        raise NotAsExpected  # how many rows their statements hit is not known before
    parameters = {"executor": executor}
    steps = [Step("fence", None, database.identified(executor), 1)]
    for name, records in records_of.items():
        rows = database.rows(name, records)
        steps.append(Step(name, rows, parameters, len(rows)))
    database.transact(lambda tx: tx.finish(steps))


def begin_plain(
    database: Database, line: Line, executor: int, writes: Sequence[Write], parted: Parted
) -> None:
    """As `write_plain`, over `line` and without waiting: its answer says whether the batch was written."""
    call = _call(database, executor, writes, parted)
    note = _NOTES.get(call[0])
    line.then = None if note is None else partial(note, writes)
    database.begin_call(line, *call)


_NOTES: Mapping[str, Callable[[Sequence[Write], str | None], None]] = {
    "write_talk": note_placed,
    "write_published": note_shown,
}
"""Who keeps what a function has said of its batch."""


def _call(database: Database, executor: int, writes: Sequence[Write], parted: Parted) -> tuple[Any, ...]:
    """The function that takes no more than what there is, and its arguments."""
    records = plain_records(parted)
    starts = records.pop("starts", None)
    tables = {name: database.rows(name, some) for name, some in records.items()}
    identified = database.identified(executor)
    if starts is not None:
        tables["starts"] = start_rows(database, "write_children", [start for (start,) in starts])
        return "write_children", identified, tables
    if "insert_messages" in tables:
        tables["destinations"] = [(one,) for one in sorted({row[1] for row in tables["insert_messages"]})]
        tables["near"] = near_places(writes)
        return "write_talk", identified, tables
    if "insert_values" in tables:
        return "write_published", identified, tables | shown_tables(writes)
    checkpoints, outcomes = tables["insert_checkpoints"], tables["update_outcomes"]
    if len(checkpoints) == 1 and not outcomes:
        return "write_step", identified, {}, checkpoints[0]
    return "write_batch" if checkpoints else "write_ends", identified, tables
