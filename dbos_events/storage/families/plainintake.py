"""The way of almost every intake: nothing but new events, and watermarks that stand where they stood.

One call of a function in the database (`dbos_events/storage/onecall.py`). If anything else is met, nothing is kept, and
the intake goes statement by statement, which finds out what it was.
"""

from __future__ import annotations

import json

from dbos_events.storage.calls import Function
from dbos_events.storage.database import Database, columns_of
from dbos_events.storage.rows import IntakeBatch, IntakeResult, NewEvent

TAKE_IN = Function(
    "take_in",
    ("bigint", "bigint", "bigint", "bigint", "text", "text", "text", "text"),
    (
        *("int", "bigint", "bigint", "bigint", "int"),
        "text",
        *("text", "int", "bigint", "text", "bigint", "bool"),
        *("text", "bytea", "bytea", "text", "int", "bigint", "int", "float8", "bigint"),
    ),
)
"""What the batch has in common; its moves, the lanes to look up, the rows of insert_event_workflows and insert_events."""


def is_plain(batch: IntakeBatch) -> bool:
    """Whether there are only events to start, in lanes that their offsets count."""
    return (
        not batch.gaps
        and not batch.filtered
        and batch.shared_lane is None
        and all(event.refusal is None for event in batch.events)
    )


def take_in(database: Database, batch: IntakeBatch) -> IntakeResult:
    """Take a plain batch in, in a transaction of its own.

    Raises:
        NotAsExpected: Nothing was kept.
    """
    moves = [(partition, *batch.moves[partition]) for partition in sorted(batch.moves)]
    runs_here = batch.queue is None
    behind = database.call(
        TAKE_IN,
        (
            batch.executor, batch.consumer, batch.incarnation, batch.application, batch.name, batch.version,
            batch.queue,
        ),
        columns_of(moves, 5),
        [sorted(batch.unknown)],
        columns_of([_workflow_row(event, runs_here=runs_here) for event in batch.events], 6),
        columns_of([event_row(event) for event in batch.events], 9),
    )  # fmt: skip
    return IntakeResult(behind=frozenset(json.loads(behind)) if behind is not None else frozenset())


def _workflow_row(event: NewEvent, *, runs_here: bool) -> tuple[object, ...]:
    sequence = event.offset if event.lane is not None else None
    owned = runs_here and event.kept
    return (event.workflow_id, event.partition, event.offset, event.lane, sequence, owned)


def event_row(event: NewEvent) -> tuple[object, ...]:
    """A row of insert_events."""
    return (
        event.workflow_id, event.key, event.value, event.headers, event.timestamp_type, event.timestamp,
        event.leader_epoch, event.latency, event.fingerprint,
    )  # fmt: skip
