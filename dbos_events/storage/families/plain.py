"""The way of almost every batch: steps and their outcomes, all as expected.

Nothing is read in between: each statement must hit as many rows as it says, and if one does not, nothing is
kept, and the batch is written again step by step, which finds out whose write was refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.database import Step, Tx
from dbos_events.storage.families.shapes import checkpoint_row, outcome_row, result_row
from dbos_events.storage.writes import WRITTEN, Result, Write


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


def write_plain(tx: Tx, executor: int, writes: Sequence[Write]) -> list[Result]:
    """Write a plain batch under the fence.

    Raises:
        NotAsExpected: The executor is dead, or a write was refused, or was there before.
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
    tx.finish(
        [
            Step("fence", None, {"executor": executor}, 1),
            Step("insert_checkpoints", checkpoints, {"executor": executor}, len(checkpoints)),
            Step("update_outcomes", outcomes, {"executor": executor}, len(outcomes)),
            Step("insert_results", results, {}, len(results)),
        ]
    )
    return [WRITTEN] * len(writes)
