"""What became of an offset, and offsets that nothing explains."""

from collections.abc import Sequence

import pytest

from dbos_events.model.naming import log_prefix
from dbos_events.model.proof import Gap, GapQuestion, TracedEvent
from dbos_events.runtime.encoding import id_prefix
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.intakerows import IntakeBatch, NewEvent
from tests.storage.building import APP, begin, change, end, quarantine, register, write

GROUP = "shop/orders group"  # what has to be encoded in ids


class Reader:
    """A consumer of `orders` that takes in what a test says, under the ids of real events."""

    def __init__(self, storage: SqlStorage, name: str = "orders", group: str = GROUP, start: int = 0) -> None:
        self.storage = storage
        self.group = group
        self.name = name
        self.executor = register(storage, name)
        self.consumer = storage.consumers.save(APP, name, "handle", group, ["orders"], "{}", "kafka")
        self.incarnation = storage.lives.save("cluster", "orders", "id-1")
        storage.positions.create(
            self.consumer, self.incarnation, dict.fromkeys(range(2), (start, "earliest"))
        )
        positions = storage.positions.assign(self.executor, self.consumer, self.incarnation, [0, 1])
        self.epochs = {position.partition: position.epoch for position in positions}
        self.next = dict.fromkeys(range(2), start)

    def id(self, offset: int, partition: int = 0) -> str:
        return f"{id_prefix(log_prefix('kafka', self.group), 'orders', self.incarnation, partition)}{offset}"

    def take(self, offsets: Sequence[int], *, to: int | None = None, partition: int = 0) -> None:
        """Take these offsets in, jump over those between, and move the watermark behind the last or to `to`."""
        expected = self.next[partition]
        gaps, position = [], expected
        for offset in offsets:
            if offset > position:
                gaps.append((partition, position, offset))
            position = offset + 1
        target = position if to is None else to
        events = tuple(
            NewEvent(
                self.id(offset, partition), partition, offset, None, b"v", None, 1, 0, None, None, offset
            )
            for offset in offsets
        )
        moves: dict[int, tuple[int, int, int, int | None]] = {
            partition: (self.epochs[partition], expected, target, None)
        }
        batch = IntakeBatch(
            self.executor, self.consumer, self.incarnation, APP, "handle", "v1", None, moves,
            tuple(gaps), events,
        )  # fmt: skip
        assert not self.storage.intake.take_in(batch).stale
        self.next[partition] = target

    def trace(self, offset: int, partition: int = 0) -> TracedEvent:
        [found] = self.storage.proofs.trace("orders", partition, offset, APP, self.name)
        return found


@pytest.fixture
def reader(storage: SqlStorage) -> Reader:
    return Reader(storage)


def holes(storage: SqlStorage, **question: object) -> list[tuple[str, int, int, int]]:
    """(consumer, partition, first, next) of what nothing explains."""
    found = storage.proofs.find_gaps(GapQuestion(**question))  # type: ignore[arg-type]
    return [
        (gap.consumer, gap.partition, gap.first_offset, gap.next_offset)
        for gap in found
        if gap.reason is None
    ]


# ------------------------------------------------------------------ trace


def test_an_event_that_was_taken_in_is_found_by_its_offset(storage: SqlStorage, reader: Reader) -> None:
    reader.take([0, 1])
    running = reader.trace(1)
    assert (running.workflow_id, running.status, running.executor) == (reader.id(1), "PENDING", "orders")
    assert (running.group, running.version, running.owned, running.next_offset) == (GROUP, "v1", True, 2)

    write(storage, reader.executor, end(reader.id(1)))
    ended = reader.trace(1)
    assert ended.status == "SUCCESS"
    assert ended.completed_at is not None
    assert ended.quarantine_reason is None


def test_an_event_that_was_put_aside_says_why(storage: SqlStorage, reader: Reader) -> None:
    reader.take([0])
    write(storage, reader.executor, quarantine(reader.id(0), reader.consumer))
    found = reader.trace(0)
    assert (found.status, found.error) == ("ERROR", "boom")
    assert (found.quarantine_reason, found.released_at) == ("attempts-exhausted", None)


def test_an_offset_that_the_log_did_not_have_says_so(reader: Reader) -> None:
    reader.take([0, 5])
    found = reader.trace(3)
    assert (found.workflow_id, found.gap_first, found.gap_next, found.gap_reason) == (None, 1, 5, "missing")


def test_an_offset_that_is_not_read_yet_or_lies_before_the_start_has_neither(storage: SqlStorage) -> None:
    reader = Reader(storage, start=10)
    reader.take([10])
    for offset in (5, 11):
        found = reader.trace(offset)
        assert (found.workflow_id, found.gap_reason) == (None, None)
        assert (found.first_offset, found.next_offset) == (10, 11)


def test_all_consumers_and_incarnations_are_told(storage: SqlStorage, reader: Reader) -> None:
    reader.take([0])
    other = Reader(storage, "audit", "audit")
    later = storage.lives.save("cluster", "orders", "id-2")
    storage.positions.create(reader.consumer, later, {0: (0, "earliest")})

    found = storage.proofs.trace("orders", 0, 0, APP, None)
    told = [(one.consumer, one.incarnation, one.workflow_id) for one in found]
    first = reader.incarnation
    assert told == [("audit", first, None), ("orders", first, reader.id(0)), ("orders", later, None)]
    assert storage.proofs.trace("orders", 7, 0, APP, None) == []
    assert storage.proofs.trace("orders", 0, 0, "other", None) == []
    assert storage.proofs.known_topics(APP) == {"orders": [0, 1]}
    assert storage.proofs.known_topics("other") == {}
    assert other.trace(0).workflow_id is None


def test_a_consumer_of_an_older_release_is_found_once_it_registers(
    storage: SqlStorage, reader: Reader
) -> None:
    reader.take([0])
    change(storage, "UPDATE {schema}.consumers SET id_prefix = NULL")
    assert reader.trace(0).workflow_id is None
    storage.consumers.save(APP, "orders", "handle", GROUP, ["orders"], "{}", "kafka")
    assert reader.trace(0).workflow_id == reader.id(0)


# ------------------------------------------------------------------ gaps


def test_below_a_watermark_everything_has_a_workflow_or_a_reason(storage: SqlStorage, reader: Reader) -> None:
    reader.take([0, 1, 2, 7, 8], to=9)
    reader.take(list(range(12)), partition=1)
    assert holes(storage) == []
    [stated] = storage.proofs.find_gaps(GapQuestion(stated=True))
    assert (stated.first_offset, stated.next_offset, stated.reason) == (3, 7, "missing")


def test_what_was_jumped_over_without_a_word_is_found(storage: SqlStorage, reader: Reader) -> None:
    """The watermark was moved by hand, rows were deleted: at the start, in the middle, at the end."""
    reader.take(list(range(10)), to=14)
    reader.take([0, 1, 5], partition=1)
    change(storage, "DELETE FROM {schema}.workflows WHERE partition = 0 AND position IN (0, 4, 5)")
    change(storage, "DELETE FROM {schema}.gaps")
    assert holes(storage) == [
        ("orders", 0, 0, 1),
        ("orders", 0, 4, 6),
        ("orders", 0, 10, 14),
        ("orders", 1, 2, 5),
    ]


def test_gaps_that_overlap_explain_what_they_cover_together(storage: SqlStorage, reader: Reader) -> None:
    reader.take([0], to=20)
    insert = (
        "INSERT INTO {schema}.gaps (consumer, incarnation, partition, first_offset, next_offset, recorded_at) "
        "VALUES (:consumer, :incarnation, 0, :first, :next, 0)"
    )
    for first, following in ((1, 15), (3, 5), (12, 18)):
        change(
            storage,
            insert,
            consumer=reader.consumer,
            incarnation=reader.incarnation,
            first=first,
            next=following,
        )
    assert holes(storage) == [("orders", 0, 18, 20)]


def test_a_partition_is_looked_at_from_its_first_position(storage: SqlStorage) -> None:
    reader = Reader(storage, start=100)
    reader.take([100, 101])
    assert holes(storage) == []
    change(storage, "UPDATE {schema}.watermarks SET first_offset = 90 WHERE partition = 0")
    assert holes(storage) == [("orders", 0, 90, 100)]
    change(storage, "UPDATE {schema}.watermarks SET first_offset = NULL")
    assert holes(storage) == [], "where an older release began is not known"


def test_ids_that_only_look_like_those_of_events_explain_nothing(storage: SqlStorage, reader: Reader) -> None:
    """Children of an event's workflow, and partition 10 beside partition 1."""
    reader.take([0, 2], to=4)
    change(storage, "DELETE FROM {schema}.gaps")
    prefix = id_prefix(log_prefix("kafka", GROUP), "orders", reader.incarnation, 0)
    begin(
        storage, reader.executor, f"{prefix}1-2", f"{prefix}3/1", f"{prefix}1{'0' * 30}", f"{prefix[:-1]}0/1"
    )
    assert holes(storage) == [("orders", 0, 1, 2), ("orders", 0, 3, 4)]


def test_a_question_can_be_narrowed(storage: SqlStorage, reader: Reader) -> None:
    other = Reader(storage, "audit", "audit")
    for one in (reader, other):
        one.take([0], to=2)
        one.take([0], to=3, partition=1)
    assert holes(storage, consumer="audit") == [("audit", 0, 1, 2), ("audit", 1, 1, 3)]
    assert holes(storage, consumer="audit", partition=1) == [("audit", 1, 1, 3)]
    assert holes(storage, topic="orders", partition=0) == [("audit", 0, 1, 2), ("orders", 0, 1, 2)]
    assert holes(storage, topic="other") == []
    assert holes(storage, application="other") == []
    assert len(holes(storage, limit=3)) == 3


def test_what_nothing_explains_comes_before_what_is_stated(storage: SqlStorage, reader: Reader) -> None:
    reader.take([0, 5], to=7)
    reader.take([3], partition=1)
    found = storage.proofs.find_gaps(GapQuestion(stated=True))
    assert [(gap.partition, gap.first_offset, gap.next_offset, gap.reason) for gap in found] == [
        (0, 6, 7, None),
        (0, 1, 5, "missing"),
        (1, 0, 3, "missing"),
    ]
    assert found[0] == Gap(APP, "orders", "orders", reader.incarnation, 0, 6, 7, None, None, None)
