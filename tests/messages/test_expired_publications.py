"""What is done for publications that expire unseen: a workflow each, once (rule 19)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from dbos_events import App, DBOSClient, ExpiredPublication, Publication
from dbos_events.errors import DBOSException, SerializationError
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.testing.plugin import MakeTestApp


class Payment(BaseModel):
    order: str
    amount: Decimal


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def handled(app: App) -> list[ExpiredPublication]:
    """What the workflow `returned` of the app has been given."""
    found: list[ExpiredPublication] = []

    @app.workflow(name="returned")
    def returned(expired: ExpiredPublication) -> None:
        app.sleep(60)
        found.append(expired)

    return found


def test_one_that_nobody_saw_starts_its_workflow_and_one_that_was_seen_does_not(
    app: App, handled: list[ExpiredPublication], dbos_test_app: MakeTestApp, database_url: str
) -> None:
    @app.workflow()
    def order(number: str, take: bool) -> Any:
        return app.wait_for("payment", number, take=take, timeout_seconds=0)

    dbos = dbos_test_app(app, database_url=database_url)
    payment = Payment(order="1", amount=Decimal("12.50"))
    for number in ("seen", "taken", "unseen"):
        app.publish(
            "payment", number, payment, ttl_seconds=100, on_expired="returned", event_id=f"e-{number}"
        )
    app.publish("payment", "without", payment, ttl_seconds=100)
    order("seen", False)
    order("taken", True)
    dbos.advance(seconds=99)
    assert app.list_workflows(name="returned") == []
    dbos.advance(seconds=200)
    assert handled == [ExpiredPublication("payment", "unseen", payment, "e-unseen")]
    assert dbos.core.storage.publications.counts(None)["payment"] == {"expired": 2, "over": 1, "taken": 1}


def test_a_workflow_publishes_with_one_and_crashes_make_one_of_it(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    calls: list[str] = []

    @app.workflow()
    async def returned(expired: ExpiredPublication) -> None:
        await app.sleep_async(60)
        calls.append(expired.key)

    @app.workflow()
    def publishes() -> None:
        app.publish("payment", "1", ttl_seconds=100, on_expired=returned)
        app.sleep(10)

    dbos = dbos_test_app(app)
    handle = app.start_workflow(publishes)
    dbos.run_until_idle()
    dbos.crash()
    dbos.advance(seconds=101)
    dbos.crash()
    dbos.advance(seconds=100)
    assert handle.get_status().status == "SUCCESS"
    assert calls == ["1"]
    assert len(app.list_workflows(name=returned.__qualname__)) == 1


def test_one_that_is_opened_again_and_expires_again_is_handled_again(
    app: App, handled: list[ExpiredPublication], dbos_test_app: MakeTestApp
) -> None:
    dbos = dbos_test_app(app)
    app.publish("payment", "wrong", 7, ttl_seconds=100, on_expired="returned")
    dbos.advance(seconds=200)
    assert [one.key for one in handled] == ["wrong"]
    publications = dbos.core.storage.publications
    [unmatched], _ = publications.unmatched(None, None, 10)
    publications.force(unmatched.number, "right", 100_000, OperatorDecision("ada", "a digit was wrong"))
    dbos.advance(seconds=200)
    assert [(one.key, one.value) for one in handled] == [("wrong", 7)] * 2, "as it was published"


def test_one_that_is_discarded_is_not_handled(
    app: App, handled: list[ExpiredPublication], dbos_test_app: MakeTestApp
) -> None:
    dbos = dbos_test_app(app)
    app.publish("payment", "1", ttl_seconds=100, on_expired="returned")
    publications = dbos.core.storage.publications
    [unmatched], _ = publications.unmatched(None, None, 10)
    publications.discard(unmatched.number, OperatorDecision("ada", "a test"))
    dbos.advance(seconds=200)
    assert handled == []


def test_what_a_consumer_publishes_may_have_one_and_a_time(
    app: App, handled: list[ExpiredPublication], dbos_test_app: MakeTestApp
) -> None:
    def by_order(payment: Payment) -> Publication:
        return Publication("payment", payment.order, ttl_seconds=100, on_expired="returned")

    on_payment = app.kafka_consumer(topics=["payments"], name="payments", publishes=by_order)(None)
    dbos = dbos_test_app(app)
    dbos.deliver(on_payment, {"order": "1", "amount": "12.50"})
    dbos.advance(seconds=200)
    [one] = handled
    assert (one.name, one.key, one.value) == ("payment", "1", Payment(order="1", amount=Decimal("12.50")))
    assert one.event_id is not None
    assert one.event_id.startswith("kafka/")


@pytest.mark.parametrize("ttl", [0, -1, "1", 1e11])
def test_a_time_that_cannot_be_meant_puts_the_record_aside(
    app: App, dbos_test_app: MakeTestApp, ttl: Any
) -> None:
    on_payment = app.kafka_consumer(
        topics=["payments"], name="payments", publishes=lambda _: Publication("payment", "1", ttl_seconds=ttl)
    )(None)
    dbos = dbos_test_app(app)
    dbos.deliver(on_payment, b"{}")
    dbos.run_until_idle()
    [aside] = app.list_quarantined()
    assert aside.reason == "undecodable"


def test_a_client_names_the_workflow(
    app: App, handled: list[ExpiredPublication], dbos_test_app: MakeTestApp, database_url: str
) -> None:
    dbos = dbos_test_app(app, database_url=database_url)
    with DBOSClient(system_database_url=database_url) as client:
        client.publish("payment", "1", ttl_seconds=0.001, on_expired="returned")
    dbos.advance(seconds=10_000)
    assert [one.key for one in handled] == ["1"]


def test_what_is_no_workflow_is_refused_before_anything_is_published(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(_: ExpiredPublication) -> None: ...

    other = App()

    @other.workflow()
    def elsewhere(_: ExpiredPublication) -> None: ...

    dbos = dbos_test_app(app)
    wrong: list[Any] = [step, lambda _: None, "", 5]
    for handler in wrong:
        with pytest.raises(DBOSException, match="on_expired takes a workflow"):
            app.publish("payment", "1", on_expired=handler)
    with pytest.raises(DBOSException, match="belongs to another App"):
        app.publish("payment", "1", on_expired=elsewhere)
    with pytest.raises(SerializationError):
        app.publish("payment", "1", object(), on_expired="returned")
    assert dbos.core.storage.publications.counts(None) == {}


def test_a_workflow_that_cannot_be_called_with_what_has_expired_is_refused(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    told: list[str] = []

    @app.workflow()
    def of_none() -> None: ...

    @app.workflow()
    def of_two(_: ExpiredPublication, __: int) -> None: ...

    class Payments:
        @app.workflow()
        def method(self, _: ExpiredPublication) -> None: ...

        @staticmethod
        @app.workflow()
        def static(expired: ExpiredPublication) -> None:
            told.append(expired.key)

    @app.workflow()
    def of_one_and_more(expired: ExpiredPublication, *_: int, times: int = 1) -> None:
        told.append(expired.key * times)

    dbos = dbos_test_app(app)
    wrong: list[Any] = [of_none, of_two, Payments.method, Payments().method]
    for handler in wrong:
        with pytest.raises(DBOSException, match="called with one argument, the ExpiredPublication"):
            app.publish("payment", "1", on_expired=handler)
    for key, fits in (("2", Payments.static), ("3", of_one_and_more)):
        app.publish("payment", key, ttl_seconds=1, on_expired=fits)
    dbos.advance(seconds=2)
    assert sorted(told) == ["2", "3"]
