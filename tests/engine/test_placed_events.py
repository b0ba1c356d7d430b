"""Events of a consumer with a queue: priority, partition and delay by functions over the message."""

from typing import Any

import pytest
from pydantic import BaseModel

from dbos_events import App, KafkaMessage, Quarantine, TryAgain
from dbos_events.error import RegistrationError
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp


class Order(BaseModel):
    tenant: str
    urgent: bool = False
    seconds: float | None = None


class Shop:
    """A consumer whose orders wait on a queue."""

    def __init__(self, make: MakeTestApp, url: str | None = None, **options: Any) -> None:
        self.app = app = App()
        self.ran: list[Any] = []
        limits = {"partition_concurrency": 1} if "queue_partition_key" in options else {"concurrency": 1}
        app.queue("q", **limits)  # type: ignore[arg-type]

        @app.kafka_consumer(topics=["orders"], queue_name="q", **options)
        def on_order(message: KafkaMessage[bytes]) -> None:
            self.ran.append(message.offset)

        self.on_order = on_order
        self.dbos: TestApp = make(app, database_url=url) if url else make(app)

    def deliver(self, *orders: Order) -> None:
        for order in orders:
            self.dbos.deliver(self.on_order, order.model_dump())

    def rows(self) -> list[Any]:
        return self.app.list_workflows()


def urgent(order: Order) -> int | None:
    return 1 if order.urgent else 9


def tenant(order: Order) -> str:
    return order.tenant


def pause(order: Order) -> float | None:
    return order.seconds


def test_events_wait_where_the_functions_say(dbos_test_app: MakeTestApp, database_url: str) -> None:
    shop = Shop(dbos_test_app, database_url, priority=urgent, queue_partition_key=tenant, delay_seconds=pause)
    shop.deliver(Order(tenant="a"), Order(tenant="b", urgent=True), Order(tenant="a", seconds=60))
    found = [
        (row.priority, row.queue_partition_key, row.delay_until_epoch_ms is not None) for row in shop.rows()
    ]
    assert found == [(9, "a", False), (1, "b", False), (9, "a", True)]


def test_urgent_events_overtake_and_delayed_ones_come_at_their_time(dbos_test_app: MakeTestApp) -> None:
    shop = Shop(dbos_test_app, priority=urgent, delay_seconds=pause)
    shop.deliver(Order(tenant="a", seconds=60), Order(tenant="a", seconds=30, urgent=True))
    shop.dbos.run_until_idle()
    assert shop.ran == []
    shop.dbos.advance(seconds=30)
    assert shop.ran == [1]
    shop.dbos.advance(seconds=30)
    assert shop.ran == [1, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"priority": lambda _: 0},
        {"priority": lambda _: 1 / 0},
        {"delay_seconds": lambda _: -1},
        {"delay_seconds": lambda _: float("nan")},
        {"queue_partition_key": lambda _: ""},
        {"queue_partition_key": lambda _: [1]},
    ],
    ids=[
        "no-priority",
        "priority-raises",
        "negative-delay",
        "no-delay",
        "no-partition",
        "partition-of-a-list",
    ],
)
def test_an_event_that_cannot_be_placed_is_put_aside_and_stops_no_other(
    dbos_test_app: MakeTestApp, options: dict[str, Any]
) -> None:
    [(name, fails)] = options.items()

    def first_fails(message: KafkaMessage[bytes]) -> Any:
        return fails(message) if message.offset == 0 else {"queue_partition_key": "p"}.get(name, 1)

    shop = Shop(dbos_test_app, **{name: first_fails})
    shop.deliver(Order(tenant="a"), Order(tenant="b"))
    shop.dbos.advance(seconds=5)
    assert shop.ran == [1]
    [aside] = shop.app.list_quarantined()
    assert "place on the queue" in str(aside.error_message)


def test_a_function_may_put_an_event_aside_itself(dbos_test_app: MakeTestApp) -> None:
    def refuse(order: Order) -> int:
        raise Quarantine("no such tenant")

    shop = Shop(dbos_test_app, priority=refuse)
    shop.deliver(Order(tenant="a"))
    shop.dbos.run_until_idle()
    assert "no such tenant" in str(shop.app.list_quarantined()[0].error_message)


def test_a_function_that_has_to_wait_keeps_the_event_in_kafka(dbos_test_app: MakeTestApp) -> None:
    def waits(order: Order) -> int:
        raise TryAgain("the registry does not answer")

    shop = Shop(dbos_test_app, priority=waits)
    with pytest.raises(TryAgain):
        shop.deliver(Order(tenant="a"))
    assert shop.rows() == []


def test_functions_of_a_queue_need_one(dbos_test_app: MakeTestApp) -> None:
    app = App()

    def handle(message: KafkaMessage[bytes]) -> None: ...

    for options in ({"priority": urgent}, {"queue_partition_key": tenant}, {"delay_seconds": pause}):
        with pytest.raises(RegistrationError, match="needs queue_name"):
            app.kafka_consumer(topics=["orders"], **options)(handle)  # type: ignore[arg-type]

    async def later(message: Any) -> int:
        return 1

    with pytest.raises(RegistrationError, match="async"):
        app.kafka_consumer(topics=["orders"], queue_name="q", priority=later, name="n")(handle)
