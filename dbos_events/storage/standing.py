"""What the storage gives to operators: consumers that stand still, proofs of delivery, orphaned partitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BreakerStatus = Literal["open", "half-open"]


@dataclass(frozen=True, slots=True)
class Trial:
    """The event that a half-open breaker let in: how its workflow stands.

    `waits` says that it is parked in a wait of its own, `attempt` how many attempts have failed.
    """

    workflow_id: str
    status: str
    owned: bool
    waits: bool
    attempt: int


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """Whether a consumer takes events in, as all processes see it.

    `breaker` is None when the breaker is closed. `due` says that `breaker_until` has come by the
    database's clock; `epoch` grows with each change of the breaker, and every change compares it.
    """

    id: int
    application: str
    name: str
    paused_at: int | None
    paused_by: str | None
    paused_reason: str | None
    breaker: BreakerStatus | None
    breaker_reason: str | None
    breaker_since: int | None
    breaker_until: int | None
    breaker_executor: int | None
    due: bool
    epoch: int
    openings: int
    trial: Trial | None


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


@dataclass(frozen=True, slots=True)
class Orphan:
    """A partition that no live process holds, with ordered events that are ready to run."""

    consumer: int
    name: str
    handler: str
    topic: str
    incarnation: int
    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Unhandled:
    """A function that no live process of the application has, and how many workflows of it wait, at least."""

    application: str
    name: str
    waiting: int
