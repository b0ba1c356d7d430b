"""A partition of which nothing is heard, though its log goes on, is positioned anew, and then gets a new client."""

from collections.abc import Collection, Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from dbos_events.connect import Record
from dbos_events_kafka.buffers import Buffers, Place
from dbos_events_kafka.confirming import Confirming
from dbos_events_kafka.pollwork import Commands
from dbos_events_kafka.state import SourceState
from dbos_events_kafka.topics import Life, Topics
from dbos_events_kafka.watch import SILENT_LOOKS, Watch

ORDERS = Place("orders", 0)


class End:
    """What the admin client answers."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


class RecordedTopics(Topics):
    """The end of the log is what the test says."""

    def __init__(self) -> None:
        self._lives = {"orders": Life("", 1, frozenset({0}))}
        self.end = 0

    def describe_soon(self, topics: list[str]) -> dict[str, Future[Any]]:
        answer = Future[Any]()
        answer.set_result(SimpleNamespace(topic_id="made again"))
        return dict.fromkeys(topics, answer)

    def ends_soon(self, places: Iterable[tuple[str, int]]) -> dict[TopicPartition, Future[Any]]:
        answers = {}
        for place in places:
            answers[TopicPartition(*place)] = answer = Future[Any]()
            answer.set_result(End(self.end))
        return answers


class Watched:
    """One partition that is open, and who looks at it."""

    def __init__(self) -> None:
        self.topics = RecordedTopics()
        self.buffers = Buffers(100)
        self.commands = Commands()
        self.again: list[object] = []
        confirming = Confirming(self.topics, self.buffers, self.again.append, SourceState("consumer"))  # type: ignore[arg-type]
        self.watch = Watch(self.topics, confirming, self.buffers, self.commands, self._reposition)
        self.buffers.open(ORDERS)

    def _reposition(self, places: Collection[Place]) -> None:
        self.again.extend(places)

    def look(self, times: int) -> None:
        for _ in range(times):
            self.watch.look([ORDERS])

    def poll(self, offset: int) -> None:
        self.buffers.add([(ORDERS, Record(0, offset, None, b"v", None, 0, 0, 0, None))])
        for mark in self.buffers.unconfirmed().values():
            self.buffers.confirm(mark)
        self.buffers.take(lambda _place: 100, 100)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr("dbos_events_kafka.watch.LOOK_SECONDS", 0.0)
    return Watched()


def test_a_log_that_goes_on_in_silence_is_positioned_anew_and_then_gets_a_new_client(
    watched: Watched,
) -> None:
    watched.poll(4)
    watched.topics.end = 9
    watched.look(SILENT_LOOKS + 1)
    assert watched.again == []
    watched.look(1)
    assert watched.again == [ORDERS]
    assert not watched.commands.take_renewal()
    watched.look(SILENT_LOOKS)
    assert watched.commands.take_renewal()


def test_a_partition_that_is_read_to_its_end_is_left_alone(watched: Watched) -> None:
    watched.poll(4)
    watched.buffers.at_end(ORDERS, 6)  # past the marker of a transaction
    watched.topics.end = 6
    watched.look(3 * SILENT_LOOKS)
    assert watched.again == []


def test_records_that_arrive_end_the_silence(watched: Watched) -> None:
    watched.topics.end = 100
    for offset in range(3 * SILENT_LOOKS):
        watched.poll(offset)
        watched.look(2)
    assert watched.again == []


def test_a_partition_with_records_that_wait_for_room_is_not_silent(watched: Watched) -> None:
    watched.topics.end = 100
    watched.buffers.add([(ORDERS, Record(0, 4, None, b"v", None, 0, 0, 0, None))])
    watched.look(3 * SILENT_LOOKS)
    assert watched.again == []


def test_that_the_topic_was_made_again_is_noticed_though_all_its_partitions_are_halted(
    watched: Watched,
) -> None:
    watched.topics._lives = {"orders": Life("first", 1, frozenset({0}))}
    watched.watch.look([], [ORDERS])
    assert watched.again == ["orders"]
