"""What the storage gives back, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewExecutor:
    """A process that wants to run workflows.

    `explicit` says that the user chose the label, so that a successor with the same label may
    declare this executor dead after two silent heartbeats.
    """

    application: str
    label: str
    explicit: bool
    version: str
    boot_id: str
    pid_namespace: str
    pid: int
    process_started: str
    lease_ms: int


@dataclass(frozen=True, slots=True)
class ExecutorRow:
    """One process start as the database holds it; `lease_over` is by the database's clock."""

    id: int
    application: str
    label: str
    explicit: bool
    version: str
    boot_id: str
    pid_namespace: str
    pid: int
    process_started: str
    alive: bool
    heartbeat: int
    lease_over: bool


@dataclass(frozen=True, slots=True)
class TakenWorkflow:
    """A workflow that this executor has just become the owner of, with what it needs to run it."""

    id: str
    name: str
    take: int
    generation: int
    crashes: int
    codec: str | None
    input: str | None
    queue: str | None
    parent_id: str | None
    root_id: str | None
    consumer: int | None
    partition: int | None
    position: int | None
    lane: str | None


@dataclass(frozen=True, slots=True)
class StoredEnding:
    """How a workflow stands: its status and, once it has ended, its stored value or error."""

    status: str
    codec: str | None
    output: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """The event that a workflow was started by, as it was received."""

    workflow_id: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: str | None
    timestamp_type: int
    timestamp: int
    leader_epoch: int | None
    latency: float | None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One record to take in: the workflow it starts, and the record itself."""

    workflow_id: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: str | None
    timestamp_type: int
    timestamp: int
    leader_epoch: int | None
    latency: float | None
    fingerprint: int


@dataclass(frozen=True, slots=True)
class IntakeBatch:
    """Records of one consumer and one incarnation, and the watermarks that they move.

    `moves` maps a partition to (assignment epoch, expected next offset, new next offset,
    leader epoch of the last record).
    """

    executor: int
    consumer: int
    incarnation: int
    application: str
    name: str
    version: str
    queue: str | None
    ordered: bool
    lanes: dict[int, str]
    moves: dict[int, tuple[int, int, int, int | None]]
    gaps: tuple[tuple[int, int, int], ...]
    events: tuple[NewEvent, ...]


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What an intake did.

    `stale` partitions were not moved: another assignment has them. `duplicates` were there
    before; `conflicts` were there with other content.
    """

    stale: frozenset[int] = frozenset()
    duplicates: frozenset[str] = frozenset()
    conflicts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Position:
    """Where an assignment of one partition begins."""

    partition: int
    epoch: int
    next_offset: int
    leader_epoch: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class LaneEntry:
    """An unfinished event of an ordered lane: who runs it, or that it is put aside."""

    workflow_id: str
    position: int
    owner: int | None
    status: str


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition of one consumer for `kafka status`."""

    application: str
    consumer: str
    group: str
    topic: str
    incarnation: int
    partition: int
    next_offset: int
    end_offset: int | None
    holder: str | None
    holder_alive: bool
    in_flight: int
    held: int
    quarantined: int
    state: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A process without a partition of one consumer, for `kafka status`; `process` is None when there is none."""

    application: str
    consumer: str
    group: str
    topics: tuple[str, ...]
    process: str | None
    state: str | None
    detail: str | None
