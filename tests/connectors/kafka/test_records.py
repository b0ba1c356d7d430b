"""A record arrives as it was produced, and again, field for field, when another process goes on with it."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from dbos_events import KafkaMessage
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import Consumers, Handler
from tests.faults.broker import SECONDS, Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

MEGABYTE = bytes(range(256)) * 4096
EVERY_BYTE = bytes(range(256))
PRODUCED: list[dict[str, Any]] = [
    {"key": b"plain", "value": b"text"},
    {"key": b"tombstone", "value": None},
    {"key": b"empty value", "value": b""},
    {"key": None, "value": b"no key"},
    {"key": b"", "value": b"an empty key"},
    {"key": None, "value": None},
    {"key": b"", "value": b""},
    {"key": EVERY_BYTE, "value": EVERY_BYTE},
    {"key": b"\x00", "value": b"\xff\xfe"},
    {"key": "schlüssel".encode(), "value": "größe ☃".encode()},
    {"value": b"one header", "headers": [("trace", b"1")]},
    {"value": b"null header", "headers": [("trace", None)]},
    {"value": b"empty header", "headers": [("trace", b"")]},
    {"value": b"binary header", "headers": [("trace", EVERY_BYTE)]},
    {"value": b"repeated names", "headers": [("a", b"1"), ("b", b"2"), ("a", b"1"), ("a", None)]},
    {"value": b"odd names", "headers": [("", b"1"), ('"größe" /%', b"2")]},
    {"value": None, "headers": [("tombstone with a header", b"1")]},
    {"value": b"an early time", "timestamp": 1},
    {"value": b"a late time", "timestamp": 4_102_444_800_000},
    {"key": b"large", "value": MEGABYTE},
]


class Seeing:
    """A handler that notes what it was given, and then waits until it is let go."""

    def __init__(self, *, waits: bool) -> None:
        self.seen: dict[int, KafkaMessage] = {}
        self.go_on = threading.Event()
        if not waits:
            self.go_on.set()

    def sync_handler(self, message: KafkaMessage) -> None:
        self.seen[message.offset or 0] = message
        self.go_on.wait(60)

    async def async_handler(self, message: KafkaMessage) -> None:
        self.seen[message.offset or 0] = message
        await asyncio.to_thread(self.go_on.wait, 60)

    def of_kind(self, kind: str) -> Handler:
        return self.sync_handler if kind == "sync" else self.async_handler

    @property
    def complete(self) -> bool:
        return len(self.seen) == len(PRODUCED)


@pytest.fixture
def interrupted() -> Iterator[Seeing]:
    """Sees all events and finishes none."""
    handler = Seeing(waits=True)
    yield handler
    handler.go_on.set()


@pytest.fixture
def produced(kafka_topic: TopicFactory, broker: Broker) -> str:
    """A topic with all of `PRODUCED`, in this order, in its one partition."""
    topic = kafka_topic(max_message_bytes="4000000", message_timestamp_after_max_ms=str(2**62))
    producer = broker.producer(**{"message.max.bytes": 4_000_000, "enable.idempotence": True})
    refused: list[object] = []

    def delivered(error: object, _: Message) -> None:
        if error is not None:
            refused.append(error)

    for record in PRODUCED:
        producer.produce(topic, partition=0, on_delivery=delivered, **record)
    assert producer.flush(SECONDS) == 0
    assert refused == []
    return topic


def by_a_plain_client(bootstrap: str, topic: str) -> list[Message]:
    """The records as confluent-kafka gives them without us."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "plain", "log_level": 0})
    client.assign([TopicPartition(topic, 0, 0)])
    messages: list[Message] = []
    try:
        wait_until(
            lambda: messages.extend(client.consume(50, 0.1)) or len(messages) >= len(PRODUCED),
            "the records cannot be read",
        )
    finally:
        client.close()
    return messages


def assert_as_produced(seen: dict[int, KafkaMessage], topic: str) -> None:
    assert sorted(seen) == list(range(len(PRODUCED)))
    for offset, record in enumerate(PRODUCED):
        message = seen[offset]
        assert message.value == record["value"]
        assert message.key == record.get("key")
        assert message.headers == record.get("headers")
        assert (message.topic, message.partition, message.offset) == (topic, 0, offset)
        if "timestamp" in record:
            assert message.timestamp == (1, record["timestamp"])


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("way", ["memory", "queue"])
def test_a_handler_sees_each_record_as_it_was_produced(
    kind: str, way: str, produced: str, kafka_bootstrap: str, consumers: Consumers, rows: Rows
) -> None:
    seeing = Seeing(waits=False)
    options = {"queue_name": "events"} if way == "queue" else {}

    consumers.start(produced, seeing.of_kind(kind), **options)
    wait_until(lambda: rows.succeeded() == len(PRODUCED), "not all events have finished")

    assert_as_produced(seeing.seen, produced)
    for offset, plain in enumerate(by_a_plain_client(kafka_bootstrap, produced)):
        message = seeing.seen[offset]
        assert message.timestamp == plain.timestamp()
        assert message.leader_epoch == plain.leader_epoch()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_next_process_sees_what_the_first_one_saw_field_for_field(
    kind: str, produced: str, consumers: Consumers, rows: Rows, interrupted: Seeing
) -> None:
    first = consumers.start(produced, interrupted.of_kind(kind), app_shutdown_timeout_seconds=0.5)
    wait_until(lambda: interrupted.complete, "not all events have begun")
    first.destroy()
    assert rows.statuses() == {"PENDING": len(PRODUCED)}

    recovered = Seeing(waits=False)
    consumers.start(produced, recovered.of_kind(kind))
    wait_until(lambda: rows.succeeded() == len(PRODUCED), "the next process does not finish them")

    assert_as_produced(recovered.seen, produced)
    assert recovered.seen == interrupted.seen  # equal dataclasses: every field
    assert {type(message.key) for message in recovered.seen.values()} == {bytes, type(None)}


def test_sqlite_gives_back_the_same_fields(
    produced: str, kafka_bootstrap: str, migrated_sqlite: str, interrupted: Seeing
) -> None:
    rows = Rows(migrated_sqlite)
    with Consumers(migrated_sqlite, kafka_bootstrap) as consumers:
        first = consumers.start(produced, interrupted.async_handler, app_shutdown_timeout_seconds=0.5)
        wait_until(lambda: interrupted.complete, "not all events have begun")
        first.destroy()
        recovered = Seeing(waits=False)
        consumers.start(produced, recovered.sync_handler)
        wait_until(lambda: rows.succeeded() == len(PRODUCED), "the next process does not finish them")

    assert_as_produced(recovered.seen, produced)
    assert recovered.seen == interrupted.seen


def test_the_time_of_a_log_that_stamps_its_records_is_marked_as_such(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(message_timestamp_type="LogAppendTime")
    seeing = Seeing(waits=False)
    broker.produce(topic, ["x"], timestamp=1)

    consumers.start(topic, seeing.sync_handler)
    wait_until(lambda: rows.succeeded() == 1, "the event has not run")

    kind, milliseconds = seeing.seen[0].timestamp
    assert kind == 2
    assert milliseconds > 1


def test_what_is_stored_of_a_record_is_its_raw_bytes(produced: str, consumers: Consumers, rows: Rows) -> None:
    consumers.start(produced, Seeing(waits=False).async_handler)
    wait_until(lambda: rows.succeeded() == len(PRODUCED), "not all events have finished")

    found = rows.query(
        "SELECT e.key, e.value FROM {t}events e JOIN {t}workflows w ON w.id = e.workflow_id ORDER BY w.position"
    )
    raw = [tuple(None if part is None else bytes(part) for part in row) for row in found]
    assert raw == [(record.get("key"), record["value"]) for record in PRODUCED]
    assert rows.one("SELECT count(*) FROM {t}payloads") == 0
