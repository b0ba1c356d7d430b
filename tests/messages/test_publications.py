"""Publications and waits (protocol, rule 19): two sides that do not know each other meet, whichever comes first."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from dbos_events import App, Matched, SetWorkflowID, WaitFor
from dbos_events.errors import DBOSException, SerializationError
from dbos_events.testing.plugin import MakeTestApp


class Payment(BaseModel):
    order: str
    amount: Decimal


@pytest.fixture
def app() -> App:
    return App()


def parked(dbos: Any) -> bool:
    dbos.run_until_idle()
    return dbos.core.runner.active == {}


# ------------------------------------------------------------------ either first


@pytest.mark.parametrize("first", ["publication", "wait"])
@pytest.mark.parametrize("take", [False, True], ids=["observed", "taken"])
def test_a_wait_and_a_publication_meet_whichever_comes_first(
    app: App, dbos_test_app: MakeTestApp, first: str, take: bool
) -> None:
    @app.workflow()
    def order(number: str) -> Any:
        return app.wait_for("payment", number, timeout_seconds=1000, take=take)

    dbos = dbos_test_app(app)
    if first == "publication":
        app.publish("payment", "1", 12)
        handle = app.start_workflow(order, "1")
    else:
        handle = app.start_workflow(order, "1")
        assert parked(dbos)
        app.publish("payment", "1", 12)
    assert handle.get_result() == 12


def test_a_launched_app_brings_both_together(app: App, database_url: str) -> None:
    @app.workflow()
    async def order(number: str) -> Any:
        return await app.wait_for_async("payment", number, timeout_seconds=30, take=True)

    @app.workflow()
    def pays(number: str) -> None:
        app.publish("payment", number, f"paid {number}")

    app.configure({"name": "meet", "system_database_url": database_url})
    app.launch()
    try:
        waiting = [app.start_workflow(order, str(number)) for number in range(3)]
        for number in (2, 0, 1):
            pays(str(number))
        assert [handle.get_result() for handle in waiting] == ["paid 0", "paid 1", "paid 2"]
    finally:
        app.destroy()


def test_names_keys_and_applications_are_compared_letter_by_letter(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def waits(name: str, key: str) -> Any:
        return app.wait_for(name, key, timeout_seconds=0)

    dbos_test_app(app)
    app.publish("a", "b/c", "right")
    for name, key in (("a/b", "c"), ("A", "b/c"), ("a", "B/C"), ("a", "b/c "), ("a", "b%2Fc")):
        assert waits(name, key) is None
    assert waits("a", "b/c") == "right"


# ------------------------------------------------------------------ who gets it


def test_all_who_wait_see_it_and_each_workflow_once(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def sees() -> list[Any]:
        return [app.wait_for("shop", "1", timeout_seconds=50) for _ in range(3)]

    dbos = dbos_test_app(app)
    early = app.start_workflow(sees)
    app.publish("shop", "1", "open")
    assert parked(dbos)
    dbos.crash()
    app.publish("shop", "1", "closed")
    late = app.start_workflow(sees)
    assert app.retrieve_workflow(early.workflow_id).get_result() == ["open", "closed", None]
    assert late.get_result() == ["open", "closed", None]


def test_what_one_takes_nobody_else_gets_and_who_came_first_is_served_first(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def takes() -> Any:
        return app.wait_for("seat", "1", timeout_seconds=1000, take=True)

    dbos = dbos_test_app(app)
    handles = []
    for _ in range(4):
        handles.append(app.start_workflow(takes))
        assert parked(dbos)
    for seat in "AB":
        app.publish("seat", "1", seat)
    dbos.run_until_idle()
    app.publish("seat", "1", "C")
    dbos.advance(seconds=1000)
    assert [handle.get_result() for handle in handles] == ["A", "B", "C", None]


def test_whoever_gave_up_does_not_keep_others_waiting(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def takes(seconds: float) -> Any:
        return app.wait_for("seat", "1", timeout_seconds=seconds, take=True)

    dbos = dbos_test_app(app)
    cancelled, short, long = (app.start_workflow(takes, seconds) for seconds in (1000, 10, 1000))
    dbos.advance(seconds=20)
    app.cancel_workflow(cancelled.workflow_id)
    app.publish("seat", "1", "A")
    assert long.get_result() == "A"
    assert short.get_result() is None


def test_what_came_before_a_redo_is_taken_once(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def takes() -> list[Any]:
        got = [app.wait_for("seat", "1", timeout_seconds=100, take=True)]
        app.sleep(100)
        return [*got, app.wait_for("seat", "1", timeout_seconds=100, take=True)]

    dbos = dbos_test_app(app)
    app.publish("seat", "1", "A")
    app.publish("seat", "1", "B")
    handle = app.start_workflow(takes)
    assert parked(dbos)
    dbos.crash()
    dbos.advance(seconds=200)
    assert app.retrieve_workflow(handle.workflow_id).get_result() == ["A", "B"]


# ------------------------------------------------------------------ several


def test_the_first_of_several_ends_the_wait_and_the_others_stay_for_the_next(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def order() -> list[Any]:
        waits: list[Any] = [WaitFor("payment", "1", take=True), WaitFor("cancel", "1", take=True)]
        return [app.wait_for_any(waits, timeout_seconds=1000) for _ in range(2)]

    dbos = dbos_test_app(app)
    handle = app.start_workflow(order)
    assert parked(dbos)
    app.publish("cancel", "1", "no")
    dbos.run_until_idle()
    app.publish("payment", "1", 12)
    assert handle.get_result() == [Matched(1, "cancel", "1", "no"), Matched(0, "payment", "1", 12)]


@pytest.mark.parametrize("order_of_events", [("payment", "stock"), ("stock", "payment")])
def test_all_of_several_are_waited_for_in_any_order(
    app: App, dbos_test_app: MakeTestApp, order_of_events: tuple[str, str]
) -> None:
    @app.workflow()
    async def order() -> Any:
        return await app.wait_for_all_async([("payment", "1"), ("stock", "1", int)], timeout_seconds=None)

    dbos = dbos_test_app(app)

    async def start() -> Any:
        return await app.start_workflow_async(order)

    handle = asyncio.run(start())
    assert parked(dbos)
    for name in order_of_events:
        app.publish(name, "1", {"payment": "paid", "stock": 5}[name])
        dbos.run_until_idle()
    assert app.retrieve_workflow(handle.workflow_id).get_result() == ["paid", 5]


def test_of_several_that_did_not_all_come_nothing_is_taken(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def both() -> Any:
        return app.wait_for_all([WaitFor("a", "1", take=True), WaitFor("b", "1", take=True)], 10)

    @app.workflow()
    def one() -> Any:
        return app.wait_for("a", "1", take=True, timeout_seconds=0)

    dbos_test_app(app)
    app.publish("a", "1", "kept")
    assert both() is None
    assert one() == "kept"


# ------------------------------------------------------------------ models and values


def test_a_value_is_made_what_its_waiter_wants(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def order(key: str) -> Any:
        return app.wait_for("payment", key, Payment, timeout_seconds=0)

    dbos_test_app(app)
    expected = Payment(order="1", amount=Decimal("12.50"))
    values: list[Any] = [
        {"order": "1", "amount": "12.50"},
        b'{"order": "1", "amount": "12.50"}',
        '{"order": "1", "amount": "12.50"}',
        expected,
    ]
    for number, value in enumerate(values):
        app.publish("payment", str(number), value)
        assert order(str(number)) == expected


def test_a_value_that_does_not_fit_is_an_error_and_stays_for_a_mended_waiter(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def order(model: str) -> Any:
        wanted = Payment if model == "payment" else None
        return app.wait_for("payment", "1", wanted, timeout_seconds=0, take=True)

    dbos_test_app(app)
    app.publish("payment", "1", {"order": 1})
    with pytest.raises(SerializationError, match="Payment"):
        order("payment")
    assert order("none") == {"order": 1}


# ------------------------------------------------------------------ time


def test_one_event_id_is_one_publication(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def counts() -> list[Any]:
        return [app.wait_for("payment", "1", timeout_seconds=0) for _ in range(3)]

    dbos_test_app(app)
    for value in (1, 2):
        app.publish("payment", "1", value, event_id="e1")
    app.publish("payment", "1", 3, event_id="e2")
    assert counts() == [1, 3, None]


def test_a_publication_expires_and_is_counted_when_nobody_saw_it(
    app: App, dbos_test_app: MakeTestApp, caplog: pytest.LogCaptureFixture
) -> None:
    @app.workflow()
    def sees(key: str) -> Any:
        return app.wait_for("payment", key, timeout_seconds=0)

    dbos = dbos_test_app(app)
    app.publish("payment", "seen", 1, ttl_seconds=100)
    app.publish("payment", "unseen", 2, ttl_seconds=100)
    app.publish("payment", "for ever", 3, ttl_seconds=None)
    assert sees("seen") == 1
    dbos.advance(seconds=99)
    assert sees("seen") == 1, "by another workflow"
    dbos.advance(seconds=2)
    assert sees("unseen") is None
    storage = dbos.core.storage
    assert storage.publications.counts(None) == {"payment": {"expired": 1, "open": 1, "over": 1}}
    publications, waits = storage.publications.unmatched(None, None, 10)
    assert [(one.key, one.state) for one in publications] == [("unseen", "expired"), ("for ever", "open")]
    assert waits == []
    assert "1 publications have expired" in caplog.text


def test_a_crash_does_not_prolong_a_wait_for_a_publication(app: App, dbos_test_app: MakeTestApp) -> None:
    ended: list[int] = []

    @app.workflow()
    def waits() -> None:
        app.wait_for("payment", "1", timeout_seconds=100)
        ended.append(dbos.clock.now_ms())

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    app.start_workflow(waits)
    dbos.advance(seconds=60)
    dbos.crash()
    dbos.advance(seconds=60)
    assert ended == [began + 100_000]


# ------------------------------------------------------------------ from where


def test_a_workflow_publishes_once_and_a_step_once_for_each_attempt(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def announces() -> None:
        app.publish("news", "1", "from a step", event_id="news")

    @app.workflow()
    def publishes() -> None:
        app.publish("news", "1", "from a workflow")
        announces()
        app.sleep(10)
        app.publish("news", "1", "afterwards")

    @app.workflow()
    def reads() -> list[Any]:
        return [app.wait_for("news", "1", timeout_seconds=0) for _ in range(4)]

    dbos = dbos_test_app(app)
    with SetWorkflowID("publisher"):
        app.start_workflow(publishes)
    dbos.run_until_idle()
    dbos.crash()
    dbos.advance(seconds=20)
    assert reads() == ["from a workflow", "from a step", "afterwards", None]
    names = [step.function_name for step in app.list_workflow_steps("publisher")]
    assert names == ["DBOS.publish", announces.__qualname__, "DBOS.sleep", "DBOS.publish"]


@pytest.mark.parametrize(
    "call",
    [
        lambda app: app.publish("", "k"),
        lambda app: app.publish("n", None),
        lambda app: app.publish("n", "k" * 501),
        lambda app: app.publish("n", "k", ttl_seconds=0),
        lambda app: app.publish("n", "k", ttl_seconds="long"),
        lambda app: app.publish("n", "k", event_id=5),
        lambda app: app.publish("n", "k", object()),
        lambda app: app.wait_for("n", "k"),
    ],
    ids=["name", "key", "long key", "no time", "time", "event id", "value", "outside"],
)
def test_what_cannot_be_published_or_waited_for_is_refused(
    app: App, dbos_test_app: MakeTestApp, call: Any
) -> None:
    dbos = dbos_test_app(app)
    with pytest.raises(DBOSException):
        call(app)
    assert dbos.core.storage.publications.counts(None) == {}


@pytest.mark.parametrize("waits", [[], [("a", "b"), ("a", "b", int)], ["ab"], [("a",)], [("a", "")]])
def test_what_cannot_be_waited_for_is_refused_in_the_workflow(
    app: App, dbos_test_app: MakeTestApp, waits: Any
) -> None:
    @app.workflow()
    def order() -> Any:
        return app.wait_for_any(waits)

    dbos_test_app(app)
    with pytest.raises(DBOSException):
        order()


# ------------------------------------------------------------------ at intake


class Order(BaseModel):
    number: str


@pytest.mark.parametrize("first", ["order", "payment"])
def test_two_topics_meet_whichever_comes_first_and_one_of_them_starts_no_workflow(
    app: App, dbos_test_app: MakeTestApp, first: str
) -> None:
    @app.kafka_consumer(topics=["orders"])
    def on_order(order: Order) -> Any:
        return app.wait_for("payment", order.number, Payment, timeout_seconds=1000, take=True).amount

    def by_order(payment: Payment) -> tuple[str, str]:
        return "payment", payment.order

    on_payment = app.kafka_consumer(topics=["payments"], name="payments", publishes=by_order)(None)

    dbos = dbos_test_app(app)
    payment = {"order": "7", "amount": "12.50"}
    if first == "payment":
        dbos.deliver(on_payment, payment)
        handle = dbos.deliver(on_order, {"number": "7"})
    else:
        handle = dbos.deliver(on_order, {"number": "7"})
        assert parked(dbos)
        dbos.deliver(on_payment, payment)
    assert handle.get_result() == Decimal("12.50")
    names = [one.name for one in app.list_workflows()]
    assert len(names) == 1, "of the payment there is none"


def test_a_handler_may_publish_at_intake_too_and_what_is_not_published_just_runs(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(
        topics=["t"],
        publishes=lambda message: ("seen", message.value.decode(), 5) if message.value != b"skip" else None,
    )
    def handle(message: Any) -> str:
        return str(message.value)

    @app.workflow()
    def sees(key: str) -> Any:
        return app.wait_for("seen", key, timeout_seconds=0)

    dbos = dbos_test_app(app)
    assert dbos.deliver(handle, b"a").get_result() == "b'a'"
    assert dbos.deliver(handle, b"skip").get_result() == "b'skip'"
    assert (sees("a"), sees("skip")) == (5, None)


@pytest.mark.parametrize("given", ["name", ("n",), ("n", ""), ("n", 5), ("n", "k", object()), ValueError])
def test_what_cannot_be_published_is_put_aside_with_the_reason(
    app: App, dbos_test_app: MakeTestApp, given: Any
) -> None:
    def publishes(message: Any) -> Any:
        if given is ValueError:
            raise ValueError("no such key")
        return given

    handler = app.kafka_consumer(topics=["t"], name="only", publishes=publishes)(None)

    dbos = dbos_test_app(app)
    handle = dbos.deliver(handler, b"x")
    dbos.run_until_idle()
    [event] = app.list_quarantined()
    assert event.workflow_id == handle.workflow_id
    assert "publishes" in str(event.error_message)
    assert dbos.core.storage.publications.counts(None) == {}


def test_a_consumer_without_a_handler_must_publish_and_have_a_name(app: App) -> None:
    with pytest.raises(DBOSException, match="publishes"):
        app.kafka_consumer(topics=["t"], name="nothing")(None)
    with pytest.raises(DBOSException, match="name"):
        app.kafka_consumer(topics=["t"], publishes=lambda _: ("a", "b"))(None)
