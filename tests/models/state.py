"""What the model of the storage knows: rows as plain values, named as the columns of the tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dbos_events.errors import ExecutorFenced
from dbos_events.storage.subjects.taking import TakenWorkflow

OPEN = ("PENDING", "ENQUEUED", "DELAYED")
PUT_ASIDE = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


@dataclass
class Executor:
    application: str
    version: str
    lease_until: int
    alive: bool = True
    heartbeat: int = 0
    ended_at: int | None = None


@dataclass
class Workflow:
    id: str
    application: str
    name: str
    status: str
    start_id: int
    version: str | None
    created_at: int
    owner: int | None = None
    take: int = 0
    crashes: int = 0
    generation: int = 0
    attempt: int = 0
    queue: str | None = None
    priority: int = 0
    parent_id: str | None = None
    wake_at: int | None = None
    awaits: frozenset[str] = frozenset()
    consumer: int | None = None
    incarnation: int | None = None
    partition: int | None = None
    position: int | None = None
    lane: str | None = None
    lane_sequence: int | None = None
    lane_open: bool | None = None
    held: bool | None = None
    timeout_ms: int | None = None
    deadline: int | None = None
    start_by: int | None = None
    end_reason: str | None = None

    @property
    def in_its_lane(self) -> tuple[int | None, int | None, str | None]:
        return self.consumer, self.incarnation, self.lane

    @property
    def waits(self) -> bool:
        """Whether it is parked: for a time, or for keys."""
        return self.wake_at is not None or bool(self.awaits)

    @property
    def ready(self) -> bool:
        """Whether only its owner is missing."""
        return self.status == "PENDING" and self.owner is None and not self.waits

    def started_before(self) -> tuple[int, int, int]:
        return self.priority, self.created_at, self.start_id

    def taken(self) -> TakenWorkflow:
        return TakenWorkflow(
            self.id, self.name, self.take, self.generation, self.crashes, None, None, self.queue, self.parent_id,
            None, self.consumer, self.partition, self.position, self.lane, self.attempt, self.deadline,
        )  # fmt: skip


@dataclass
class Kept:
    """A checkpoint; its key holds workflow, generation and step."""

    order: int
    output: str | None
    error: str | None
    codec: str | None
    child_id: str | None
    writer: int
    write_id: int
    recorded_in: int | None = None


@dataclass
class Quarantined:
    consumer: int
    reason: str
    attempts: int
    failed_steps: tuple[int, ...] | None
    quarantined_at: int
    released_as: str | None = None


@dataclass
class Watermark:
    next_offset: int
    first_offset: int
    epoch: int = 0
    holder: int | None = None


@dataclass
class Lane:
    """A lane over several partitions."""

    next_sequence: int = 0
    epoch: int = 0
    holder: int | None = None


Ended = tuple[int, str, str, int | None, int]
"""A generation that is over: attempt, how it ended, why, where the next one may differ, when that begins."""


@dataclass
class State:
    now: Callable[[], int]
    executors: dict[int, Executor] = field(default_factory=dict)
    workflows: dict[str, Workflow] = field(default_factory=dict)
    checkpoints: dict[tuple[str, int, int], Kept] = field(default_factory=dict)
    results: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    quarantine: dict[str, Quarantined] = field(default_factory=dict)
    generations: dict[tuple[str, int], Ended] = field(default_factory=dict)
    edited: dict[tuple[str, int], bytes] = field(default_factory=dict)
    decisions: list[tuple[str, int, str]] = field(default_factory=list)
    starts: list[tuple[str, int]] = field(default_factory=list)
    watermarks: dict[tuple[int, int, int], Watermark] = field(default_factory=dict)
    gaps: list[tuple[int, int, int, str, int | None]] = field(default_factory=list)
    """Partition, first and next offset, reason, and of how many records it is known."""
    lanes: dict[tuple[int, int, str], Lane] = field(default_factory=dict)
    fingerprints: dict[str, int] = field(default_factory=dict)

    def fence(self, executor: int) -> None:
        if not self.is_alive(executor):
            raise ExecutorFenced(executor)

    def is_alive(self, executor: int | None) -> bool:
        return executor in self.executors and self.executors[executor].alive

    def live_versions(self, application: str) -> set[str]:
        living = self.executors.values()
        return {one.version for one in living if one.alive and one.application == application}

    def history(self, workflow_id: str, generation: int) -> dict[int, Kept]:
        """The checkpoints of one generation, by step."""
        return {
            step: kept
            for (owner, number, step), kept in sorted(self.checkpoints.items(), key=lambda one: one[0])
            if (owner, number) == (workflow_id, generation)
        }

    def entries(self, lane: tuple[int | None, int | None, str | None]) -> list[Workflow]:
        """The events that hold a lane, in its order."""
        found = [one for one in self.workflows.values() if one.lane_open and one.in_its_lane == lane]
        return sorted(found, key=lambda one: one.lane_sequence or 0)
