"""Writes as rows of the statements that store them."""

from __future__ import annotations

from dbos_events.storage.writes import Checkpoint, NewWorkflow, Outcome, Write


def checkpoint_row(write: Write, entry: Checkpoint) -> tuple[object, ...]:
    """A row of insert_checkpoints."""
    return (
        write.workflow_id, write.take, write.generation, entry.step, entry.call, entry.name, entry.order,
        entry.arguments, entry.codec, entry.output, entry.error, entry.child_id, entry.started_at,
        entry.completed_at, entry.write_id,
    )  # fmt: skip


def outcome_row(write: Write, outcome: Outcome) -> tuple[object, ...]:
    """A row of update_outcomes."""
    return (write.workflow_id, write.take, outcome.status, outcome.frees_lane)


def result_row(write: Write, outcome: Outcome) -> tuple[object, ...]:
    """A row of insert_results."""
    return (write.workflow_id, outcome.codec, outcome.output, outcome.error)


def start_row(start: NewWorkflow) -> tuple[object, ...]:
    """A row of insert_starts."""
    return (
        start.id, start.application, start.name, start.status, start.start_id, start.version,
        start.class_name, start.queue, start.priority, start.parent_id, start.root_id,
    )  # fmt: skip
