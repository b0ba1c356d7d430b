"""Starts of workflows from outside of workflows: an enqueue, a call, a handle.

On PostgreSQL all starts of a batch are one call of a function (`dbos_events/storage/functions.sql`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from dbos_events.storage.database import Database
from dbos_events.storage.functions import Columns
from dbos_events.storage.rollback import NotAsExpected
from dbos_events.storage.shapes import Shape
from dbos_events.storage.writes import NewWorkflow


@cache
def _shape(columns: Columns, kind: type[NewWorkflow]) -> Shape:
    return Shape([name for name, _ in columns], kind)


def start_rows(database: Database, function: str, starts: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows of starts, as a function takes them."""
    shape = _shape(database.function(function).tables["starts"], NewWorkflow)
    return [shape.row(start) for start in starts]


def write_starts(database: Database, executor: int, starts: Sequence[Any]) -> None:
    """Start workflows under the fence, in a transaction of its own; what is there already stays.

    Raises:
        NotAsExpected: Some were there already. The others are started, which is found when the whole batch is written
            again, statement by statement: that costs a second transaction, and only where ids are used twice.
    """
    rows = start_rows(database, "write_starts", starts)
    inserted = database.call("write_starts", database.identified(executor), {"starts": rows})
    if inserted is None or int(inserted) < len(starts):
        raise NotAsExpected
