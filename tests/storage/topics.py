"""A consumer of one topic, and the intake of its records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbos_events.storage.rows import IntakeBatch, IntakeResult, LaneEntry, NewEvent
from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import APP

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
        [position] = self.storage.assign(executor, self.consumer, self.incarnation, [partition])
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
                event(partition, offset)
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
            ordered=self.lane,
            lanes={partition: str(partition) for partition in moves} if self.lane else {},
            moves={partition: (*move, 7) for partition, move in moves.items()},
            gaps=tuple(gaps),
            events=tuple(events),
        )

    def intake(self, executor: int, moves: Mapping[int, Move], **more: Sequence[object]) -> IntakeResult:
        return self.storage.intake(self.batch(executor, moves, **more))  # type: ignore[arg-type]

    def watermark(self, partition: int = 0) -> int:
        states = self.storage.list_partitions(APP)
        return {state.partition: state.next_offset for state in states}[partition]

    def entries(self, before: int = 1000, count: int = 100, partition: int = 0) -> list[LaneEntry]:
        return self.storage.lane_entries(self.consumer, self.incarnation, partition, before, count)

    def lane_ids(self) -> list[str]:
        return [entry.workflow_id for entry in self.entries()]


def topic(storage: SqlStorage, *, partitions: int = 1, lane: bool = False, queue: str | None = None) -> Topic:
    """A consumer that is registered, with watermarks at 0."""
    consumer = storage.save_consumer(APP, "orders", "handle", "group", ["orders"], "{}")
    incarnation = storage.save_incarnation("cluster", "orders", "id-1")
    storage.create_watermarks(consumer, incarnation, dict.fromkeys(range(partitions), (0, "earliest")))
    return Topic(storage, consumer, incarnation, lane, queue)


def event(
    partition: int, offset: int, *, value: bytes | None = b"v", key: bytes | None = None, fingerprint: int = 1
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
    )
