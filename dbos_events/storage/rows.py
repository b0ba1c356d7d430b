"""What the storage gives back, as plain values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dbos_events.storage.writes.publish import NewPublication


@dataclass(frozen=True, slots=True)
class NewExecutor:
    """A process that wants to run workflows.

    `explicit` says that the user chose the label, so that a successor with the same label may
    declare this executor dead after two silent heartbeats. `functions` are those that it can run, by name with what is
    told of them where that is a mapping.
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
    functions: Collection[str] | None = None


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
    functions: str | None = field(default=None, compare=False)
    """What it says of the functions that it can run, as it was registered."""


class UsedKey(NamedTuple):
    """A call of a step under an idempotency key that it asked for, in an earlier generation.

    `noted` is what its checkpoint says of arguments and key.
    """

    generation: int
    name: str
    noted: str


class KeyDecision(NamedTuple):
    """What an operator said about `generation`: the next one uses the "same" keys, or "new" ones."""

    generation: int
    keys: str


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
    attempt: int = 0
    deadline: int | None = None
    queue_partition_key: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEnding:
    """How a workflow stands: its status and, once it has ended, its stored value or error."""

    status: str
    codec: str | None
    output: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """The event that a workflow was started by, as it was received.

    Of one that was pushed, `key` is its id, and topic, partition and offset are None.
    """

    workflow_id: str
    topic: str | None
    partition: int | None
    offset: int | None
    key: bytes | None
    value: bytes | None
    headers: str | None
    timestamp_type: int
    timestamp: int
    leader_epoch: int | None
    latency: float | None
    content_type: str | None = None
    lane: str | None = None
    fingerprint: int | None = None
    consumer: str | None = None
    connector: str | None = None


class NewEvent(NamedTuple):
    """One record to take in: the workflow it starts, and the record itself.

    `lane` names the lane that it is in, if any; `kept` says that the caller runs it, unless the database knows of
    an earlier event of the lane that the caller does not. `refusal` is (codec, stored error) of what keeps its
    handler from being called.
    """

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
    lane: str | None = None
    kept: bool = True
    refusal: tuple[str, str] | None = None


class PlacedEvent(NamedTuple):
    """Where on the consumer's queue an event waits."""

    workflow_id: str
    priority: int
    queue_partition_key: str | None
    delay_ms: int | None


@dataclass(frozen=True, slots=True)
class IntakeBatch:
    """Records of one consumer and one incarnation, and the watermarks that they move.

    `moves` maps a partition to (assignment epoch, expected next offset, new next offset,
    leader epoch of the last record). `unknown` lanes are looked up for earlier events that hold
    them. `shared_lane` is the one lane of all events over several partitions, which counts them itself.
    `filtered` are records that start nothing: (partition, first offset, next offset, how many); so are the `published` ones
    of a consumer without a handler. `publications` are (partition, offset, publication).
    """

    executor: int
    consumer: int
    incarnation: int
    application: str
    name: str
    version: str
    queue: str | None
    moves: dict[int, tuple[int, int, int, int | None]]
    gaps: tuple[tuple[int, int, int], ...]
    events: tuple[NewEvent, ...]
    unknown: frozenset[str] = frozenset()
    shared_lane: str | None = None
    filtered: tuple[tuple[int, int, int, int], ...] = ()
    publications: tuple[tuple[int, int, NewPublication], ...] = ()
    published: tuple[tuple[int, int, int, int], ...] = ()
    placed: tuple[PlacedEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What an intake did.

    `stale` partitions were not moved: another assignment has them. `duplicates` were there
    before; `conflicts` were there with other content, or, as those of them that are `foreign`, as a workflow that is
    no event of this consumer. `behind` are those of the unknown lanes in which an earlier event stands: none of their
    events is kept. `repeated` partitions were moved by an earlier try, whose commit answer was lost: of those it is
    not known what was kept.
    """

    stale: frozenset[int] = frozenset()
    duplicates: frozenset[str] = frozenset()
    conflicts: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    repeated: frozenset[int] = frozenset()
    foreign: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Position:
    """Where an assignment of one partition begins."""

    partition: int
    epoch: int
    next_offset: int
    leader_epoch: int | None
    reason: str
    halted: str | None = None
    regression: int | None = None
    gate: str | None = None


class LanePlace(NamedTuple):
    """Where lanes lie, and the epoch under which this process holds them.

    `partition` is None for a lane over all partitions of the topic; `lane` is then its name. The incarnation of pushed
    events is 0: their place is all lanes of a consumer, and has no epoch.
    """

    consumer: int
    incarnation: int
    partition: int | None
    epoch: int
    lane: str = ""

    @property
    def is_pushed(self) -> bool:
        """Whether the events of these lanes are pushed."""
        return self.incarnation == 0


@dataclass(frozen=True, slots=True)
class LaneTaken:
    """What was found at the head of a lane.

    `rows` were taken, in order; `more` says that others may follow them. Without rows: `empty` when
    nothing holds the lane; else `owner` is who runs its head, None when that is put aside or sleeps.
    """

    rows: tuple[TakenWorkflow, ...] = ()
    more: bool = False
    empty: bool = False
    owner: int | None = None
    head: str | None = None
