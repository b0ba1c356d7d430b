"""Records of every size, compression and shape reach the handler and the database byte for byte, on both databases."""

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dbos_events import KafkaMessage
from dbos_events.serialization.headers import decode_headers
from dbos_events_kafka.testing import EmbeddedBroker
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import Consumers
from tests.connectors.kafka.troubles import Troubles
from tests.faults.broker import SECONDS, Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

MEGABYTE = 1 << 20
SIZES = (0, 1, 4095, MEGABYTE - 1, MEGABYTE + 1, 5 * MEGABYTE, 10 * MEGABYTE)
LARGEST = str(11 * MEGABYTE)
LARGE_PRODUCER = {"message.max.bytes": 11 * MEGABYTE}


@pytest.fixture
def on_broker(database_url: str, kafka_bootstrap: str) -> Iterator[Consumers]:
    """Apps on either database and the real broker."""
    with Consumers(database_url, kafka_bootstrap) as made:
        yield made


@pytest.fixture
def stored(database_url: str) -> Rows:
    return Rows(database_url)


class Seen:
    """A handler that keeps what it was given, by offset."""

    def __init__(self) -> None:
        self.by_offset: dict[int, KafkaMessage] = {}
        self._lock = threading.Lock()

    def handle(self, message: KafkaMessage) -> None:
        with self._lock:
            self.by_offset[message.offset or 0] = message

    @property
    def messages(self) -> list[KafkaMessage]:
        return [self.by_offset[offset] for offset in sorted(self.by_offset)]


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return random.Random(size).randbytes(size)


def send(bootstrap: str, topic: str, records: list[dict[str, Any]], **settings: Any) -> None:
    producer = Broker(bootstrap).producer(**settings)
    failures: list[object] = []

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            failures.append(error)

    for record in records:
        producer.produce(topic, on_delivery=delivered, **record)
    assert producer.flush(SECONDS) == 0
    assert failures == []


def in_database(stored: Rows) -> list[tuple[bytes | None, bytes | None, Any]]:
    """Key, value and headers of the events, in order."""
    found = stored.query(
        "SELECT e.key, e.value, e.headers FROM {t}events e JOIN {t}workflows w ON w.id = e.workflow_id "
        "ORDER BY w.position"
    )
    return [
        (
            None if key is None else bytes(key),
            None if value is None else bytes(value),
            decode_headers(headers),
        )
        for key, value, headers in found
    ]


def assert_the_same(records: list[dict[str, Any]], seen: Seen, stored: Rows) -> None:
    expected = [(record.get("key"), record["value"], record.get("headers")) for record in records]
    assert [(one.key, one.value, one.headers) for one in seen.messages] == expected
    assert in_database(stored) == expected


def test_values_from_nothing_to_ten_megabytes(
    kafka_topic: TopicFactory, kafka_bootstrap: str, on_broker: Consumers, stored: Rows
) -> None:
    topic = kafka_topic(max_message_bytes=LARGEST)
    records = [{"key": b"%d" % size, "value": noise(size)} for size in SIZES]
    send(kafka_bootstrap, topic, records, **LARGE_PRODUCER)
    seen = Seen()

    on_broker.start(topic, seen.handle)
    wait_until(lambda: stored.succeeded() == len(SIZES), "not all events have run")

    assert_the_same(records, seen, stored)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_compression(
    codec: str, kafka_topic: TopicFactory, kafka_bootstrap: str, on_broker: Consumers, stored: Rows
) -> None:
    topic = kafka_topic()
    records: list[dict[str, Any]] = [
        {"key": noise(10), "value": b"the same again and again " * 2000},
        {"key": b"", "value": noise(50_000), "headers": [("h", noise(1000))]},
        {"key": None, "value": b""},
    ]
    send(kafka_bootstrap, topic, records * 5, **{"compression.type": codec, "linger.ms": 50})
    seen = Seen()

    on_broker.start(topic, seen.handle)
    wait_until(lambda: stored.succeeded() == len(records) * 5, "not all events have run")

    assert_the_same(records * 5, seen, stored)


def test_keys_values_and_headers_that_text_cannot_hold(
    kafka_topic: TopicFactory, kafka_bootstrap: str, on_broker: Consumers, stored: Rows
) -> None:
    topic = kafka_topic(max_message_bytes=LARGEST)
    records: list[dict[str, Any]] = [
        {"key": b"\x00", "value": b"a\x00b"},
        {
            "key": b"\xff\xfe\x00",
            "value": b"\xc3\x28",
            "headers": [("n", b"\x00"), ("n", b"\xff"), ("n", None)],
        },
        {"key": b"", "value": None},
        {"key": None, "value": b""},
        {"key": noise(100_000), "value": b"a long key"},
        {"value": b"many", "headers": [(f"name {number % 7}", noise(number)) for number in range(100)]},
        {"value": b"huge", "headers": [("huge", noise(2 * MEGABYTE)), ("empty", b""), ("none", None)]},
        {"value": b"a name", "headers": [("größe \U0001f600" * 100, b"1"), ("", b"2")]},
    ]
    send(kafka_bootstrap, topic, records, **LARGE_PRODUCER)
    seen = Seen()

    on_broker.start(topic, seen.handle)
    wait_until(lambda: stored.succeeded() == len(records), "not all events have run")

    assert_the_same(records, seen, stored)


def test_records_of_an_aborted_transaction_never_become_events(
    kafka_topic: TopicFactory, kafka_bootstrap: str, on_broker: Consumers, stored: Rows
) -> None:
    topic = kafka_topic()
    seen = Seen()
    on_broker.start(topic, seen.handle)
    producer = Broker(kafka_bootstrap).producer(**{"transactional.id": topic})
    producer.init_transactions(SECONDS)
    for number in range(6):
        producer.begin_transaction()
        for part in ("a", "b"):
            producer.produce(topic, f"{number}{part}")
        producer.flush(SECONDS)
        if number % 2:
            producer.abort_transaction(SECONDS)
        else:
            producer.commit_transaction(SECONDS)
    send(kafka_bootstrap, topic, [{"value": b"the end"}])

    wait_until(lambda: stored.succeeded() == 7, "not all events have run")

    kept = [f"{number}{part}".encode() for number in (0, 2, 4) for part in ("a", "b")]
    assert [message.value for message in seen.messages] == [*kept, b"the end"]
    assert [value for _, value, _ in in_database(stored)] == [*kept, b"the end"]


def test_the_time_is_the_producers_or_the_logs(
    kafka_topic: TopicFactory, kafka_bootstrap: str, on_broker: Consumers, stored: Rows
) -> None:
    topics = {1: kafka_topic(), 2: kafka_topic(message_timestamp_type="LogAppendTime")}
    times: dict[str, tuple[int, int]] = {}

    def handler(message: KafkaMessage) -> None:
        times[str(message.topic)] = message.timestamp

    for topic in topics.values():
        send(kafka_bootstrap, topic, [{"value": b"x", "timestamp": 1234}])
    on_broker.start(list(topics.values()), handler)
    wait_until(lambda: stored.succeeded() == 2, "not both events have run")

    assert times[topics[1]] == (1, 1234)
    kind, milliseconds = times[topics[2]]
    assert kind == 2
    assert milliseconds > 1_700_000_000_000
    kinds = stored.query("SELECT timestamp_type, timestamp FROM {t}events ORDER BY timestamp_type")
    assert kinds == [(1, 1234), (2, milliseconds)]


def test_a_record_that_the_client_may_not_receive_says_what_to_raise(
    migrated_sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles(caplog)
    with EmbeddedBroker() as broker, Consumers(migrated_sqlite, broker.bootstrap_servers) as consumers:
        broker.create_topic("orders")
        broker.produce("orders", b"first")
        broker.produce("orders", noise(3 * MEGABYTE))
        config = {"receive.message.max.bytes": 2 * MEGABYTE, "reconnect.backoff.max.ms": 200}
        app = consumers.start("orders", Seen().handle, config=config)
        said = "a record is larger than receive.message.max.bytes allows; raise it"
        troubles.wait_for(app, said)
        wait_until(lambda: Rows(migrated_sqlite).succeeded() == 1, "what comes before it is not read")
        # Once; and where this took longer than ten seconds, again.
        assert 1 <= len([one for one in troubles.warnings if said in one]) <= 3, troubles.warnings
        app.destroy()

        again = consumers.start("orders", Seen().handle, config={"receive.message.max.bytes": 4 * MEGABYTE})
        wait_until(lambda: Rows(migrated_sqlite).succeeded() == 2, "it is not read with the larger limit")
        troubles.wait_ready(again)
