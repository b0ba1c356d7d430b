"""Durable queues as they are declared, and as they are stored."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

from dbos_events.model.dataclass import dataclass

OnConflict: TypeAlias = Literal["update_if_latest_version", "always_update", "never_update"]
DuplicationPolicy: TypeAlias = Literal["reject", "return-existing"]

QUEUES_CHANGED = "queues:changed"
"""The signal that the settings of some queue are others now."""

LONGEST_DELAY_SECONDS = 100 * 366 * 86_400.0
"""A delay beyond it is a mistake, and its time could not be shown as a date everywhere."""

HIGHEST_PRIORITY_NUMBER = 2**31 - 1


class QueueRateLimit(TypedDict):
    """At most `limit` starts within any `period` seconds, over all processes."""

    limit: int
    period: float


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The settings of one queue; None means no limit.

    Args:
        concurrency: Workflows of the queue that run at once, over all processes.
        worker_concurrency: The same within one process.
        limiter: Starts per period, over all processes.
        partition_concurrency: Workflows of one partition that run at once, over all processes.
        partition_worker_concurrency: The same within one process.
        partition_limiter: Starts per period within one partition, over all processes.
        partitions: Whether the queue has partitions also where none of their limits is set.
        priority_ages: Seconds of waiting that outweigh one step of priority; None: never.
        polling_interval_sec: Seconds between two looks where no signal comes.
    """

    concurrency: int | None = None
    worker_concurrency: int | None = None
    limiter: QueueRateLimit | None = None
    partition_concurrency: int | None = None
    partition_worker_concurrency: int | None = None
    partition_limiter: QueueRateLimit | None = None
    partitions: bool = False
    priority_ages: float | None = None
    polling_interval_sec: float = 1.0

    @property
    def partitioned(self) -> bool:
        """Whether each workflow of the queue belongs to a partition."""
        return self.partitions or not (
            self.partition_concurrency is None
            and self.partition_worker_concurrency is None
            and self.partition_limiter is None
        )

    @property
    def shared(self) -> bool:
        """Whether processes must agree before each claim."""
        return not (
            self.concurrency is None
            and self.limiter is None
            and self.partition_concurrency is None
            and self.partition_limiter is None
            and self.priority_ages is None
        )


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue as the database holds it.

    `revision` is another number after each change. `declared` says that code declares it with `Queue(...)`; the others
    were registered, and every process of the application serves them.
    """

    application: str
    name: str
    limits: QueueLimits
    revision: int = 0
    declared: bool = True
    version: str | None = None
    paused_at: int | None = None
    paused_by: str | None = None
    paused_reason: str | None = None
    updated_at: int | None = None


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """What there is on a queue; `counted_up_to` bounds each number."""

    waiting: int
    delayed: int
    running: int
    parked: int
    oldest_at: int | None
    counted_up_to: int


@dataclass(frozen=True, slots=True)
class PartitionCounts:
    """What waits and runs in one partition of a queue."""

    partition: str | None
    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class QueueOverview:
    """A queue and what there is on it."""

    state: QueueState
    counts: QueueCounts
    partitions: tuple[PartitionCounts, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a workflow does not run: `reasons` are pairs of a word for programs and a sentence for people.

    Without reasons it runs, has ended, or is claimed in the next moment; `says` tells which. `before` counts those of its
    queue, or of its partition, that go before it, up to a bound.
    """

    workflow_id: str
    status: str
    queue: str | None
    says: str
    reasons: tuple[tuple[str, str], ...] = ()
    before: int | None = None


def channel_of(queue: str) -> str:
    """The signal that something was put on a queue."""
    return f"queue:{queue}"
