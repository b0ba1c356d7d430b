"""From polled records to one intake transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dbos_events.connect.source import Record
from dbos_events.errors import Quarantine
from dbos_events.runtime.encoding import encode_headers, fingerprint_of, id_prefix
from dbos_events.runtime.intake.lanes import Lane
from dbos_events.storage.rows import IntakeBatch, NewEvent


@dataclass(slots=True)
class Assignment:
    """One partition while it is ours: `next_offset` is what this assignment last read or wrote."""

    group: str
    topic: str
    incarnation: int
    partition: int
    epoch: int
    next_offset: int
    lane: Lane | None = None
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = id_prefix(self.group, self.topic, self.incarnation, self.partition)


@dataclass(frozen=True, slots=True)
class Intaking:
    """What all events of a batch have in common."""

    executor: int
    consumer: int
    incarnation: int
    application: str
    name: str
    version: str
    queue: str | None


@dataclass(frozen=True, slots=True)
class Formed:
    """A batch, and the records in it with the ids of their workflows.

    `refused` says of some why their handler must not be called.
    """

    batch: IntakeBatch
    records: list[tuple[str, Record]]
    refused: Mapping[str, Quarantine] = field(default_factory=dict)


def form_batch(
    common: Intaking, assignments: Mapping[tuple[int, int], Assignment], records: Sequence[Record]
) -> Formed:
    """One transaction's worth of `records`: those of assigned partitions at or after their position."""
    expected: dict[int, int] = {}
    following: dict[int, tuple[int, int | None]] = {}
    gaps: list[tuple[int, int, int]] = []
    accepted: list[tuple[str, Record]] = []
    for record in records:
        assignment = assignments.get((common.incarnation, record.partition))
        if assignment is None:
            continue
        position = following.get(record.partition, (assignment.next_offset, None))[0]
        if record.offset < position:
            continue  # polled before the partition was positioned
        if record.offset > position:
            gaps.append((record.partition, position, record.offset))
        expected.setdefault(record.partition, assignment.next_offset)
        following[record.partition] = (record.offset + 1, record.leader_epoch)
        accepted.append((f"{assignment.prefix}{record.offset}", record))
    moves = {
        partition: (
            assignments[common.incarnation, partition].epoch,
            expected[partition],
            *following[partition],
        )
        for partition in expected
    }
    lanes = {
        partition: str(partition)
        for partition in moves
        if assignments[common.incarnation, partition].lane is not None
    }
    batch = IntakeBatch(
        executor=common.executor,
        consumer=common.consumer,
        incarnation=common.incarnation,
        application=common.application,
        name=common.name,
        version=common.version,
        queue=common.queue,
        ordered=bool(lanes),
        lanes=lanes,
        moves=moves,
        gaps=tuple(gaps),
        events=tuple(_new_event(workflow_id, record) for workflow_id, record in accepted),
    )
    return Formed(batch, accepted)


def _new_event(workflow_id: str, record: Record) -> NewEvent:
    return NewEvent(
        workflow_id,
        record.partition,
        record.offset,
        record.key,
        record.value,
        encode_headers(record.headers),
        record.timestamp_type,
        record.timestamp,
        record.leader_epoch,
        record.latency,
        fingerprint_of(record),
    )
