"""From polled records to one intake transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dbos_events.connect.source import Record
from dbos_events.errors import DBOSException
from dbos_events.model.dataclass import dataclass, field
from dbos_events.runtime.encoding import fingerprint_of, id_prefix
from dbos_events.runtime.intake.lanes import LaneGroup
from dbos_events.runtime.intake.naming import LaneOf
from dbos_events.runtime.intake.shared import LANE
from dbos_events.serialization.headers import encode_headers
from dbos_events.storage.subjects.intakerows import IntakeBatch, NewEvent
from dbos_events.storage.writes import NewPublication


@dataclass(slots=True)
class Assignment:
    """One partition while it is ours: `next_offset` is what this assignment last read or wrote.

    `consumer` is what the ids of all events of the consumer begin with.
    """

    consumer: str
    topic: str
    incarnation: int
    partition: int
    epoch: int
    next_offset: int
    lanes: LaneGroup | None = None
    leftovers: LaneGroup | None = None
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = id_prefix(self.consumer, self.topic, self.incarnation, self.partition)


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
    lane_of: LaneOf | None = None
    shared: bool = False


class NamedRecord(NamedTuple):
    """A record of the batch, with the id of its workflow and the name of its lane."""

    workflow_id: str
    record: Record
    lane: str | None


class PublishedRecord(NamedTuple):
    """What is published of a record."""

    partition: int
    offset: int
    publication: NewPublication


@dataclass(frozen=True, slots=True)
class Formed:
    """The records of assigned partitions, at or after their position, and what they move.

    `filtered` and `published` are those that start nothing; `refused` says of some why their handler must not be called,
    `notes` the same as (codec, stored error).
    """

    records: list[NamedRecord]
    moves: dict[int, tuple[int, int, int, int | None]]
    gaps: tuple[tuple[int, int, int], ...]
    filtered: tuple[tuple[int, int, int, int], ...] = ()
    refused: Mapping[str, DBOSException] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    publications: tuple[PublishedRecord, ...] = ()
    published: tuple[tuple[int, int, int, int], ...] = ()


def form(
    common: Intaking, assignments: Mapping[tuple[int, int], Assignment], records: Sequence[Record]
) -> Formed:
    """What of `records` belongs into one transaction."""
    partitions = {record.partition for record in records}
    ours = {partition: assignments.get((common.incarnation, partition)) for partition in partitions}
    last: dict[int, Record] = {}
    gaps: list[tuple[int, int, int]] = []
    accepted: list[NamedRecord] = []
    for record in records:
        assignment = ours[record.partition]
        if assignment is None:
            continue
        before = last.get(record.partition)
        position = assignment.next_offset if before is None else before.offset + 1
        if record.offset < position:
            continue  # polled before the partition was positioned
        if record.offset > position:
            gaps.append((record.partition, position, record.offset))
        last[record.partition] = record
        lane = LANE if common.shared else None
        if common.lane_of is not None:
            lane = common.lane_of(assignment.topic, record)
        accepted.append(NamedRecord(f"{assignment.prefix}{record.offset}", record, lane))
    moves = {
        partition: (assignment.epoch, assignment.next_offset, end.offset + 1, end.leader_epoch)
        for partition, end in last.items()
        if (assignment := ours[partition]) is not None
    }
    return Formed(accepted, moves, tuple(gaps))


def batch_of(common: Intaking, formed: Formed, kept: Sequence[bool], unknown: frozenset[str]) -> IntakeBatch:
    """The transaction; `kept` says of each record whether it may run here at once."""
    return IntakeBatch(
        executor=common.executor,
        consumer=common.consumer,
        incarnation=common.incarnation,
        application=common.application,
        name=common.name,
        version=common.version,
        queue=common.queue,
        moves=formed.moves,
        gaps=formed.gaps,
        events=tuple(
            _new_event(accepted, keep, formed.notes)
            for accepted, keep in zip(formed.records, kept, strict=True)
        ),
        unknown=unknown,
        shared_lane=LANE if common.shared else None,
        filtered=formed.filtered,
        publications=formed.publications,
        published=formed.published,
    )


def _new_event(accepted: NamedRecord, kept: bool, notes: Mapping[str, tuple[str, str]]) -> NewEvent:
    record = accepted.record
    return NewEvent(
        accepted.workflow_id,
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
        accepted.lane,
        kept,
        notes.get(accepted.workflow_id),
    )
