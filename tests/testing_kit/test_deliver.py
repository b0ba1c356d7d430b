"""Events without a broker, through the real intake."""

import json
from typing import Any

import pydantic
import pytest

from dbos_events import App, KafkaMessage, Quarantine
from dbos_events.errors import DBOSException
from dbos_events.testing.plugin import MakeTestApp


class Order(pydantic.BaseModel):
    id: int


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def seen() -> list[Any]:
    return []


def test_a_handler_gets_the_record_as_it_was_received(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, ["orders", "returns"])
    def on_order(msg: KafkaMessage) -> str:
        seen.append(msg)
        return "seen"

    dbos = dbos_test_app(app)
    first = dbos.deliver(on_order, {"id": 7}, key="k", headers={"trace": "1", "none": None})
    second = dbos.deliver(on_order, None, topic="returns", partition=3)
    third = dbos.deliver(on_order, Order(id=8))
    assert [handle.get_result() for handle in (first, second, third)] == ["seen"] * 3
    by_place = {(msg.topic, msg.partition, msg.offset): msg for msg in seen}
    order = by_place["orders", 0, 0]
    assert json.loads(order.value) == {"id": 7}
    assert order.key == b"k"
    assert order.headers == [("trace", b"1"), ("none", None)]
    assert order.timestamp == (1, dbos.clock.now_ms())
    assert by_place["returns", 3, 0].value is None
    assert by_place["orders", 0, 1].value == b'{"id":8}'
    assert (
        first.workflow_id
        == "kafka/test.test_a_handler_gets_the_record_as_it_was_received.%3Clocals%3E.on_order/orders/1/0/0"
    )


def test_an_event_survives_a_crash_with_all_that_it_was(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders")
    async def on_order(msg: KafkaMessage) -> None:
        seen.append(msg)
        await app.sleep_async(60)

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, b"\x00\xff", key=b"k", headers=[("a", b"1"), ("a", None)])
    dbos.run_until_idle()
    dbos.crash()
    dbos.advance(seconds=60)
    assert handle.get_status().status == "SUCCESS"
    assert seen == [seen[0]] * 2
    dbos.deliver(on_order, b"next").get_result()
    assert seen[-1].offset == 1


def test_ordered_events_run_one_after_the_other(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", ordering="partition")
    def on_order(msg: KafkaMessage) -> None:
        seen.append((msg.partition, msg.offset, "begins"))
        app.sleep(10)
        seen.append((msg.partition, msg.offset, "ends"))

    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_order, "x", partition=partition) for partition in (0, 0, 1)]
    dbos.run_until_idle()
    assert sorted(seen) == [(0, 0, "begins"), (1, 0, "begins")]
    dbos.advance(minutes=1)
    assert {handle.get_status().status for handle in handles} == {"SUCCESS"}
    order = [entry for entry in seen if entry[0] == 0 and entry[2] == "ends"]
    assert order == [(0, 0, "ends"), (0, 1, "ends")]
    assert seen.index((0, 0, "ends")) < seen.index((0, 1, "begins"))


def test_a_lane_goes_on_in_order_after_a_crash(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(None, "orders", ordering="partition")
    def on_order(msg: KafkaMessage) -> None:
        seen.append(msg.offset)
        if seen == [0, 1]:
            dbos.crash()

    dbos = dbos_test_app(app)
    for _ in range(4):
        dbos.deliver(on_order, "x")
    dbos.run_until_idle()
    assert seen == [0, 1, 1, 2, 3]
    dbos.deliver(on_order, "x").get_result()
    assert seen[-1] == 4


def test_a_failed_event_is_quarantined_and_holds_its_lane(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", ordering="partition")
    def on_order(msg: KafkaMessage) -> None:
        seen.append(msg.offset)
        if msg.offset == 0:
            raise Quarantine("no such customer")

    dbos = dbos_test_app(app)
    bad, behind = (dbos.deliver(on_order, "x") for _ in range(2))
    dbos.run_until_idle()
    assert bad.get_status().status == "ERROR"
    assert behind.get_status().status == "PENDING"
    (state,) = app.launched.storage.positions.read("test")
    assert (state.quarantined, state.held + state.in_flight, state.next_offset) == (1, 1, 2)


def test_events_of_a_queue_wait_for_it(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    app.queue("slow", concurrency=1)

    @app.kafka_consumer(None, "orders", queue_name="slow")
    def on_order(msg: KafkaMessage) -> None:
        seen.append(msg.offset)

    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_order, "x") for _ in range(3)]
    assert [handle.get_status().status for handle in handles] == ["ENQUEUED"] * 3
    dbos.run_until_idle()
    assert seen == [0, 1, 2]


def test_what_is_no_consumer_is_refused(app: App, dbos_test_app: MakeTestApp) -> None:
    dbos = dbos_test_app(app)
    with pytest.raises(DBOSException, match=r"not a consumer.*decorator of a consumer"):
        dbos.deliver(print, "x")
