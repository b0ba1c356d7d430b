"""Proof of delivery: what became of one offset, and offsets that started nothing."""

from __future__ import annotations

from dbos_events.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class TracedEvent:
    """What became of one offset, for one consumer and one incarnation of the topic.

    Of the workflow (`workflow_id` and what follows), the quarantine and the gap all is None where
    there is none.
    """

    application: str
    consumer: str
    group: str
    incarnation: int
    topic_id: str
    retired: bool
    first_offset: int | None
    next_offset: int
    state: str | None
    detail: str | None
    workflow_id: str | None
    status: str | None
    name: str | None
    version: str | None
    executor: str | None
    executor_alive: bool
    generation: int | None
    attempt: int | None
    crashes: int | None
    queue: str | None
    lane: str | None
    held: bool
    owned: bool
    created_at: int | None
    completed_at: int | None
    wake_at: int | None
    error: str | None
    error_codec: str | None
    quarantine_reason: str | None
    quarantine_attempts: int | None
    quarantined_at: int | None
    released_at: int | None
    released_as: str | None
    gap_first: int | None
    gap_next: int | None
    gap_reason: str | None
    gap_recorded_at: int | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets below a watermark that started no workflow; `reason` is None where nothing says why."""

    application: str
    consumer: str
    topic: str
    incarnation: int
    partition: int
    first_offset: int
    next_offset: int
    reason: str | None
    records: int | None
    recorded_at: int | None


@dataclass(frozen=True, slots=True)
class GapQuestion:
    """Which watermarks `find_gaps` looks below; None is any. `stated` asks for the gaps with a reason, too."""

    application: str | None = None
    topic: str | None = None
    consumer: str | None = None
    partition: int | None = None
    stated: bool = False
    limit: int = 1000
