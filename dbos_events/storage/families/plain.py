"""The way of almost every batch: steps and their outcomes, all as expected.

Nothing is read in between: each statement must hit as many rows as it says, and if one does not (the executor
is dead, a write is refused, or was there before), nothing is kept, and the batch is written again step by step,
which finds out whose write was refused. On PostgreSQL all of it is one call of a function
(`dbos_events/storage/onecall.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.calls import Function
from dbos_events.storage.database import Database, Step, columns_of
from dbos_events.storage.families.shapes import checkpoint_row, outcome_row, result_row
from dbos_events.storage.writes import Write

_CHECKPOINT = (
    *("text", "int", "int", "int", "text", "text", "int", "text", "text", "text", "text", "text"),
    *("bigint", "bigint", "bigint"),
)
_OUTCOME = ("text", "int", "text", "bool")
_RESULT = ("text", "text", "text", "text")

WRITE_PLAIN = Function("write_plain", ("bigint", "bigint"), (*_CHECKPOINT, *_OUTCOME, *_RESULT))
"""The time and the executor; the rows of insert_checkpoints, update_outcomes and insert_results."""

WRITE_STEP = Function("write_step", ("bigint", "bigint", *_CHECKPOINT), ())
"""The time and the executor; one row of insert_checkpoints."""


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
    checkpoints = [
        checkpoint_row(write, write.checkpoint) for write in writes if write.checkpoint is not None
    ]
    ended = [(write, write.outcome) for write in writes if write.outcome is not None]
    outcomes = [outcome_row(write, outcome) for write, outcome in ended]
    results = [
        result_row(write, outcome)
        for write, outcome in ended
        if outcome.output is not None or outcome.error is not None
    ]
    if database.calls and len(checkpoints) == 1 and not outcomes:
        database.call(WRITE_STEP, (executor, *checkpoints[0]))
        return
    if database.calls:
        tables = (
            columns_of(checkpoints, len(_CHECKPOINT)),
            columns_of(outcomes, len(_OUTCOME)),
            columns_of(results, len(_RESULT)),
        )
        database.call(WRITE_PLAIN, (executor,), *tables)
        return
    steps = [
        Step("fence", None, {"executor": executor}, 1),
        Step("insert_checkpoints", checkpoints, {"executor": executor}, len(checkpoints)),
        Step("update_outcomes", outcomes, {"executor": executor}, len(outcomes)),
        Step("insert_results", results, {}, len(results)),
    ]
    database.transact(lambda tx: tx.finish(steps))
