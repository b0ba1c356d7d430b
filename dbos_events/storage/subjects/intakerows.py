"""Events to take in, what became of them, and events as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dbos_events.model.dataclass import dataclass

if TYPE_CHECKING:
    from dbos_events.storage.writes.publish import NewPublication


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
