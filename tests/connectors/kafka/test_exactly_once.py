"""Without faults each record runs its handler exactly once, however it is run and whoever reads it."""

import pytest

from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import PROTOCOLS, Consumers, Counting, protocol
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

PARTITIONS = 4
COUNT = 1000
VALUES = [str(number).encode() for number in range(COUNT)]

WAYS = {
    "unordered": {},
    "by partition": {"ordering": "partition"},
    "queue": {"queue_name": "events"},
}


def assert_each_ran_once(counting: Counting, rows: Rows, topic: str, broker: Broker) -> None:
    ends = broker.ends(topic, PARTITIONS)
    expected = {(partition, offset) for partition, end in ends.items() for offset in range(end)}
    assert len(expected) == COUNT
    assert counting.executions.keys() == expected
    assert set(counting.executions.values()) == {1}
    assert rows.statuses() == {"SUCCESS": COUNT}
    assert rows.watermarks(topic) == ends
    assert rows.unexplained_holes() == []
    assert rows.gaps() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_each_record_runs_its_handler_once(
    kind: str, way: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(PARTITIONS)
    counting = Counting()
    broker.produce_spread(topic, VALUES, PARTITIONS)

    handler = counting.sync_handler if kind == "sync" else counting.async_handler
    consumers.start(topic, handler, **WAYS[way])
    wait_until(lambda: rows.succeeded() == COUNT, "not all events have finished")

    assert_each_ran_once(counting, rows, topic, broker)
    if way == "by partition":
        for partition in range(PARTITIONS):
            offsets = [offset for place, offset in counting.order if place == partition]
            assert offsets == sorted(offsets)


def test_sqlite_does_as_postgresql_does(
    kafka_topic: TopicFactory, broker: Broker, migrated_sqlite: str, kafka_bootstrap: str
) -> None:
    topic = kafka_topic(PARTITIONS)
    counting = Counting()
    rows = Rows(migrated_sqlite)
    broker.produce_spread(topic, VALUES, PARTITIONS)
    with Consumers(migrated_sqlite, kafka_bootstrap) as consumers:
        consumers.start(topic, counting.async_handler, ordering="partition")
        wait_until(lambda: rows.succeeded() == COUNT, "not all events have finished")
    assert_each_ran_once(counting, rows, topic, broker)


@pytest.mark.parametrize("ordering", ["none", "partition"])
@pytest.mark.parametrize("protocol_name", PROTOCOLS)
def test_members_that_come_and_go_under_load_repeat_nothing(
    protocol_name: str,
    ordering: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    consumers: Consumers,
    rows: Rows,
) -> None:
    topic = kafka_topic(PARTITIONS)
    counting = Counting()
    third = COUNT // 3
    options = {"ordering": ordering, "config": protocol(protocol_name), "batch_size": 50}

    first = consumers.start(topic, counting.async_handler, app_executor_id="first", **options)
    wait_until(lambda: len(rows.holders()) == PARTITIONS, "the first member does not hold all partitions")
    broker.produce_spread(topic, VALUES[:third], PARTITIONS)
    consumers.start(topic, counting.sync_handler, app_executor_id="second", **options)
    broker.produce_spread(topic, VALUES[third : 2 * third], PARTITIONS)
    wait_until(lambda: set(rows.holders().values()) == {"first", "second"}, "the members do not share")
    broker.produce_spread(topic, VALUES[2 * third :], PARTITIONS)
    first.destroy(workflow_completion_timeout_sec=10)
    wait_until(lambda: rows.succeeded() == COUNT, "not all events have finished")

    assert_each_ran_once(counting, rows, topic, broker)
