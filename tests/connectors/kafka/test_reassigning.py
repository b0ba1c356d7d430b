"""Partitions that are lost, taken away in the database, or out of range are positioned anew by the watermark."""

import threading
import time

import pytest

from dbos_events import KafkaMessage
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import PROTOCOLS, Consumers, Counting, protocol
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until
from tests.servers.kafka import create_topic, delete_topics


def wait_for_success(rows: Rows, count: int) -> None:
    wait_until(lambda: rows.succeeded() == count, f"not {count} events have succeeded")


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("protocol_name", PROTOCOLS)
def test_a_reader_that_retention_overtakes_goes_on_behind_the_gap(
    protocol_name: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    counting = Counting()
    gate = threading.Event()

    def held(message: KafkaMessage) -> None:
        counting.sync_handler(message)
        assert message.partition == 1 or gate.wait(60)

    config = {"group.id": f"group-{topic}", **protocol(protocol_name), "fetch.message.max.bytes": 20_000}
    broker.produce(topic, [b"x" * 1000] * 3000)
    consumers.start(topic, held, ordering="partition", config=config, batch_size=10, max_in_flight=20)
    wait_until(lambda: rows.watermarks().get(0) == 10, "the lane does not fill")
    # A partition without room is paused after a second, and what the client had fetched of it is dropped.
    paused_at = time.monotonic() + 2.5
    wait_until(lambda: time.monotonic() > paused_at, "time stands still")

    broker.delete_records(topic, {0: 2900})
    gate.set()
    wait_until(lambda: rows.watermarks().get(0) == 3000, "it does not read on", seconds=60)
    broker.produce(topic, numbers(20), partition=1)
    ((partition, first, following),) = rows.gaps()
    assert (partition, following) == (0, 2900)
    wait_for_success(rows, first + 100 + 20)
    assert set(counting.executions.values()) == {1}
    assert [offset for place, offset in counting.order if place == 0] == [*range(first), *range(2900, 3000)]
    assert rows.unexplained_holes() == []


@pytest.mark.parametrize("ordering", ["none", "partition"])
@pytest.mark.parametrize("protocol_name", PROTOCOLS)
def test_a_member_proves_itself_before_it_takes_a_partition_back(
    protocol_name: str,
    ordering: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
) -> None:
    topic = kafka_topic(2)
    group = f"group-{topic}"
    counting = Counting()
    config = {"group.id": group, **protocol(protocol_name)}
    consumers.start(topic, counting.sync_handler, config=config, ordering=ordering)
    broker.produce_spread(topic, numbers(10), 2)
    wait_for_success(rows, 10)

    # A zombie's late callback takes the partition in the database; the group knows better.
    rows.query("UPDATE {t}watermarks SET epoch = epoch + 1, holder = NULL WHERE partition = 0")
    stolen = rows.one("SELECT epoch FROM {t}watermarks WHERE partition = 0")
    broker.produce_spread(topic, numbers(10), 2)
    wait_for_success(rows, 20)

    assert rows.one("SELECT epoch FROM {t}watermarks WHERE partition = 0") == stolen + 1
    assert set(counting.executions.values()) == {1}
    assert rows.gaps() == []
    wait_until(
        lambda: broker.committed(group, topic, 2) == {0: 10, 1: 10}, "the group's offsets do not follow"
    )


def test_a_process_that_was_declared_dead_goes_on_under_a_new_number(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(4)
    counting = Counting()
    app = consumers.start(topic, counting.async_handler, ordering="partition")
    broker.produce_spread(topic, numbers(40), 4)
    wait_for_success(rows, 40)
    for count in (80, 120):
        rows.query("UPDATE {t}executors SET alive = false WHERE alive")
        broker.produce_spread(topic, numbers(40), 4)
        wait_for_success(rows, count)
    assert rows.one("SELECT count(*) FROM {t}executors") == 3
    assert app.core.executor == rows.one("SELECT max(id) FROM {t}executors")
    assert len(counting.executions) == 120
    assert rows.unexplained_holes() == []


def test_records_of_a_topic_that_was_made_again_are_other_events(
    kafka_topic: TopicFactory, kafka_bootstrap: str, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    config = {"group.id": f"group-{topic}"}
    counting = Counting()
    broker.produce(topic, numbers(3))
    app = consumers.start(topic, counting.sync_handler, config=config)
    wait_for_success(rows, 3)
    app.destroy()
    delete_topics(kafka_bootstrap, [topic])
    wait_until(lambda: topic not in broker.admin.list_topics(timeout=5).topics, "the topic is still there")
    create_topic(kafka_bootstrap, topic)
    broker.produce(topic, numbers(3))

    consumers.start(topic, counting.sync_handler, config=config)
    wait_for_success(rows, 6)
    assert rows.one("SELECT count(*) FROM {t}incarnations WHERE topic = ?", [topic]) == 2
    assert rows.unexplained_holes() == []
