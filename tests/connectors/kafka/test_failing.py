"""How an event ends whose handler fails, and what becomes of those behind it."""

import asyncio
import threading
import time

import pytest

from dbos_events import KafkaMessage
from dbos_events.errors import Quarantine
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import stays, wait_until


def failing(message: KafkaMessage) -> None:
    if message.value == b"bad":
        raise ValueError("cannot be handled")
    if message.value == b"odd":
        raise Quarantine("not an order")


def test_a_failed_event_is_quarantined_with_its_raw_bytes_and_the_others_go_on(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    consumers.start(topic, failing)
    broker.produce(topic, [b"good", b"bad", b"odd", b"good"], key=b"\xff\x00")
    wait_until(lambda: rows.statuses() == {"SUCCESS": 2, "ERROR": 2}, "not all events have ended")
    assert rows.quarantined() == [(0, 1, "handler-failed"), (0, 2, "not an order")]
    raw = rows.query(
        "SELECT e.key, e.value, q.error FROM {t}events e JOIN {t}quarantine q ON q.workflow_id = e.workflow_id "
        "ORDER BY q.workflow_id"
    )
    assert [(bytes(key), bytes(value)) for key, value, _ in raw] == [
        (b"\xff\x00", b"bad"),
        (b"\xff\x00", b"odd"),
    ]
    assert "cannot be handled" in raw[0][2]
    assert rows.watermarks() == {0: 4}


def test_in_order_a_quarantined_event_holds_its_partition_and_no_other(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(2)
    consumers.start(topic, failing, ordering="partition")
    broker.produce(topic, [b"good", b"bad", b"good", b"good"], partition=0)
    broker.produce(topic, [b"good"] * 4, partition=1)
    wait_until(
        lambda: rows.statuses() == {"SUCCESS": 5, "ERROR": 1, "PENDING": 2}, "the partition is not held"
    )
    broker.produce(topic, [b"good"] * 4, partition=1)
    wait_until(lambda: rows.succeeded() == 9, "the other partition is held, too")
    stays(lambda: rows.statuses()["PENDING"] == 2, "an event overtook a quarantined one", seconds=1)
    assert rows.quarantined() == [(0, 1, "handler-failed")]


def test_a_held_partition_is_held_for_the_next_process_too(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    app = consumers.start(topic, failing, ordering="partition")
    broker.produce(topic, [b"bad", b"good", b"good"])
    wait_until(lambda: rows.statuses() == {"ERROR": 1, "PENDING": 2}, "the partition is not held")
    app.destroy()
    consumers.start(topic, failing, ordering="partition")
    broker.produce(topic, [b"good"])
    wait_until(lambda: rows.statuses().get("PENDING") == 3, "the next process does not read on")
    stays(lambda: rows.statuses() == {"ERROR": 1, "PENDING": 3}, "an event overtook", seconds=1)


def test_with_on_failure_record_the_next_event_runs(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    consumers.start(topic, failing, ordering="partition", on_failure="record")
    broker.produce(topic, [b"bad", b"good", b"odd", b"good"])
    wait_until(lambda: rows.statuses() == {"SUCCESS": 2, "ERROR": 2}, "the lane is held")
    assert rows.quarantined() == []


def test_an_event_whose_value_cannot_be_stored_as_a_result_fails_alone(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    def returns(message: KafkaMessage) -> object:
        return object() if message.value == b"bad" else "fine"

    topic = kafka_topic()
    consumers.start(topic, returns, ordering="partition", on_failure="record")
    broker.produce(topic, [b"bad", b"good"])
    wait_until(lambda: rows.statuses() == {"SUCCESS": 1, "ERROR": 1}, "not all events have ended")


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_no_more_handlers_run_at_once_than_max_in_flight(
    ordering: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(4)
    counting = Counting()

    async def slow(message: KafkaMessage) -> None:
        counting.began(message)
        await asyncio.sleep(0.01)
        counting.ended()

    consumers.start(topic, slow, ordering=ordering, max_in_flight=7, batch_size=100)
    broker.produce_spread(topic, [b"x"] * 200, 4)
    wait_until(lambda: rows.succeeded() == 200, "not all events have succeeded")
    assert counting.most_at_once == (7 if ordering == "none" else 4)


def test_one_at_a_time(kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows) -> None:
    topic = kafka_topic(4)
    counting = Counting()

    def slow(message: KafkaMessage) -> None:
        counting.began(message)
        time.sleep(0.002)
        counting.ended()

    consumers.start(topic, slow, max_in_flight=1)
    broker.produce_spread(topic, [b"x"] * 60, 4)
    wait_until(lambda: rows.succeeded() == 60, "not all events have succeeded")
    assert counting.most_at_once == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_handler_that_sleeps_for_long_gives_its_place_to_others(
    kind: str, kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic()
    app = consumers.app(park_after_seconds=0.1)
    woken = threading.Event()

    def sleeps(message: KafkaMessage) -> None:
        if message.value == b"sleep":
            app.sleep(3)
            woken.set()

    async def sleeps_async(message: KafkaMessage) -> None:
        if message.value == b"sleep":
            await app.sleep_async(3)
            woken.set()

    consumers.declare(app, topic, sleeps if kind == "sync" else sleeps_async, max_in_flight=2)
    consumers.launch(app)
    broker.produce(topic, [b"sleep"] * 2 + [b"go"] * 20)
    wait_until(lambda: rows.succeeded() == 20, "those that sleep take up the places")
    assert not woken.is_set()
    parked = rows.query("SELECT owner FROM {t}workflows WHERE status = 'PENDING' AND wake_at IS NOT NULL")
    assert parked == [(None,), (None,)]
    wait_until(lambda: rows.succeeded() == 22, "those that sleep do not wake up")
