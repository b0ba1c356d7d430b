"""Intake is one transaction, and Kafka learns of it afterwards."""

import threading
from typing import Any

import pytest

from dbos_events.errors import StorageUnavailable
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until

VALUES = [b"%d" % number for number in range(200)]


class Intake:
    """The real intake, with another `take_in`."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class LosesAnswers(Intake):
    """Commits, and then says that the server did not answer: every other time."""

    lost = 0
    asked = 0

    def take_in(self, batch: Any) -> Any:
        self.asked += 1
        result = self._real.take_in(batch)
        if self.asked % 2:
            self.lost += 1
            raise StorageUnavailable("The connection ended before the answer came.")
        return result


class Holds(Intake):
    """Lets no intake begin until it is told to."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.begun = threading.Event()
        self.go = threading.Event()

    def take_in(self, batch: Any) -> Any:
        self.begun.set()
        self.go.wait(30)
        return self._real.take_in(batch)


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_a_lost_commit_answer_neither_repeats_nor_loses_an_event(
    ordering: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    counting = Counting()
    app = consumers.start(topic, counting.async_handler, ordering=ordering, batch_size=10)
    app.core.storage.intake = lossy = LosesAnswers(app.core.storage.intake)
    broker.produce_spread(topic, VALUES, 2)
    wait_until(lambda: rows.succeeded() == len(VALUES), "not all events have succeeded")
    assert lossy.lost > 1
    assert set(counting.executions.values()) == {1}
    assert counting.total == len(VALUES)
    assert rows.unexplained_holes() == []
    assert rows.gaps() == []


def test_an_offset_is_committed_to_kafka_only_when_the_database_has_the_event(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    group = f"group-{topic}"
    app = consumers.start(topic, Counting().sync_handler, config={"group.id": group})
    broker.produce(topic, VALUES[:10])
    wait_until(lambda: broker.committed(group, topic, 1) == {0: 10}, "offsets are not committed")

    app.core.storage.intake = holding = Holds(app.core.storage.intake)
    broker.produce(topic, VALUES[:5])
    assert holding.begun.wait(10)
    stays(lambda: broker.committed(group, topic, 1) == {0: 10}, "committed too early", seconds=2.5)
    assert rows.watermarks() == {0: 10}
    holding.go.set()
    wait_until(lambda: broker.committed(group, topic, 1) == {0: 15}, "offsets are not committed")
    assert rows.watermarks() == {0: 15}


def test_the_group_commits_before_it_leaves(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    group = f"group-{topic}"
    app = consumers.start(topic, Counting().sync_handler, config={"group.id": group})
    broker.produce_spread(topic, VALUES, 2)
    wait_until(lambda: rows.succeeded() == len(VALUES), "not all events have succeeded")
    app.destroy()
    assert broker.committed(group, topic, 2) == rows.watermarks() == {0: 100, 1: 100}
    wait_until(lambda: broker.members(group) == 0, "the group has a member still", seconds=2)


def test_the_status_follows_while_events_flow(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    consumers.start(topic, Counting().async_handler, batch_size=5, max_in_flight=5)
    broker.produce(topic, VALUES * 50)
    wait_until(
        lambda: rows.query("SELECT state, end_offset FROM {t}watermarks") == [("reading", len(VALUES) * 50)],
        "the state is not reported while there is much to read",
        seconds=4,
    )
    assert rows.succeeded() < len(VALUES) * 50, "it read too fast for this test: make the topic longer"
