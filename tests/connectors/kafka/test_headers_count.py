"""Keys, values and headers count alike in all that is bounded by bytes: buffers, transactions, and what runs."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from dbos_events.connect import Record
from dbos_events.engine.run import Run
from dbos_events.runtime.intake.places import MOST_BYTES, Places
from dbos_events_kafka.buffers import LIMIT_BYTES, TAKE_BYTES, Buffers, Place
from dbos_events_kafka.reading import CHUNK, POLL_BYTES, Reading
from dbos_events_kafka.records import record_of

MEGABYTE = 1 << 20
ORDERS = Place("orders", 0)
PARTS = ("key", "value", "headers")


class Stored:
    """A message of which one part is large."""

    def __init__(self, offset: int, part: str, size: int = MEGABYTE) -> None:
        self._offset = offset
        self._parts: dict[str, Any] = {part: bytes(size)}
        if part == "headers":
            self._parts = {"headers": [("name", bytes(size - 4)), ("none", None)]}

    def __getattr__(self, name: str) -> Any:
        known = {"topic": "orders", "partition": 0, "offset": self._offset, "timestamp": (1, 5)}
        return lambda: {**known, **self._parts}.get(name)


@pytest.mark.parametrize("part", PARTS)
def test_a_record_is_as_large_as_all_of_its_parts(part: str) -> None:
    record = record_of(cast("Any", Stored(0, part)))
    assert MEGABYTE <= record.size <= MEGABYTE + 8


@pytest.mark.parametrize("part", PARTS)
def test_a_buffer_is_full_and_a_transaction_ends_by_the_bytes_of_any_part(part: str) -> None:
    buffers = Buffers(1000)
    buffers.open(ORDERS)
    records = [record_of(cast("Any", Stored(offset, part))) for offset in range(LIMIT_BYTES // MEGABYTE)]
    buffers.add([(ORDERS, record) for record in records])
    assert buffers.fullness()[ORDERS] >= 1
    assert buffers.swollen(ORDERS) == (part != "value")
    buffers.confirm(buffers.unconfirmed()["orders"])
    taken = buffers.take(lambda _: 1000, 1000)["orders"]
    assert len(taken) == TAKE_BYTES // MEGABYTE
    buffers.take(lambda _: 1000, 1000)
    buffers.take(lambda _: 1000, 1000)
    assert not buffers.swollen(ORDERS)


@pytest.mark.parametrize("part", PARTS)
def test_a_poll_ends_when_it_has_come_to_its_bytes_whatever_part_they_are_in(part: str) -> None:
    given = 0

    def consume(count: int, _seconds: float) -> list[Any]:
        nonlocal given
        given += count
        return [Stored(given - count + number, part) for number in range(count)]

    client = SimpleNamespace(poll=lambda _: Stored(999, part), consume=consume)
    reading = Reading(500, Buffers(1000))
    first = reading.poll(cast("Any", client))
    assert first is not None
    assert len(first.records) <= 1 + CHUNK  # what is not known beforehand
    again = reading.poll(cast("Any", client))
    assert again is not None
    assert len(again.records) <= POLL_BYTES // MEGABYTE + 1


def run_of(number: int) -> Run:
    return cast("Run", SimpleNamespace(id=str(number)))


def test_heavy_events_fill_the_memory_before_the_places_and_free_it_when_they_leave() -> None:
    places = Places(1000)
    runs = [run_of(number) for number in range(MOST_BYTES // MEGABYTE)]
    places.occupy(len(runs))
    for run in runs:
        assert not places.heavy
        places.weigh(run, 3, MEGABYTE)
    assert places.heavy
    assert places.heavy_in(3, 1)
    assert not places.heavy_in(2, 1)
    places.left(runs[0])
    assert not places.heavy
    places.given_back(runs[1:])
    assert places.cache_room == 1000
    assert not places.heavy_in(3, 1000)


def test_a_record_from_elsewhere_is_weighed_by_what_it_has() -> None:
    buffers = Buffers(1000)
    buffers.open(ORDERS)
    buffers.add([(ORDERS, Record(0, 0, bytes(LIMIT_BYTES), None, None, 1, 0, None, None))])
    assert buffers.fullness()[ORDERS] >= 1
