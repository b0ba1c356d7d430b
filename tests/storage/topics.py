"""A consumer of one topic, and the intake of its records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.intakerows import IntakeBatch, IntakeResult, NewEvent
from dbos_events.storage.subjects.lanes import LanePlace, LaneTaken
from tests.storage.building import APP, read

Move = tuple[int, int, int]


@dataclass
class Topic:
    """One life of a topic, read by one consumer whose events are called `e-PARTITION-OFFSET`."""

    storage: SqlStorage
    consumer: int
    incarnation: int
    lane: bool = False
    queue: str | None = None

    def epoch(self, executor: int, partition: int = 0) -> int:
        """Assign the partition to the executor; gives the epoch."""
        [position] = self.storage.positions.assign(executor, self.consumer, self.incarnation, [partition])
        return position.epoch

    def batch(
        self,
        executor: int,
        moves: Mapping[int, Move],
        *,
        events: Sequence[NewEvent] | None = None,
        gaps: Sequence[tuple[int, int, int]] = (),
    ) -> IntakeBatch:
        """All records from expected to target of each `{partition: (epoch, expected, target)}`."""
        if events is None:
            events = [
                event(partition, offset, lane=str(partition) if self.lane else None)
                for partition, (_, expected, target) in moves.items()
                for offset in range(expected, target)
            ]
        return IntakeBatch(
            executor=executor,
            consumer=self.consumer,
            incarnation=self.incarnation,
            application=APP,
            name="handle",
            version="v1",
            queue=self.queue,
            moves={partition: (*move, 7) for partition, move in moves.items()},
            gaps=tuple(gaps),
            events=tuple(events),
        )

    def intake(self, executor: int, moves: Mapping[int, Move], **more: Sequence[object]) -> IntakeResult:
        return self.storage.intake.take_in(self.batch(executor, moves, **more))  # type: ignore[arg-type]

    def watermark(self, partition: int = 0) -> int:
        states = self.storage.positions.read(APP)
        return {state.partition: state.next_offset for state in states}[partition]

    def place(self, epoch: int, partition: int = 0) -> LanePlace:
        return LanePlace(self.consumer, self.incarnation, partition, epoch)

    def take(
        self,
        executor: int,
        epoch: int,
        *,
        lane: str = "0",
        count: int = 10,
        partition: int = 0,
        limit: int | None = None,
    ) -> LaneTaken | None:
        """Take what can be taken of one lane; None when another is the holder."""
        place = self.place(epoch, partition)
        found = self.storage.lanes.take(executor, place, [lane], count, {"handle": limit})
        return None if found is None else found[lane]

    def entries(self, lane: str = "0") -> list[Any]:
        """The rows of a lane that hold it, in its order."""
        rows = read(self.storage, "SELECT * FROM {schema}.workflows WHERE lane_open ORDER BY lane_sequence")
        return [row for row in rows if row.lane == lane]

    def lane_ids(self, lane: str = "0") -> list[str]:
        return [row.id for row in self.entries(lane)]


def topic(storage: SqlStorage, *, partitions: int = 1, lane: bool = False, queue: str | None = None) -> Topic:
    """A consumer that is registered, with watermarks at 0."""
    consumer = storage.consumers.save(APP, "orders", "handle", "group", ["orders"], "{}", connector="kafka")
    incarnation = storage.lives.save("cluster", "orders", "id-1")
    storage.positions.create(consumer, incarnation, dict.fromkeys(range(partitions), (0, "earliest")))
    return Topic(storage, consumer, incarnation, lane, queue)


def event(
    partition: int,
    offset: int,
    *,
    value: bytes | None = b"v",
    key: bytes | None = None,
    fingerprint: int = 1,
    lane: str | None = None,
    kept: bool = True,
) -> NewEvent:
    return NewEvent(
        f"e-{partition}-{offset}",
        partition,
        offset,
        key,
        value,
        None,
        1,
        1_700_000_000_000,
        7,
        None,
        fingerprint,
        lane,
        kept,
    )
