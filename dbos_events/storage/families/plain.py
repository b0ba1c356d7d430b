"""The way of almost every batch: steps and their outcomes, all as expected.

Nothing is read in between: each statement must hit as many rows as it says, and if one does not (the executor
is dead, a write is refused, or was there before), nothing is kept, and the batch is written again step by step,
which finds out whose write was refused. On PostgreSQL all of it is one call of a function
(`dbos_events/storage/onecall.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from dbos_events.storage.calls import Function
from dbos_events.storage.database import Database, Step, columns_of
from dbos_events.storage.families.shapes import checkpoint_row, outcome_row, result_rows
from dbos_events.storage.families.together import part
from dbos_events.storage.line import Line
from dbos_events.storage.writes import Write

Rows: TypeAlias = Sequence[tuple[Any, ...]]

_CHECKPOINT = (
    *("text", "int", "int", "int", "text", "text", "int", "text", "text", "text", "text", "text"),
    *("bigint", "bigint", "bigint"),
)
_OUTCOME = ("text", "int", "text", "bool", "text")
_RESULT = ("text", "text", "text", "text")

WRITE_BATCH = Function("write_batch", ("bigint", "bigint"), (*_CHECKPOINT, *_OUTCOME, *_RESULT))
"""The time and the executor; the rows of insert_checkpoints, update_outcomes and insert_results."""

WRITE_ENDS = Function("write_ends", ("bigint", "bigint"), (*_OUTCOME, *_RESULT))
"""The time and the executor; the rows of update_outcomes and insert_results."""

WRITE_STEP = Function("write_step", ("bigint", "bigint", *_CHECKPOINT), ())
"""The time and the executor; one row of insert_checkpoints."""


PLAIN = (WRITE_STEP, WRITE_ENDS, WRITE_BATCH)


def are_plain(writes: Sequence[Write]) -> bool:
    """Whether there are only checkpoints, and outcomes that nobody is parked on."""
    return not any(
        write.start is not None
        or write.park is not None
        or write.retry is not None
        or write.reset_crashes
        or (write.outcome is not None and (write.outcome.quarantine is not None or write.outcome.parent_id))
        for write in writes
    )


def write_plain(database: Database, executor: int, writes: Sequence[Write]) -> None:
    """Write a plain batch under the fence, in a transaction of its own.

    Raises:
        NotAsExpected: Nothing was kept.
    """
    if database.calls:
        database.call(*_call(database.token(executor), writes))
        return
    checkpoints, outcomes, results = _rows(writes)
    steps = [
        Step("fence", None, {"executor": database.token(executor)}, 1),
        Step("insert_checkpoints", checkpoints, {"executor": executor}, len(checkpoints)),
        Step("update_outcomes", outcomes, {"executor": executor}, len(outcomes)),
        Step("insert_results", results, {}, len(results)),
    ]
    database.transact(lambda tx: tx.finish(steps))


def begin_plain(database: Database, line: Line, executor: int, writes: Sequence[Write]) -> None:
    """As `write_plain`, over `line` and without waiting: its answer says whether the batch was written."""
    database.begin_call(line, *_call(database.token(executor), writes))


def _rows(writes: Sequence[Write]) -> tuple[Rows, Rows, Rows]:
    """Of insert_checkpoints, update_outcomes and insert_results."""
    parted = part(writes)
    checkpoints = [checkpoint_row(write, entry) for _, write, entry in parted.checkpoints]
    return checkpoints, [outcome_row(end) for end in parted.ended], result_rows(parted.ended)


def _call(executor: int, writes: Sequence[Write]) -> tuple[Any, ...]:
    """The function that takes no more than what there is, its single arguments and its tables."""
    checkpoints, outcomes, results = _rows(writes)
    if len(checkpoints) == 1 and not outcomes:
        return WRITE_STEP, (executor, *checkpoints[0])
    ends = (columns_of(outcomes, len(_OUTCOME)), columns_of(results, len(_RESULT)))
    if not checkpoints:
        return WRITE_ENDS, (executor,), *ends
    return WRITE_BATCH, (executor,), columns_of(checkpoints, len(_CHECKPOINT)), *ends
