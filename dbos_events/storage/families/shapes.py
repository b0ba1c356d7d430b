"""Writes as rows of the statements that store them."""

from __future__ import annotations

from collections.abc import Iterable

from dbos_events.storage.families.together import Ended
from dbos_events.storage.writes import Checkpoint, NewWorkflow, Write


def checkpoint_row(write: Write, entry: Checkpoint) -> tuple[object, ...]:
    """A row of insert_checkpoints."""
    return (
        write.workflow_id, write.take, write.generation, entry.step, entry.call, entry.name, entry.order,
        entry.arguments, entry.codec, entry.output, entry.error, entry.child_id, entry.started_at,
        entry.completed_at, entry.write_id,
    )  # fmt: skip


def outcome_row(end: Ended) -> tuple[object, ...]:
    """A row of update_outcomes."""
    write, outcome = end.write, end.outcome
    return (write.workflow_id, write.take, outcome.status, outcome.frees_lane, end.checkpoints)


def result_rows(ended: Iterable[Ended]) -> list[tuple[object, ...]]:
    """Rows of insert_results, for those that have a value or an error."""
    return [
        (end.write.workflow_id, outcome.codec, outcome.output, outcome.error)
        for end in ended
        if (outcome := end.outcome).output is not None or outcome.error is not None
    ]


def start_row(start: NewWorkflow) -> tuple[object, ...]:
    """A row of insert_starts."""
    return (
        start.id, start.application, start.name, start.status, start.start_id, start.version,
        start.class_name, start.queue, start.priority, start.parent_id, start.root_id,
    )  # fmt: skip
