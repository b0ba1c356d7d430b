"""A codec whose server does not answer: the event is tried again, and in the end put aside as `unavailable`."""

import json
from typing import Any

import pydantic
import pytest

from dbos_events import App, KafkaMessage, Retry, TryAgain
from dbos_events.testing import TestApp


class Order(pydantic.BaseModel):
    id: int
    paid: bool = True


class Registry:
    """A codec that needs a server; `failures` times that does not answer."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked = 0

    def decode(self, message: KafkaMessage[bytes]) -> Any:
        self.asked += 1
        if self.failures > 0:
            self.failures -= 1
            raise TryAgain("the registry does not answer")
        return json.loads(message.value)


@pytest.fixture
def ran() -> list[int]:
    return []


@pytest.fixture
def app() -> App:
    return App({"name": "shop"})


def consumer(app: App, registry: Registry, ran: list[int], **options: Any) -> Any:
    @app.kafka_consumer(topics=["orders"], codec=registry, **options)
    async def on_order(order: Order) -> str:
        ran.append(order.id)
        return f"order {order.id}"

    return on_order


@pytest.mark.parametrize("ordering", ["none", "partition"])
def test_an_event_is_tried_again_until_the_server_answers(
    app: App, ran: list[int], ordering: str, database_url: str
) -> None:
    registry = Registry(failures=2)
    on_order = consumer(
        app, registry, ran, ordering=ordering, retries=Retry(4, 60, jitter=0, retry_on=(KeyError,))
    )
    with TestApp(app, database_url=database_url) as dbos:
        first, second = dbos.deliver(on_order, Order(id=1)), dbos.deliver(on_order, Order(id=2))
        dbos.run_until_idle()
        assert ran == [] if ordering == "partition" else [2]
        dbos.advance(seconds=59)
        assert registry.failures == (1 if ordering == "partition" else 0)
        dbos.advance(seconds=200)
        assert [first.get_result(), second.get_result()] == ["order 1", "order 2"]
        assert sorted(ran) == [1, 2]
        assert app.list_quarantined() == []


def test_without_attempts_left_it_is_put_aside_and_redriven(app: App, ran: list[int]) -> None:
    registry = Registry(failures=3)
    on_order = consumer(app, registry, ran, retries=Retry(3, 1))
    with TestApp(app) as dbos:
        handle = dbos.deliver(on_order, Order(id=1))
        dbos.advance(seconds=60)
        [aside] = app.list_quarantined(quarantine_reason="unavailable")
        assert (aside.workflow_id, aside.attempts) == (handle.workflow_id, 3)
        assert "The codec Registry cannot decode the value of orders/0/0 now" in str(aside.error_message)
        assert ran == []
        app.redrive_events(handle.workflow_id)
        assert handle.get_result() == "order 1"


def test_without_retries_it_is_put_aside_at_once(app: App, ran: list[int]) -> None:
    on_order = consumer(app, Registry(failures=1), ran)
    with TestApp(app) as dbos:
        dbos.deliver(on_order, Order(id=1))
        dbos.run_until_idle()
        assert [one.reason for one in app.list_quarantined()] == ["unavailable"]
        other = dbos.deliver(on_order, Order(id=2))
        assert other.get_result() == "order 2"


def test_what_else_a_codec_raises_is_final(app: App, ran: list[int]) -> None:
    registry = Registry(failures=0)
    on_order = consumer(app, registry, ran, retries=Retry(5, 1))
    with TestApp(app) as dbos:
        dbos.deliver(on_order, b"{")
        dbos.advance(seconds=60)
        assert [one.reason for one in app.list_quarantined()] == ["undecodable"]
        assert registry.asked == 1


def is_paid(order: Order) -> bool:
    return order.paid


def test_a_filter_that_cannot_be_asked_now_is_asked_at_the_next_attempt(app: App, ran: list[int]) -> None:
    registry = Registry(failures=2)
    on_order = consumer(app, registry, ran, when=is_paid, retries=Retry(3, 60, jitter=0))
    with TestApp(app) as dbos:
        paid, unpaid = dbos.deliver(on_order, Order(id=1)), dbos.deliver(on_order, Order(id=2, paid=False))
        dbos.run_until_idle()
        assert registry.asked == 2, "a run whose filter could not be asked does not decode"
        dbos.advance(seconds=61)
        assert (paid.get_result(), unpaid.get_result()) == ("order 1", None)
        assert ran == [1]


def test_an_ordering_key_that_cannot_be_told_now_keeps_the_record_out(app: App, ran: list[int]) -> None:
    registry = Registry(failures=1)

    def by_id(order: Order) -> int:
        return order.id

    on_order = consumer(app, registry, ran, ordering="key", ordering_key=by_id)
    with TestApp(app) as dbos:
        with pytest.raises(TryAgain):
            dbos.deliver(on_order, Order(id=1))
        assert app.list_workflows() == []
        assert dbos.deliver(on_order, Order(id=1)).get_result() == "order 1"
