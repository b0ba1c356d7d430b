"""Rule 8: what was polled counts when a description that was asked for afterwards names the same id."""

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from dbos_events.connect import Record
from dbos_events_kafka.buffers import Buffers, Place
from dbos_events_kafka.confirming import Confirming
from dbos_events_kafka.state import SourceState
from dbos_events_kafka.topics import NO_ID, Life, Topics, id_of

ORDERS = Place("orders", 0)


class Description:
    """What the admin client answers, as far as it is read."""

    def __init__(self, topic_id: object) -> None:
        self.topic_id = topic_id


class RecordedTopics(Topics):
    """Questions are kept until the test answers them."""

    def __init__(self, topic_id: str) -> None:
        self._lives = {"orders": Life(topic_id, 1, frozenset({0}))}
        self.questions: list[Future[Any]] = []

    def describe_soon(self, topics: list[str]) -> dict[str, Future[Any]]:
        self.questions.append(Future())
        return dict.fromkeys(topics, self.questions[-1])


class Confirmed:
    """A partition that is open, and who asks about it."""

    def __init__(self, topic_id: str = "first") -> None:
        self.topics = RecordedTopics(topic_id)
        self.buffers = Buffers(100)
        self.buffers.open(ORDERS)
        self.changed: list[str] = []
        self.state = SourceState("consumer")
        self.confirming = Confirming(self.topics, self.buffers, self.changed.append, self.state)
        self._offset = 0

    def poll(self, count: int) -> None:
        """Records arrive from Kafka."""
        records = [record(self._offset + number) for number in range(count)]
        self._offset += count
        self.buffers.add((ORDERS, each) for each in records)

    def ask(self) -> float | None:
        return self.confirming.ask()

    def answer(self, topic_id: object) -> None:
        self.topics.questions.pop(0).set_result(Description(topic_id))

    def taken(self) -> list[int]:
        found = self.buffers.take(lambda _place: 100, 100)
        return [each.offset for each in found.get("orders", [])]


def record(offset: int) -> Record:
    return Record(0, offset, None, b"v", None, 0, 0, 0, None)


def test_nothing_is_taken_in_before_a_later_description_names_the_same_id() -> None:
    reader = Confirmed()
    reader.poll(2)
    assert reader.taken() == []
    reader.ask()
    assert reader.taken() == []
    reader.answer("first")
    assert reader.taken() == [0, 1]


def test_an_answer_counts_only_for_what_was_polled_before_the_question() -> None:
    reader = Confirmed()
    reader.poll(2)
    reader.ask()
    reader.poll(3)
    reader.answer("first")
    assert reader.taken() == [0, 1]


def test_one_question_at_a_time_covers_everything_polled_until_it_is_asked() -> None:
    reader = Confirmed()
    reader.poll(1)
    reader.ask()
    reader.poll(1)
    assert reader.ask() is not None
    assert len(reader.topics.questions) == 1


def test_another_id_keeps_the_records_out_and_is_told() -> None:
    reader = Confirmed()
    reader.poll(2)
    reader.ask()
    reader.answer("second")
    assert reader.taken() == []
    assert reader.changed == ["orders"]


def test_an_answer_about_what_was_dropped_meanwhile_confirms_nothing() -> None:
    reader = Confirmed()
    reader.poll(2)
    reader.ask()
    reader.buffers.drop([ORDERS])
    reader.buffers.open(ORDERS)
    reader.poll(2)
    reader.answer("first")
    assert reader.taken() == []


def test_a_question_that_fails_is_asked_again_and_shows_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbos_events_kafka.confirming.REPEAT_SECONDS", 0.0)
    reader = Confirmed()
    reader.poll(1)
    reader.ask()
    error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    reader.topics.questions.pop().set_exception(KafkaException(error))
    assert reader.taken() == []
    assert "does not exist" in reader.state.detail
    reader.ask()
    reader.answer("first")
    assert reader.taken() == [0]
    assert reader.state.detail == ""


def test_a_broker_without_ids_is_believed() -> None:
    reader = Confirmed("")
    reader.poll(2)
    reader.ask()
    assert reader.taken() == [0, 1]
    assert reader.topics.questions == []


def test_a_quiet_topic_is_looked_at_as_well() -> None:
    reader = Confirmed()
    reader.confirming.look(["orders"])
    reader.answer("second")
    assert reader.changed == ["orders"]


@pytest.mark.parametrize(("told", "text"), [("abc", "abc"), (None, ""), (NO_ID, "")])
def test_an_id_of_zeros_is_none(told: object, text: str) -> None:
    assert id_of(Description(told)) == text  # type: ignore[arg-type]
