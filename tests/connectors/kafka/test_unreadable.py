"""Nothing that was polled is lost, whatever raises between the client and the buffers; on both databases."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from dbos_events.app import App
from dbos_events_kafka.source import KafkaSource
from dbos_events_kafka.testing import EmbeddedBroker
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import CLASSIC, Consumers, Counting
from tests.connectors.kafka.odd import Between, Odd, produce_with_header_names
from tests.connectors.kafka.test_record_shapes import send as send_records
from tests.connectors.kafka.troubles import Troubles
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

GOOD = 60
FIELDS = ("key", "value", "headers", "timestamp", "leader_epoch", "latency")


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("orders", partitions=2)
        yield broker


@pytest.fixture
def apps(database_url: str, embedded: EmbeddedBroker) -> Iterator[Consumers]:
    with Consumers(database_url, embedded.bootstrap_servers) as made:
        yield made


@pytest.fixture
def stored(database_url: str) -> Rows:
    return Rows(database_url)


def send(broker: EmbeddedBroker, count: int = GOOD) -> None:
    for number in range(count):
        broker.produce("orders", (b"key %d" % number, b"%d" % number), partition=number % 2)


def start(apps: Consumers, handler: Any, **options: Any) -> App:
    config = {**CLASSIC, **options.pop("config", {})}
    return apps.start("orders", handler, config={"group.protocol": "classic", **config}, **options)


def all_once(seen: Counting, count: int = GOOD) -> bool:
    return len(seen.executions) == count


def assert_nothing_lost(seen: Counting, stored: Rows, count: int = GOOD) -> None:
    wait_until(lambda: all_once(seen, count), f"{len(seen.executions)} of {count} events ran", seconds=60)
    assert set(seen.executions.values()) == {1}
    assert stored.gaps() == []


# -- records that cannot be read whole --------------------------------------------------------


@pytest.mark.parametrize("ordering", ["none", "key"])
def test_records_whose_header_names_are_no_text_are_in_quarantine_and_all_others_run(
    ordering: str,
    kafka_topic: TopicFactory,
    kafka_bootstrap: str,
    broker: Broker,
    database_url: str,
    stored: Rows,
) -> None:
    topic, seen = kafka_topic(), Counting()
    names: list[list[bytes]] = [[b"\xff\xfe"], [b"good", b"\xc3("], [b"\xed\xa0\x80", b"good"], [b"\x80"]]
    for round_ in range(4):  # what has run often is called in another way by the interpreter
        records = [{"value": b"%d" % round_, "headers": [("h", b"1"), ("i", None)]}] * 60
        send_records(kafka_bootstrap, topic, records)
        produce_with_header_names(kafka_bootstrap, topic, [(b"odd", names[round_])])
    broker.produce(topic, [b"last"] * 10)

    with Consumers(database_url, kafka_bootstrap) as apps:
        apps.start(topic, seen.sync_handler, ordering=ordering)
        wait_until(lambda: len(stored.quarantined()) == 4, "not all odd records are accounted for")
        assert_nothing_lost(seen, stored, 250)

    assert sorted(row[1] for row in stored.quarantined()) == [60, 121, 182, 243]
    assert {row[2] for row in stored.quarantined()} == {"undecodable"}
    kept = stored.query("SELECT value FROM {t}events WHERE value = ?", (b"odd",))
    assert [bytes(value) for (value,) in kept] == [b"odd"] * 4


@pytest.mark.parametrize("field", FIELDS)
def test_a_record_of_which_one_field_raises_keeps_the_others(
    field: str, embedded: EmbeddedBroker, apps: Consumers, stored: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(messages: list[Message]) -> list[Any]:
        error = SystemError(f"{field} returned a result with an exception set")
        return [Odd(one, field, error) if is_at(one, 1, 7) else one for one in messages]

    Between(monkeypatch, change)
    seen = Counting()
    send(embedded)
    start(apps, seen.sync_handler, ordering="partition", on_failure="quarantine")

    wait_until(stored.quarantined, "the odd record is not accounted for")
    # In an ordered consumer the events behind it wait for it, and only those.
    wait_until(lambda: len(seen.executions) == GOOD // 2 + 7, "the others did not run")
    assert stored.quarantined() == [(1, 7, "undecodable")]
    ((key, value, error),) = stored.query(
        "SELECT e.key, e.value, q.error FROM {t}events e JOIN {t}quarantine q ON q.workflow_id = e.workflow_id"
    )
    assert (None if key is None else bytes(key)) == (None if field == "key" else b"key 15")
    assert (None if value is None else bytes(value)) == (None if field == "value" else b"15")
    assert field in str(error)
    assert stored.gaps() == []


def is_at(message: Message, partition: int, offset: int) -> bool:
    return message.error() is None and (message.partition(), message.offset()) == (partition, offset)


def test_the_filter_and_the_ordering_key_are_not_asked_about_what_could_not_be_read(
    embedded: EmbeddedBroker, apps: Consumers, stored: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(messages: list[Message]) -> list[Any]:
        return [Odd(one, "headers", ValueError("no")) if is_at(one, 0, 3) else one for one in messages]

    asked: list[Any] = []

    def note(message: Any) -> Any:
        asked.append((message.partition, message.offset))
        return True

    Between(monkeypatch, change)
    seen = Counting()
    send(embedded)
    start(apps, seen.sync_handler, ordering="key", ordering_key=lambda message: str(note(message)), when=note)

    wait_until(stored.quarantined, "the odd record is not accounted for")
    wait_until(lambda: len(seen.executions) == GOOD - 1, "the others did not run")
    assert (0, 3) not in asked


# -- what raises around them ------------------------------------------------------------------

ERRORS: list[Callable[[], BaseException]] = [
    lambda: RuntimeError("unforeseen"),
    MemoryError,
    lambda: SystemError("returned a result with an exception set"),
    lambda: KafkaException(KafkaError(KafkaError._FAIL)),
    lambda: KafkaException("odd"),
    lambda: SystemExit(3),
    GeneratorExit,
]


@pytest.mark.parametrize(
    "error", ERRORS, ids=["runtime", "memory", "system", "client", "odd", "exit", "generator"]
)
@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_an_error_that_takes_what_was_polled_with_it_loses_nothing(
    ordering: str,
    error: Callable[[], BaseException],
    embedded: EmbeddedBroker,
    apps: Consumers,
    stored: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = [3]

    def change(messages: list[Message]) -> list[Any]:
        if left[0] and any(one.error() is None and (one.offset() or 0) >= 3 for one in messages):
            left[0] -= 1
            raise error()
        return messages

    Between(monkeypatch, change)
    seen = Counting()
    send(embedded)
    app = start(apps, seen.sync_handler, ordering=ordering)
    wait_until(lambda: left[0] == 0, "the error was not met three times")
    send(embedded)

    assert_nothing_lost(seen, stored, 2 * GOOD)
    assert app.health().live


@pytest.mark.parametrize("field", ["topic", "partition", "offset", "error"])
def test_a_message_that_does_not_say_what_it_is_for_a_moment_is_read_again(
    field: str, embedded: EmbeddedBroker, apps: Consumers, stored: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [2]

    def change(messages: list[Message]) -> list[Any]:
        if left[0] and is_at(messages[-1], 0, 9):
            left[0] -= 1
            return [*messages[:-1], Odd(messages[-1], field, ValueError("not now"))]
        return messages

    Between(monkeypatch, change)
    seen = Counting()
    send(embedded)
    start(apps, seen.sync_handler, ordering="partition", batch_size=1)

    assert_nothing_lost(seen, stored)
    assert left == [0]


def test_a_record_of_which_nothing_can_be_kept_halts_its_partition_and_no_other(
    embedded: EmbeddedBroker,
    apps: Consumers,
    stored: Rows,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def change(messages: list[Message]) -> list[Any]:
        if any(is_at(one, 1, 5) for one in messages):
            raise ValueError("it cannot be taken")
        return messages

    Between(monkeypatch, change)
    troubles, seen = Troubles(caplog), Counting()
    send(embedded)
    app = start(apps, seen.sync_handler)

    wait_until(
        lambda: "orders[1] is halted: the record at offset 5" in troubles.problem(app),
        f"it is not halted: {app.health()}",
        seconds=60,
    )
    wait_until(lambda: sum(place == 0 for place, _ in seen.executions) == GOOD // 2, "the other stands still")
    send(embedded, 20)
    wait_until(lambda: sum(place == 0 for place, _ in seen.executions) == GOOD // 2 + 10, "it does not go on")
    assert max(offset for place, offset in seen.executions if place == 1) == 4
    assert stored.gaps() == []
    assert set(seen.executions.values()) == {1}


# -- callbacks --------------------------------------------------------------------------------


class Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise SystemExit(4)


class Logger:
    def log(self, *details: object) -> None:
        raise SystemExit(5)


def fails(*_: object) -> None:
    raise GeneratorExit("no")


@pytest.mark.parametrize(
    "config",
    [
        {"stats_cb": fails, "statistics.interval.ms": 20},
        {"on_commit": fails},
        {"error_cb": fails, "bootstrap.servers": "127.0.0.1:1,{}"},
        {"logger": Logger(), "debug": "all"},
    ],
    ids=lambda config: next(iter(config)),
)
def test_what_callbacks_raise_within_a_poll_loses_nothing(
    config: dict[str, Any], embedded: EmbeddedBroker, apps: Consumers, stored: Rows
) -> None:
    chosen = dict(config)
    if "bootstrap.servers" in chosen:
        chosen["bootstrap.servers"] = chosen["bootstrap.servers"].format(embedded.bootstrap_servers)
    seen = Counting()
    start(apps, seen.sync_handler, config=chosen)
    for count in range(1, 6):
        send(embedded, 10)
        wait_until(lambda count=count: len(seen.executions) == 10 * count, "records are missing")  # type: ignore[misc]
    assert_nothing_lost(seen, stored, 50)


@pytest.mark.parametrize("protocol", ["cooperative-sticky", "range"])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(2)], ids=repr)
def test_a_rebalance_that_fails_is_made_again(
    protocol: str,
    error: BaseException,
    embedded: EmbeddedBroker,
    apps: Consumers,
    stored: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, left = KafkaSource._on_assign, [2]

    def on_assign(self: KafkaSource, *details: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise error
        done(self, *details)

    monkeypatch.setattr(KafkaSource, "_on_assign", on_assign)
    seen = Counting()
    send(embedded)
    start(apps, seen.sync_handler, config={"partition.assignment.strategy": protocol})
    assert_nothing_lost(seen, stored)
    assert left == [0]
