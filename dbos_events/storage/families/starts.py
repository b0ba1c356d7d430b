"""Starts of workflows from outside of workflows: an enqueue, a call, a handle.

On PostgreSQL all starts of a batch are one call of a function (`dbos_events/storage/onecall.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.calls import Function
from dbos_events.storage.database import Database, NotAsExpected, Row, columns_of
from dbos_events.storage.writes import WRITTEN, Existing, NewWorkflow, Result

_WORKFLOW = (
    *("text", "text", "text", "text", "bigint", "text"),
    *("text", "text", "int", "text", "text"),
)
_PAYLOAD = ("text", "text")

WRITE_STARTS = Function("write_starts", ("bigint", "bigint"), (*_WORKFLOW, *_PAYLOAD))
"""The time and the executor; the rows of insert_starts, each with its codec and input."""


def start_row(start: NewWorkflow) -> tuple[object, ...]:
    """A row of insert_starts."""
    return (
        start.id, start.application, start.name, start.status, start.start_id, start.version,
        start.class_name, start.queue, start.priority, start.parent_id, start.root_id,
    )  # fmt: skip


def answer(token: Row, start: NewWorkflow) -> Result:
    """Whether the workflow that is there is the one that was to be started: by this write, or when its answer was lost."""
    if token.start_id == start.start_id:
        return WRITTEN
    return Existing(start.id, token.name, token.status, token.queue, token.class_name)


def write_starts(database: Database, executor: int, starts: Sequence[NewWorkflow]) -> list[Result]:
    """Start workflows under the fence, in a transaction of its own; what is there already stays.

    Raises:
        NotAsExpected: Nothing was kept.
    """
    rows = [(*start_row(start), start.codec, start.input) for start in starts]
    inserted = database.call(WRITE_STARTS, (executor,), columns_of(rows, len(WRITE_STARTS.columns)))
    if inserted is not None and int(inserted) == len(starts):
        return [WRITTEN] * len(starts)
    ids = [start.id for start in starts]
    tokens = {row.id: row for row in database.transact(lambda tx: tx.run("read_tokens", ids=ids))}
    if len(tokens) < len(set(ids)):
        raise NotAsExpected
    return [answer(tokens[start.id], start) for start in starts]
