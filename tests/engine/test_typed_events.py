"""Events of typed handlers: decoded when they run, the same again at each replay, put aside where they do not fit."""

import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest

from dbos_events import App, DBOSConfig, KafkaMessage, PayloadCodec
from dbos_events.errors import RegistrationError, UndecodablePayload
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp
from tests.faults.rows import Rows


class Order(pydantic.BaseModel):
    id: int
    lines: list[str] = []


class Paid(pydantic.BaseModel):
    kind: Literal["paid"]
    amount: int


class Sent(pydantic.BaseModel):
    kind: Literal["sent"]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database that outlives one App."""
    return f"sqlite:///{tmp_path}/events.sqlite"


def quarantined(app: App) -> dict[str, tuple[str, str]]:
    """(reason, error) by workflow."""
    rows = Rows(app.launched.settings.database_url).query("SELECT workflow_id, reason, error FROM quarantine")
    decode = app.core.codecs.default.decode_error
    return {workflow_id: (reason, str(decode(error))) for workflow_id, reason, error in rows}


def redrive(app: App, workflow_id: str) -> None:
    """Another generation of an event's workflow, which any process runs."""
    Rows(app.launched.settings.database_url).query(
        "UPDATE workflows SET status = 'ENQUEUED', owner = NULL, generation = generation + 1 WHERE id = ?",
        (workflow_id,),
    )


def test_a_handler_gets_the_value_that_its_annotation_says(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(topics="orders")
    def on_order(order: Order) -> int:
        seen.append(order)
        return order.id

    @app.kafka_consumer(topics="payments")
    async def on_payment(event: Annotated[Paid | Sent, pydantic.Field(discriminator="kind")]) -> str:
        seen.append(event)
        return event.kind

    @app.kafka_consumer(topics="baskets")
    def on_orders(orders: list[Order]) -> int:
        return sum(order.id for order in orders)

    @app.kafka_consumer(topics="texts")
    def on_text(message: KafkaMessage[str | None]) -> str | None:
        return message.value

    dbos = dbos_test_app(app)
    assert dbos.deliver(on_order, {"id": 7, "lines": ["a"]}).get_result() == 7
    assert dbos.deliver(on_payment, Paid(kind="paid", amount=3)).get_result() == "paid"
    assert dbos.deliver(on_orders, [Order(id=1), Order(id=2)]).get_result() == 3
    assert dbos.deliver(on_text, "x").get_result() == "x"
    assert dbos.deliver(on_text, None).get_result() is None
    assert seen == [Order(id=7, lines=["a"]), Paid(kind="paid", amount=3)]


def test_models_of_the_function_that_declares_a_handler_are_known(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    class Local(pydantic.BaseModel):
        id: int

    def on_order(order: "Local") -> int:
        return order.id

    handler = app.kafka_consumer(topics="orders")(on_order)
    assert dbos_test_app(app).deliver(handler, Local(id=3)).get_result() == 3


def test_a_direct_call_is_a_typed_workflow_of_its_own(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(topics="orders")
    def on_order(order: Order) -> int:
        app.sleep(60)
        return order.id

    dbos_test_app(app)
    assert on_order(Order(id=8)) == 8
    handle = app.start_workflow(on_order, Order(id=9))
    assert handle.get_result() == 9
    stored = handle.get_status().input
    assert stored is not None
    assert stored["args"] == (Order(id=9),)


def test_an_async_handler_is_called_directly_too(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(topics="orders")
    async def on_order(order: Order) -> int:
        return order.id

    @app.workflow()
    async def calls() -> int:
        return await on_order(Order(id=8))

    dbos_test_app(app)
    result: Any = app.start_workflow(calls).get_result()
    assert result == 8


def test_the_stored_input_is_the_record_and_each_replay_decodes_it_anew(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(topics="orders")
    async def on_order(order: Order) -> int:
        seen.append(order)
        await app.sleep_async(60)
        return order.id

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, b'{"id": 7, "more": [1]}')
    dbos.run_until_idle()
    dbos.crash()
    assert handle.get_result() == 7
    assert seen == [Order(id=7)] * 2
    rows = Rows(app.launched.settings.database_url)
    assert rows.query("SELECT value FROM events") == [(b'{"id": 7, "more": [1]}',)]
    assert rows.query("SELECT input FROM payloads") == []


@pytest.mark.parametrize("ordering", ["none", "partition"])
@pytest.mark.parametrize("on_failure", ["quarantine", "record"])
def test_what_does_not_fit_is_put_aside_without_a_call(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp, ordering: Any, on_failure: Any
) -> None:
    @app.kafka_consumer(topics="orders", ordering=ordering, on_failure=on_failure)
    def on_order(order: Order) -> None:
        seen.append(order.id)

    dbos = dbos_test_app(app)
    good, bad, tombstone, last = (
        dbos.deliver(on_order, value, partition=partition)
        for value, partition in (({"id": 1}, 0), ({"id": "x"}, 0), (None, 1), ({"id": 2}, 0))
    )
    dbos.run_until_idle()
    held = ordering == "partition" and on_failure == "quarantine"
    statuses = [handle.get_status().status for handle in (good, bad, tombstone, last)]
    assert statuses == ["SUCCESS", "ERROR", "ERROR", "PENDING" if held else "SUCCESS"]
    assert seen == ([1] if held else [1, 2])
    error = bad.get_status().error
    assert isinstance(error, UndecodablePayload)
    assert error.message == (
        "The value of orders/0/1 is no Order: id: Input should be a valid integer, unable to parse string as an "
        "integer."
    )
    with pytest.raises(UndecodablePayload, match="tombstone"):
        tombstone.get_result()
    expected = {}
    if on_failure == "quarantine":
        expected = {one.workflow_id: ("undecodable", str(one.get_status().error)) for one in (bad, tombstone)}
    assert quarantined(app) == expected


def test_events_of_a_queue_are_decoded_where_they_run(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    app.queue("slow")

    @app.kafka_consumer(topics="orders", queue_name="slow")
    def on_order(order: Order) -> None:
        seen.append(order.id)

    dbos = dbos_test_app(app)
    good, bad = dbos.deliver(on_order, {"id": 1}), dbos.deliver(on_order, {})
    assert bad.get_status().status == "ENQUEUED"
    dbos.run_until_idle()
    assert (good.get_status().status, bad.get_status().status, seen) == ("SUCCESS", "ERROR", [1])


def orders_app(
    model: Any, config: DBOSConfig, seen: list[Any], codec: PayloadCodec | None = None
) -> tuple[App, Any]:
    """A process of one application, with its version of the model."""
    app = App(config)

    def on_order(order: Any) -> None:
        seen.append(order)

    on_order.__annotations__["order"] = model
    return app, app.kafka_consumer(topics="orders", name="orders", codec=codec)(
        app.workflow(name="on_order")(on_order)
    )


class OrderWithCurrency(pydantic.BaseModel):
    id: int | str
    currency: str = "EUR"


def test_a_redrive_decodes_with_the_mended_model(url: str, seen: list[Any]) -> None:
    config: DBOSConfig = {"name": "shop"}
    before, handler = orders_app(Order, config, seen)
    with TestApp(before, database_url=url) as dbos:
        handle = dbos.deliver(handler, {"id": "A-7"})
        dbos.run_until_idle()
        assert handle.get_status().status == "ERROR"
    after, _ = orders_app(OrderWithCurrency, config, seen)
    with TestApp(after, database_url=url) as dbos:
        redrive(after, handle.workflow_id)
        dbos.run_until_idle()
        status = after.get_workflow_status(handle.workflow_id)
    assert status is not None
    assert (status.status, status.generation) == ("SUCCESS", 1)
    assert seen == [OrderWithCurrency(id="A-7")]


class Mendable:
    def __init__(self) -> None:
        self.broken = True
        self.threads: set[str] = set()

    def decode(self, message: KafkaMessage[bytes]) -> Any:
        self.threads.add(threading.current_thread().name.partition("_")[0])
        if self.broken:
            raise LookupError("schema 7 is not known")
        return {"id": int(message.value)}


def test_a_redrive_asks_the_mended_codec(app: App, seen: list[Any], dbos_test_app: MakeTestApp) -> None:
    codec = Mendable()

    @app.kafka_consumer(topics="orders", codec=codec)
    def on_order(order: Order) -> None:
        seen.append(order)

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, b"7")
    dbos.run_until_idle()
    reason, error = quarantined(app)[handle.workflow_id]
    assert reason == "undecodable"
    assert "The codec Mendable cannot decode the value of orders/0/0 (1 bytes): LookupError" in error
    redrive(app, handle.workflow_id)
    dbos.run_until_idle()
    assert (handle.get_status().status, seen) == ("ERROR", [])
    codec.broken = False
    redrive(app, handle.workflow_id)
    dbos.run_until_idle()
    assert (handle.get_status().status, seen) == ("SUCCESS", [Order(id=7)])
    assert all(
        name.startswith("dbos-workflow") for name in codec.threads
    )  # never the thread that takes records in


def test_one_function_has_one_codec_and_one_filter(app: App) -> None:
    def on_order(order: Order) -> None: ...

    def every(message: KafkaMessage) -> bool:
        return True

    codec = Mendable()
    first = app.kafka_consumer(topics="a", name="one", codec=codec, when=every)(on_order)
    app.kafka_consumer(topics="b", name="two", codec=codec, when=every)(first)
    for options in ({"codec": Mendable(), "when": every}, {"codec": codec}, {"when": every}, {}):
        with pytest.raises(RegistrationError, match=r"'three'.*another codec or another `when`"):
            app.kafka_consumer(topics="c", name="three", **options)(first)
    assert [consumer.options.name for consumer in app.consumers] == ["one", "two"]


def test_a_plain_function_that_is_declared_twice_has_one_codec_and_one_filter_too(app: App) -> None:
    def on_order(order: Order) -> None: ...

    def every(message: KafkaMessage) -> bool:
        return True

    codec = Mendable()
    app.kafka_consumer(topics="a", name="one", codec=codec, when=every)(on_order)
    app.kafka_consumer(topics="b", name="two", codec=codec, when=every)(on_order)
    for options in ({"codec": Mendable(), "when": every}, {"codec": codec}, {"when": every}, {}):
        with pytest.raises(RegistrationError, match=r"'three'.*another codec or another `when`"):
            app.kafka_consumer(topics="c", name="three", **options)(on_order)
    assert [consumer.options.name for consumer in app.consumers] == ["one", "two"]


def test_a_lane_may_be_named_by_a_field_of_the_value(
    app: App, seen: list[Any], dbos_test_app: MakeTestApp
) -> None:
    def by_customer(order: Order) -> str:
        return order.lines[0]

    @app.kafka_consumer(topics="orders", ordering="key", ordering_key=by_customer)
    def on_order(order: Order) -> None:
        seen.append((order.lines[0], order.id))
        if order.id == 1:
            raise LookupError("no such order")

    dbos = dbos_test_app(app)
    for number, customer in ((1, "ada"), (2, "ada"), (3, "berta")):
        dbos.deliver(on_order, {"id": number, "lines": [customer]}, key=b"one key for all")
    dbos.run_until_idle()
    assert seen == [("ada", 1), ("berta", 3)]
