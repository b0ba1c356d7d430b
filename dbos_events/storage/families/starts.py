"""Starts of workflows from outside of workflows: an enqueue, a call, a handle.

On PostgreSQL all starts of a batch are one call of a function (`dbos_events/storage/onecall.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.calls import Function
from dbos_events.storage.database import Database, NotAsExpected, columns_of
from dbos_events.storage.families.shapes import start_row
from dbos_events.storage.writes import NewWorkflow

_START = (
    "text",
    "text",
    "text",
    "text",
    "bigint",
    "text",
    "text",
    "text",
    "int",
    "text",
    "text",
    "text",
    "text",
)

WRITE_STARTS = Function("write_starts", ("bigint", "bigint"), _START)
"""The time and the executor; the rows of insert_starts, each with its codec and input."""


def write_starts(database: Database, executor: int, starts: Sequence[NewWorkflow]) -> None:
    """Start workflows under the fence, in a transaction of its own; what is there already stays.

    Raises:
        NotAsExpected: Some were there already. The others are started, which is found when the whole batch is written
            again, statement by statement: that costs a second transaction, and only where ids are used twice.
    """
    rows = [(*start_row(start), start.codec, start.input) for start in starts]
    inserted = database.call(WRITE_STARTS, (database.token(executor),), columns_of(rows, len(_START)))
    if inserted is None or int(inserted) < len(starts):
        raise NotAsExpected
