"""The embedded broker does what its docstrings say, limits included."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import confluent_kafka
import pytest
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from dbos_events.errors import ConnectorError
from dbos_events_kafka.testing import (
    ApiKey,
    EmbeddedBroker,
    EmbeddedBrokerUnavailable,
    library,
)

SECONDS = 20.0
NEW_PROTOCOL = {"group.protocol": "consumer"}


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@contextmanager
def consuming(broker: EmbeddedBroker, topic: str, **settings: object):
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "readers",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
            **settings,
        }
    )
    consumer.subscribe([topic])
    try:
        yield consumer
    finally:
        consumer.close()


def until(found: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not found():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}"
        time.sleep(0.01)


def read(consumer: Consumer, count: int) -> list[Message]:
    messages: list[Message] = []
    until(
        lambda: messages.extend(consumer.consume(count, 0.05)) or len(messages) >= count,
        f"{count} messages",
    )
    return messages


def admin_of(broker: EmbeddedBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})


def topic_id_of(broker: EmbeddedBroker, topic: str) -> str:
    admin = admin_of(broker)  # its answers come only while it is there
    asked = admin.describe_topics(TopicCollection([topic]))
    return str(asked[topic].result(SECONDS).topic_id)


def test_records_come_out_as_they_went_in(broker):
    broker.create_topic("orders")

    places = broker.produce("orders", b"one", (b"key", "two"), None, ("", b""))

    with consuming(broker, "orders") as consumer:
        messages = read(consumer, 4)
    assert places == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert [(m.key(), m.value()) for m in messages] == [
        (None, b"one"),
        (b"key", b"two"),
        (None, None),
        (b"", b""),
    ]


def test_produce_writes_to_the_partition_that_it_is_told(broker):
    broker.create_topic("orders", partitions=3)

    assert broker.produce("orders", "a", "b", partition=2) == [(2, 0), (2, 1)]


def test_records_with_one_key_share_a_partition(broker):
    broker.create_topic("orders", partitions=8)

    places = broker.produce("orders", *[("same", str(n)) for n in range(20)])

    assert len({partition for partition, _ in places}) == 1
    assert [offset for _, offset in places] == list(range(20))


def test_a_topic_that_is_there_already_is_an_error(broker):
    broker.create_topic("orders")

    with pytest.raises(ConnectorError, match=r"orders.*already exists"):
        broker.create_topic("orders")


def test_a_consumer_does_not_make_the_topic_that_it_subscribes_to(broker):
    with consuming(broker, "missing") as consumer:
        error = read(consumer, 1)[0].error()

    assert error is not None
    assert error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "missing" not in admin_of(broker).list_topics(timeout=SECONDS).topics


def test_the_admin_client_sees_cluster_and_topic_ids(broker):
    broker.create_topic("orders")

    admin = admin_of(broker)
    described = admin.describe_cluster().result(SECONDS)

    assert described.cluster_id == broker.cluster_id
    assert topic_id_of(broker, "orders") == topic_id_of(broker, "orders")


def test_two_clusters_have_two_ids():
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert one.cluster_id != other.cluster_id


def test_a_topic_made_again_has_another_id_and_starts_at_zero(broker):
    broker.create_topic("orders")
    broker.produce("orders", "a", "b")
    first = topic_id_of(broker, "orders")

    broker.delete_topic("orders")
    broker.create_topic("orders")

    assert topic_id_of(broker, "orders") != first
    assert broker.produce("orders", "c") == [(0, 0)]


def test_deleting_a_topic_that_is_not_there_is_an_error(broker):
    with pytest.raises(ConnectorError, match="Unknown topic"):
        broker.delete_topic("orders")


def test_deleted_records_are_out_of_range(broker):
    broker.create_topic("orders")
    broker.produce("orders", "a", "b", "c")

    broker.delete_records("orders", 0, before=2)

    with consuming(broker, "orders", **{"auto.offset.reset": "error"}) as consumer:
        consumer.unsubscribe()
        consumer.assign([TopicPartition("orders", 0, 0)])
        error = read(consumer, 1)[0].error()
        low_and_high = consumer.get_watermark_offsets(TopicPartition("orders", 0))
    assert error is not None
    assert error.code() == KafkaError._AUTO_OFFSET_RESET
    assert low_and_high == (2, 3)


def test_a_partition_keeps_only_its_last_five_megabytes(broker):
    broker.create_topic("orders")
    for _ in range(12):
        broker.produce("orders", *[b"x" * 1000] * 500)

    with consuming(broker, "orders") as consumer:
        low, high = consumer.get_watermark_offsets(TopicPartition("orders", 0))

    assert high == 6000
    assert 0 < low < high


def test_committed_offsets_outlive_a_consumer(broker):
    broker.create_topic("orders")
    broker.produce("orders", "a", "b", "c")
    with consuming(broker, "orders", **NEW_PROTOCOL) as consumer:
        consumer.commit(message=read(consumer, 3)[1], asynchronous=False)

    with consuming(broker, "orders", **NEW_PROTOCOL) as consumer:
        assert read(consumer, 1)[0].offset() == 2


def test_request_errors_are_met_in_order_and_only_once(broker):
    broker.create_topic("orders")
    broker.produce("orders", "a")
    with consuming(broker, "orders") as consumer:
        message = read(consumer, 1)[0]
        broker.inject_request_errors(
            ApiKey.OFFSET_COMMIT,
            [KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.NO_ERROR],
        )

        with pytest.raises(KafkaException) as raised:
            consumer.commit(message=message, asynchronous=False)
        committed = consumer.commit(message=message, asynchronous=False)

    assert raised.value.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    assert committed[0].offset == 1


def test_request_errors_can_be_taken_back(broker):
    broker.create_topic("orders")
    broker.inject_request_errors(ApiKey.PRODUCE, [KafkaError.INVALID_MSG] * 3)

    broker.clear_request_errors(ApiKey.PRODUCE)

    assert broker.produce("orders", "a") == [(0, 0)]


def test_produce_raises_what_the_broker_answers(broker):
    broker.create_topic("orders")
    broker.inject_request_errors(ApiKey.PRODUCE, [KafkaError.TOPIC_AUTHORIZATION_FAILED])

    with pytest.raises(KafkaException) as raised:
        broker.produce("orders", "a")

    assert raised.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_topic_error_is_reported_until_it_is_cleared(broker):
    broker.create_topic("orders")
    broker.produce("orders", "a")
    broker.inject_topic_error("orders", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    refresh = {"topic.metadata.refresh.interval.ms": 100}
    with consuming(broker, "orders", **refresh) as consumer:
        error = read(consumer, 1)[0].error()

        broker.inject_topic_error("orders", KafkaError.NO_ERROR)

        assert read(consumer, 1)[0].value() == b"a"
    assert error is not None
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_consumers_come_back_after_an_outage(broker):
    broker.create_topic("orders")
    broker.produce("orders", "a")
    back_off = {"reconnect.backoff.max.ms": 200}
    with consuming(broker, "orders", **back_off) as consumer:
        read(consumer, 1)

        broker.set_down()
        time.sleep(0.3)
        broker.set_up()
        broker.produce("orders", "b")

        values = [m.value() for m in read(consumer, 1) if m.error() is None]
    assert values == [b"b"]


def test_a_round_trip_takes_as_long_as_it_is_told(broker):
    broker.create_topic("orders")
    broker.produce("orders", "warm up")

    broker.set_round_trip(300)
    started = time.monotonic()
    broker.produce("orders", "a")

    assert time.monotonic() - started >= 0.29


def test_a_partition_moves_to_another_leader():
    with EmbeddedBroker(brokers=2) as broker:
        broker.create_topic("orders")
        for leader in (1, 2):
            broker.set_leader("orders", 0, leader)
            topics = admin_of(broker).list_topics(timeout=SECONDS).topics
            assert topics["orders"].partitions[0].leader == leader


def test_an_unknown_broker_cannot_lead(broker):
    broker.create_topic("orders")

    with pytest.raises(ConnectorError, match="not available"):
        broker.set_leader("orders", 0, 7)


def test_aborted_records_are_delivered_unlike_on_apache_kafka(broker):
    broker.create_topic("orders")
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "writer"})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce("orders", b"aborted")
    producer.flush(SECONDS)
    producer.abort_transaction(SECONDS)

    read_committed = {"isolation.level": "read_committed"}
    with consuming(broker, "orders", **read_committed) as consumer:
        assert read(consumer, 1)[0].value() == b"aborted"


def test_a_cluster_needs_a_broker():
    with pytest.raises(ConnectorError, match="at least one broker"):
        EmbeddedBroker(brokers=0)


def test_a_closed_broker_says_so():
    broker = EmbeddedBroker()
    broker.produce("orders", "a")
    broker.close()
    broker.close()

    for use in (
        lambda: broker.create_topic("orders"),
        lambda: broker.produce("orders", "a"),
        lambda: broker.inject_request_errors(ApiKey.FETCH, [KafkaError.NO_ERROR]),
        lambda: broker.inject_topic_error("orders", KafkaError.NO_ERROR),
    ):
        with pytest.raises(ConnectorError, match="closed"):
            use()


# --- a wheel without the mock cluster ---


def test_a_wheel_that_hides_the_functions_is_named(monkeypatch):
    monkeypatch.setattr(library, "_open", lambda _: None)

    with pytest.raises(EmbeddedBrokerUnavailable) as raised:
        EmbeddedBroker()

    assert confluent_kafka.version() in raised.value.message
    assert "--only-binary" in raised.value.message


def test_the_library_next_to_the_extension_module_serves_as_well(monkeypatch):
    # Windows does not look names up through the extension module, and nor does this.
    candidates = [path for path in library._candidates() if "rdkafka" in path.name]
    if not candidates:
        pytest.skip("this wheel keeps librdkafka inside its extension module")
    monkeypatch.setattr(library, "_candidates", lambda: iter(candidates))

    with EmbeddedBroker() as broker:
        assert broker.produce("orders", "a", partition=0) == [(0, 0)]


def test_files_that_are_no_library_are_passed_over(tmp_path, monkeypatch):
    broken = tmp_path / "librdkafka.so"
    broken.write_text("not a library")
    good = list(library._candidates())
    monkeypatch.setattr(library, "_candidates", lambda: iter([broken, *good]))

    assert library.load().complete


def test_an_older_librdkafka_serves_all_but_what_it_lacks():
    older = library.MockLibrary(SimpleNamespace())  # type: ignore[arg-type]

    assert not older.complete
    with pytest.raises(EmbeddedBrokerUnavailable, match="rd_kafka_mock_topic_delete"):
        older.call("mock_topic_delete")


# --- several processes ---

WORKER = """
import json, sys
from confluent_kafka import Consumer

consumer = Consumer(json.loads(sys.argv[1]))

def say(**what):
    print(json.dumps(what), flush=True)

consumer.subscribe(
    ["orders"],
    on_assign=lambda _, parts: say(gained=[part.partition for part in parts]),
    on_revoke=lambda _, parts: say(gave=[part.partition for part in parts]),
    on_lost=lambda _, parts: say(gave=[part.partition for part in parts]),
)
while True:
    for message in consumer.consume(100, 0.02):
        if message.error() is None:
            say(place=[message.partition(), message.offset()])
            consumer.commit(message=message)
"""

#: The shortest that holds: the mock keeps a classic group waiting for the session
#: timeout less a second, and two members must answer within that time.
CLASSIC = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 100}
PROTOCOLS = {
    "range": {"partition.assignment.strategy": "range", **CLASSIC},
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky", **CLASSIC},
    "consumer": NEW_PROTOCOL,
}


class Worker:
    """A consumer in a process of its own; it reports on its standard output."""

    def __init__(self, broker: EmbeddedBroker, settings: dict[str, object], report: Path) -> None:
        configuration = {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "workers",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
            **settings,
        }
        self._report = report
        with report.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WORKER, json.dumps(configuration)], stdout=output
            )

    def _lines(self) -> list[dict[str, list[int]]]:
        whole_lines = self._report.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole_lines.splitlines()]

    def owns(self) -> set[int]:
        owned: set[int] = set()
        for line in self._lines():
            owned |= set(line.get("gained", ()))
            owned -= set(line.get("gave", ()))
        return owned

    def places(self) -> set[tuple[int, ...]]:
        return {tuple(line["place"]) for line in self._lines() if "place" in line}

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start_worker(broker, tmp_path):
    workers: list[Worker] = []

    def start(settings: dict[str, object]) -> Worker:
        worker = Worker(broker, settings, tmp_path / f"worker-{len(workers)}")
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.kill()


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("settings", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_processes_share_a_group_and_take_over_from_a_killed_one(broker, start_worker, settings):
    broker.create_topic("orders", partitions=4)
    every_partition = set(range(4))
    first = start_worker(settings)
    until(lambda: first.owns() == every_partition, "the first owns everything")
    second = start_worker(settings)
    until(lambda: len(second.owns()) == 2, "the second owns its half")

    second.kill()
    until(lambda: first.owns() == every_partition, "the first took over")
    third = start_worker(settings)
    until(lambda: len(third.owns()) == 2, "the third owns its half")

    places = set()
    for partition in every_partition:
        places |= set(broker.produce("orders", "a", "b", partition=partition))
    until(lambda: first.places() | third.places() == places, "every record is read")
