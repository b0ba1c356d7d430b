"""The way of almost every intake: nothing but new events, and watermarks that stand where they stood.

One call of a function in the database (`dbos_events/storage/onecall.py`). If anything else is met, nothing is kept, and
the intake goes statement by statement, which finds out what it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dbos_events.storage.database import Database
from dbos_events.storage.shapes import named, turned
from dbos_events.storage.subjects.intakerows import IntakeBatch, IntakeResult, NewEvent


def is_plain(batch: IntakeBatch) -> bool:
    """Whether there are only events to start, in lanes that their offsets count."""
    return (
        not batch.gaps
        and not batch.filtered
        and not batch.publications
        and not batch.published
        and not batch.placed
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
        "take_in",
        {
            **database.identified(batch.executor),
            "consumer": batch.consumer,
            "incarnation": batch.incarnation,
            "application": batch.application,
            "name": batch.name,
            "version": batch.version,
            "queue": batch.queue,
        },
        {
            "moves": named(moves, "partition", "epoch", "expected", "next_offset", "leader_epoch"),
            "lanes": {"lane": sorted(batch.unknown)},
            "events": _columns(batch.events, runs_here=batch.queue is None),
        },
    )
    return IntakeResult(behind=frozenset(json.loads(behind)) if behind is not None else frozenset())


def _columns(events: Sequence[NewEvent], *, runs_here: bool) -> Mapping[str, Sequence[Any]]:
    """All turned over at once, since making a row of each event costs more."""
    columns = dict(zip(NewEvent._fields, turned(events, len(NewEvent._fields)), strict=True))
    offsets = columns["offset"]
    columns["position"] = offsets
    columns["lane_sequence"] = [
        None if lane is None else offset for lane, offset in zip(columns["lane"], offsets, strict=True)
    ]
    columns["owned"] = columns["kept"] if runs_here else [False] * len(events)
    return columns
