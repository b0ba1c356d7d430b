"""What the intake takes of the buffers at once."""

from dbos_events.connect import Record
from dbos_events_kafka.buffers import TAKE_BYTES, Buffers, Place

HALF = b"x" * (TAKE_BYTES // 2)
EVERYTHING = 1000


def record(place: Place, offset: int, value: bytes) -> tuple[Place, Record]:
    return place, Record(place.partition, offset, None, value, None, 1, 0, None, None)


def filled(partitions: int, each: int, value: bytes = b"small") -> Buffers:
    buffers = Buffers(limit=EVERYTHING)
    places = [Place("orders", number) for number in range(partitions)]
    for place in places:
        buffers.open(place)
        buffers.add(record(place, offset, value) for offset in range(each))
    buffers.confirm(buffers.unconfirmed()["orders"])
    return buffers


def take(buffers: Buffers, most: int = EVERYTHING) -> list[tuple[int, int]]:
    taken = buffers.take(lambda _place: EVERYTHING, most)
    return [(one.partition, one.offset) for one in taken.get("orders", [])]


def test_small_records_are_taken_together_in_the_order_of_each_partition() -> None:
    assert take(filled(2, 3)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_each_partition_gives_its_share() -> None:
    assert take(filled(3, 10), most=6) == [(number, offset) for number in range(3) for offset in range(2)]


def test_large_records_are_taken_as_far_as_one_transaction_should_hold() -> None:
    buffers = filled(1, 5, HALF)
    assert [take(buffers) for _ in range(4)] == [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4)], []]


def test_a_record_that_is_larger_than_that_is_taken_alone() -> None:
    buffers = filled(1, 2, HALF * 3)
    assert [take(buffers) for _ in range(3)] == [[(0, 0)], [(0, 1)], []]


def test_partitions_that_got_nothing_come_first_the_next_time() -> None:
    buffers = filled(5, 2, HALF)
    takes = [take(buffers) for _ in range(6)]
    assert takes[:5] == [
        [(0, 0), (1, 0)],
        [(2, 0), (3, 0)],
        [(4, 0), (0, 1)],
        [(1, 1), (2, 1)],
        [(3, 1), (4, 1)],
    ]
    assert takes[5] == []


def test_every_partition_has_its_turn_where_there_is_room_for_few_records() -> None:
    buffers = filled(4, 2)
    assert [take(buffers, most=1) for _ in range(5)] == [[(0, 0)], [(1, 0)], [(2, 0)], [(3, 0)], [(0, 1)]]


def test_nothing_is_taken_where_there_is_no_room() -> None:
    assert take(filled(2, 1), most=0) == []


def test_a_partition_takes_up_what_others_leave_of_the_bytes() -> None:
    buffers = Buffers(limit=EVERYTHING)
    small, large = Place("orders", 0), Place("orders", 1)
    for place, value in ((small, b"small"), (large, HALF)):
        buffers.open(place)
        buffers.add(record(place, offset, value) for offset in range(2))
    buffers.confirm(buffers.unconfirmed()["orders"])
    assert take(buffers) == [(0, 0), (0, 1), (1, 0), (1, 1)]
