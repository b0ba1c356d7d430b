"""Typed handlers and filters on a broker: what fits runs once, what does not is put aside, the rest is counted."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest

from dbos_events import App, KafkaMessage
from dbos_events_kafka.testing import EmbeddedBroker
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import PROTOCOLS, Consumers
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until


class Order(pydantic.BaseModel):
    id: int
    paid: bool = True


def is_paid(order: Order) -> bool:
    return order.paid


class Framed:
    """Five bytes before the JSON, as a schema registry's serializers put them."""

    def decode(self, message: KafkaMessage[bytes]) -> Any:
        magic, body = message.value[:5], message.value[5:]
        if magic != b"\x00\x00\x00\x00\x07":
            raise ValueError(f"unknown schema {magic.hex()}")
        return json.loads(body)


@pytest.fixture
def local(migrated_sqlite: str) -> Iterator[tuple[Consumers, EmbeddedBroker]]:
    """Apps on a SQLite file and the embedded broker."""
    with EmbeddedBroker() as broker, Consumers(migrated_sqlite, broker.bootstrap_servers) as made:
        broker.create_topic("orders", partitions=2)
        yield made, broker


def client(consumers: Consumers) -> dict[str, Any]:
    return {"bootstrap.servers": consumers.bootstrap, **PROTOCOLS["broker-assigned"]}


def test_events_are_decoded_by_annotation_and_codec(
    local: tuple[Consumers, EmbeddedBroker], migrated_sqlite: str
) -> None:
    consumers, broker = local
    ran: list[Order | None] = []
    app = consumers.app()

    @app.kafka_consumer(client(consumers), "orders", codec=Framed())
    async def on_order(message: KafkaMessage[Order | None]) -> None:
        ran.append(message.value)

    consumers.launch(app)
    broker.produce("orders", b'\x00\x00\x00\x00\x07{"id": 1}', None, b'{"id": 2}', partition=0)
    broker.produce("orders", b'\x00\x00\x00\x00\x07{"id": 3}', partition=1)
    rows = Rows(migrated_sqlite)
    wait_until(lambda: rows.statuses() == {"SUCCESS": 3, "ERROR": 1}, "not all events have ended")
    assert rows.quarantined() == [(0, 2, "undecodable")]
    assert sorted(ran, key=str) == [None, Order(id=1), Order(id=3)]
    stored = rows.one("SELECT value FROM events e JOIN quarantine q ON q.workflow_id = e.workflow_id")
    assert stored == b'{"id": 2}'


def test_what_is_filtered_is_counted_by_topics_partition(
    local: tuple[Consumers, EmbeddedBroker], migrated_sqlite: str
) -> None:
    consumers, broker = local
    ran: list[int] = []
    app = consumers.app()

    @app.kafka_consumer(client(consumers), "orders", when=is_paid)
    def on_order(order: Order) -> None:
        ran.append(order.id)

    paid = [order(number, paid=number % 3 == 0) for number in range(30)]
    broker.produce("orders", *paid, partition=0)
    broker.produce("orders", *(order(99, paid=False) for _ in range(5)), partition=1)
    consumers.launch(app)
    rows = Rows(migrated_sqlite)
    wait_until(lambda: rows.watermarks() == {0: 30, 1: 5}, "not all is taken in")
    wait_until(lambda: rows.succeeded() == 10, "not all events have finished")
    assert sorted(ran) == list(range(0, 30, 3))
    assert counted(app) == {0: 20, 1: 5}
    assert rows.unexplained_holes() == []


def test_a_filter_counts_each_record_once_whatever_comes_and_goes(
    kafka_topic: TopicFactory, broker: Broker, consumers: Consumers, rows: Rows
) -> None:
    topic = kafka_topic(partitions=2)
    ran: Counter[tuple[int | None, int | None]] = Counter()

    def launched() -> App:
        app = consumers.app()

        @app.kafka_consumer(client(consumers), topic, name="consumer", when=is_paid, ordering="partition")
        def handler(message: KafkaMessage[Order]) -> None:
            ran[message.partition, message.offset] += 1

        return consumers.launch(app)

    values = [order(number, paid=number % 2 == 0) for number in range(200)]
    broker.produce(topic, values)
    broker.produce(topic, [*values[:50], b"no order", *values[50:]], partition=1)
    first, second = launched(), launched()
    wait_until(lambda: rows.succeeded() > 20, "nothing runs")
    first.destroy()
    broker.produce(topic, values)
    third = launched()
    wait_until(lambda: rows.watermarks() == {0: 400, 1: 201}, "not all is taken in")
    wait_until(lambda: rows.statuses().get("SUCCESS") == 225, "not all events have finished")

    assert set(ran.values()) == {1}
    assert rows.quarantined() == [(1, 50, "undecodable")]
    assert rows.statuses() == {"SUCCESS": 225, "ERROR": 1, "PENDING": 75}  # held behind what is no order
    assert counted(third) == counted(second) == {0: 200, 1: 100}
    assert rows.unexplained_holes() == []


def order(number: int, **fields: Any) -> bytes:
    return Order(id=number, **fields).model_dump_json().encode()


def counted(app: App) -> dict[int, int]:
    return {state.partition: state.filtered for state in app.launched.storage.positions.read(None)}
