"""Rule 8: a topic that is deleted and made again is another life, while the service runs as well as while it is down."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import AdminClient

from dbos_events import KafkaMessage
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import PROTOCOLS, Consumers, Counting, protocol
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until
from tests.servers.kafka import create_topic, delete_topics


def values(life: str, count: int) -> list[bytes]:
    return [f"{life}{number}".encode() for number in range(count)]


def make_again(broker: Broker, topic: str, partitions: int = 1) -> None:
    """Delete the topic, and create it as soon as the name is free."""
    delete_topics(broker.bootstrap, [topic])
    admin: AdminClient = broker.admin
    wait_until(lambda: topic not in admin.list_topics(timeout=5).topics, "the topic is still there")
    create_topic(broker.bootstrap, topic, partitions=partitions)


def lives(rows: Rows, topic: str) -> list[tuple[bool, int]]:
    """(retired, next offset of partition 0) of each life, the oldest first."""
    return [
        (bool(retired), offset)
        for retired, offset in rows.query(
            "SELECT i.retired, m.next_offset FROM {t}incarnations i JOIN {t}watermarks m ON m.incarnation = i.id "
            "WHERE i.topic = ? AND m.partition = 0 ORDER BY i.id",
            [topic],
        )
    ]


def received(counting: Counting) -> list[object]:
    return sorted(str(message.value) for message in counting.messages)


@pytest.mark.parametrize("count", [2, 5], ids=["fewer records than before", "more records than before"])
@pytest.mark.parametrize("protocol_name", PROTOCOLS)
def test_a_topic_that_is_made_again_while_the_service_runs_is_read_from_its_beginning(
    protocol_name: str,
    count: int,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topic = kafka_topic()
    counting = Counting()
    broker.produce(topic, values("a", 3))
    config = {"group.id": f"group-{topic}", **protocol(protocol_name)}
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 3, "not all events have finished")

    with caplog.at_level(logging.ERROR, "dbos_events"):
        make_again(broker, topic)
        broker.produce(topic, values("b", count))
        wait_until(lambda: rows.succeeded() == 3 + count, "the second life is not read", seconds=60)
        broker.produce(topic, values("c", 2))
        wait_until(lambda: rows.succeeded() == 5 + count, "the second life is not read on")

    assert received(counting) == sorted(map(str, values("a", 3) + values("b", count) + values("c", 2)))
    assert lives(rows, topic) == [(True, 3), (False, count + 2)]
    assert len([record for record in caplog.records if "made again" in record.getMessage()]) == 1
    states = [(row.state, row.detail) for row in app.launched.storage.positions.read(None)]
    wait_until(
        lambda: [row.state for row in app.launched.storage.positions.read(None)] == ["retired", "reading"],
        f"the status does not tell the lives apart: {states}",
    )
    (_, second) = app.launched.storage.positions.read(None)
    assert "deleted and made again" in str(second.detail)


def test_a_second_life_under_load_loses_and_repeats_nothing(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    counting = Counting()
    config = {"group.id": f"group-{topic}", **protocol("cooperative")}
    consumers.start(topic, counting.async_handler, config=config, batch_size=50)
    broker.produce_spread(topic, values("a", 1000), 2)
    wait_until(lambda: rows.succeeded() == 1000, "not all events have finished")

    make_again(broker, topic, 2)
    broker.produce_spread(topic, values("b", 3000), 2)
    wait_until(lambda: rows.succeeded() == 4000, "not all of the second life has run", seconds=60)

    assert received(counting) == sorted(map(str, values("a", 1000) + values("b", 3000)))
    assert rows.unexplained_holes() == []


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_topic_that_was_made_again_while_nobody_read_is_read_from_its_beginning(
    start: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    counting = Counting()
    config = {"group.id": f"group-{topic}", "auto.offset.reset": start}
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: lives(rows, topic) == [(False, 0)] and rows.holders(), "the group has not begun")
    broker.produce(topic, values("a", 3))
    wait_until(lambda: rows.succeeded() == 3, "not all events have finished")
    app.destroy()
    make_again(broker, topic)
    broker.produce(topic, values("b", 4))

    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 7, "the second life is not read")

    assert received(counting) == sorted(map(str, values("a", 3) + values("b", 4)))
    assert lives(rows, topic) == [(True, 3), (False, 4)]


@contextmanager
def opened_at_the_end(gate: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        gate.set()


@pytest.mark.parametrize("protocol_name", ["cooperative", "broker-assigned"])
def test_what_was_taken_in_of_the_life_before_is_finished_in_its_order(
    protocol_name: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    counting = Counting()
    gate = threading.Event()

    def held(message: KafkaMessage) -> None:
        counting.sync_handler(message)
        assert message.value != b"a0" or gate.wait(60)

    broker.produce(topic, values("a", 4))
    config = {"group.id": f"group-{topic}", **protocol(protocol_name)}
    with opened_at_the_end(gate):
        consumers.start(topic, held, config=config, ordering="partition")
        wait_until(lambda: rows.watermarks(topic) == {0: 4}, "not all records are taken in")
        make_again(broker, topic)
        broker.produce(topic, values("b", 2))
        wait_until(lambda: rows.succeeded() == 2, "the second life is not read", seconds=60)
        assert received(counting) == ["b'a0'", "b'b0'", "b'b1'"]
        gate.set()
        wait_until(lambda: rows.succeeded() == 6, "the first life is not finished")

    assert [message.value for message in counting.messages if str(message.value).startswith("b'a")] == values(
        "a", 4
    )
    assert rows.unexplained_holes() == []


def test_a_quiet_topic_that_is_made_again_is_noticed(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    counting = Counting()
    config = {"group.id": f"group-{topic}", **protocol("cooperative")}
    broker.produce(topic, values("a", 1))
    consumers.start(topic, counting.sync_handler, config=config)
    wait_until(lambda: rows.succeeded() == 1, "the event has not run")

    make_again(broker, topic)
    wait_until(lambda: lives(rows, topic) == [(True, 1), (False, 0)], "the second life is not noticed")


def test_what_kafka_is_told_names_the_life(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    group = f"group-{topic}"
    broker.produce(topic, values("a", 3))
    consumers.start(topic, Counting().sync_handler, config={"group.id": group})
    wait_until(lambda: broker.committed(group, topic, 1) == {0: 3}, "nothing is committed")

    ((_, _, metadata, epoch),) = broker.commits(group, topic, 1)
    assert metadata == f"dbos-events/{rows.one('SELECT id FROM {t}incarnations')}"
    assert epoch == 0
    assert json.loads(str(rows.one("SELECT topics FROM {t}consumers"))) == [topic]
