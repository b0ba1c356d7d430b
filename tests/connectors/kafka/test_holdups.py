"""What keeps a partition from taking more in: partitions before it, quotas; and an intake that fails loses nothing."""

import threading
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions

from dbos_events.errors import StorageError
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.broker import SECONDS, Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until

QUICK = {"topic.metadata.refresh.interval.ms": 500}


class Gated(Counting):
    """Its first event waits until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def sync_handler(self, message: Any) -> None:
        self.began(message)
        self.gate.wait(60)
        self.ended()


def add_partition(broker: Broker, topic: str) -> None:
    """Make it two, and wait until the broker tells so."""
    for future in broker.admin.create_partitions([NewPartitions(topic, 2)]).values():
        future.result(SECONDS)
    wait_until(
        lambda: len(broker.admin.list_topics(topic).topics[topic].partitions) == 2, "no second partition"
    )


def test_rule_10_with_strict_key_order_an_added_partition_waits_for_those_before_it(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    handler = Gated()
    broker.produce_keyed(topic, [(b"ada", b"1"), (b"ada", b"2")])
    consumers.start(topic, handler.sync_handler, ordering="key", strict_key_order=True, config=QUICK)
    wait_until(lambda: handler.total == 1, "the first event does not run")

    add_partition(broker, topic)
    broker.produce_keyed(topic, [(b"ada", b"3")], partition=1)
    wait_until(
        lambda: rows.query("SELECT 1 FROM {t}watermarks WHERE partition = 1 AND state = 'waiting'"),
        "the status does not say that the partition waits",
    )
    stays(lambda: handler.total == 1, "the new partition has overtaken the old one", seconds=1.0)

    handler.gate.set()
    wait_until(lambda: rows.succeeded() == 3, "the new partition is not read")
    assert handler.order == [(0, 0), (0, 1), (1, 0)]
    assert rows.one("SELECT count(*) FROM {t}watermarks WHERE gate IS NOT NULL") == 0


def test_without_strict_key_order_it_does_not_wait(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    handler = Gated()
    broker.produce_keyed(topic, [(b"ada", b"1")])
    consumers.start(topic, handler.sync_handler, ordering="key", config=QUICK)
    wait_until(lambda: handler.total == 1, "the first event does not run")
    add_partition(broker, topic)
    broker.produce_keyed(topic, [(b"ada", b"2")], partition=1)
    wait_until(lambda: handler.total == 2, "the new partition is not read")
    handler.gate.set()
    wait_until(lambda: rows.succeeded() == 2, "not all finished")


@pytest.mark.parametrize("quota", ["held_per_lane", "held_per_consumer"])
def test_rule_10_at_a_quota_of_held_events_the_rest_stays_with_the_broker(
    quota: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    bad = threading.Event()
    counting = Counting()

    def handler(message: Any) -> None:
        if not bad.is_set():
            raise ValueError("as asked")
        counting.sync_handler(message)

    settings: dict[str, Any] = {f"app_{quota}": 100}
    app = consumers.start(topic, handler, ordering="key", batch_size=50, **settings)
    broker.produce_keyed(topic, ((b"ada", b"%d" % number) for number in range(200)))
    wait_until(
        lambda: rows.query(
            "SELECT 1 FROM {t}watermarks WHERE state = 'waiting' AND detail LIKE ?", ("%as many as%",)
        ),
        "the status does not say that the partition waits",
    )
    broker.produce_keyed(topic, ((b"ada", b"%d" % number) for number in range(800)))
    stays(lambda: rows.watermarks(topic)[0] <= 200, "more was taken in than the quota allows", seconds=1.0)

    bad.set()
    app.redrive_events(everything=True)
    wait_until(lambda: rows.succeeded() == 1000, "intake does not go on", seconds=60)
    assert counting.order == [(0, offset) for offset in range(1000)]


@pytest.mark.parametrize("ordering", ["none", "key"])
def test_an_intake_that_fails_is_read_again(
    ordering: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    counting = Counting()
    app = consumers.start(topic, counting.sync_handler, ordering=ordering)
    storage, failures = app.launched.storage, iter([True, True])
    intake = storage.intake.take_in

    def failing(batch: Any) -> Any:
        if next(failures, False):
            raise StorageError("as asked")
        return intake(batch)

    storage.intake.take_in = failing  # type: ignore[method-assign]
    broker.produce_keyed(topic, ((b"%d" % (number % 3), b"x") for number in range(50)))
    wait_until(lambda: rows.succeeded() == 50, "not all events have finished")

    assert counting.executions == {(0, offset): 1 for offset in range(50)}
    assert rows.gaps() == []
