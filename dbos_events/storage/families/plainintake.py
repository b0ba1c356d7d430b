"""The way of almost every intake: nothing but new events, and watermarks that stand where they stood.

One call of a function in the database (`dbos_events/storage/onecall.py`). If anything else is met, nothing is kept, and
the intake goes statement by statement, which finds out what it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from dbos_events.storage.calls import Function
from dbos_events.storage.database import Columns, Database, columns_of
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
    behind = database.call(
        TAKE_IN,
        (
            database.token(batch.executor), batch.consumer, batch.incarnation, batch.application, batch.name,
            batch.version, batch.queue,
        ),
        columns_of(moves, 5),
        [sorted(batch.unknown)],
        _columns(batch.events, runs_here=batch.queue is None),
    )  # fmt: skip
    return IntakeResult(behind=frozenset(json.loads(behind)) if behind is not None else frozenset())


def _columns(events: Sequence[NewEvent], *, runs_here: bool) -> Columns:
    """Of the workflows, then of the events: all turned over at once, since making a row of each event costs more."""
    ids, partitions, offsets, *recorded, lanes, kept, _ = columns_of(events, len(NewEvent._fields))
    sequences = [None if lane is None else offset for lane, offset in zip(lanes, offsets, strict=True)]
    owned = kept if runs_here else [False] * len(ids)
    return (ids, partitions, offsets, lanes, sequences, owned, ids, *recorded)


def event_row(event: NewEvent) -> tuple[object, ...]:
    """A row of insert_events."""
    return (
        event.workflow_id, event.key, event.value, event.headers, event.timestamp_type, event.timestamp,
        event.leader_epoch, event.latency, event.fingerprint,
    )  # fmt: skip
