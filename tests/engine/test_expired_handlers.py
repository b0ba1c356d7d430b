"""What is done for events that are too late: a workflow of its own, once for each (rule 20)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pydantic
import pytest

from dbos_events import App, KafkaMessage
from dbos_events.errors import RegistrationError
from dbos_events.testing.plugin import MakeTestApp

SOON = timedelta(seconds=30)


class Quote(pydantic.BaseModel):
    price: int


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def calls() -> list[Any]:
    return []


def test_what_is_too_late_starts_a_workflow_that_is_given_what_it_takes(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp, database_url: str
) -> None:
    app.queue("slow", worker_concurrency=1)

    @app.step()
    def sorry(price: int) -> str:
        calls.append(("sorry", price))
        return f"sorry for {price}"

    def refused(quote: Quote) -> str:
        return sorry(quote.price)

    @app.kafka_consumer(None, "quotes", queue_name="slow", expires=lambda _: SOON, on_expired=refused)
    def on_quote(quote: Quote) -> None:
        calls.append(("quote", quote.price))
        app.sleep(60)

    dbos = dbos_test_app(app, park_after_seconds=3600.0, database_url=database_url)
    first, second = (dbos.deliver(on_quote, Quote(price=price)) for price in (1, 2))
    dbos.advance(seconds=120)
    assert first.get_status().status == "SUCCESS"
    assert second.get_status().status == "EXPIRED"
    handled = app.retrieve_workflow(f"{second.workflow_id}/expired")
    assert handled.get_result() == "sorry for 2"
    assert handled.get_status().parent_workflow_id == second.workflow_id
    assert calls == [("quote", 1), ("sorry", 2)]
    assert app.get_workflow_status(f"{first.workflow_id}/expired") is None


def test_it_may_be_async_and_take_the_message(app: App, calls: list[Any], dbos_test_app: MakeTestApp) -> None:
    async def refused(message: KafkaMessage) -> None:
        await app.sleep_async(3600)
        calls.append((message.topic, message.partition, message.key, message.value, message.headers))

    @app.kafka_consumer(None, "quotes", ordering="key", expires=lambda _: SOON, on_expired=refused)
    def on_quote(value: bytes) -> None:
        app.sleep(60)

    dbos = dbos_test_app(app)
    for value in (b"first", b"second"):
        dbos.deliver(on_quote, value, key="k", headers=[("h", b"1")])
    dbos.advance(hours=2)
    assert calls == [("quotes", 0, b"k", b"second", [("h", b"1")])]


def test_a_crash_makes_one_of_it(app: App, calls: list[Any], dbos_test_app: MakeTestApp) -> None:
    @app.step()
    def tells(value: bytes) -> None:
        calls.append(value)

    def refused(value: bytes) -> None:
        tells(value)
        app.sleep(3600)
        calls.append("ended")

    @app.kafka_consumer(None, "quotes", expires=lambda _: SOON, on_expired=refused)
    def on_quote(_: bytes) -> None:
        if "died" not in calls:
            calls.append("died")
            dbos.crash()

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_quote, b"v")
    dbos.clock.advance(timedelta(minutes=1))
    dbos.run_until_idle()
    assert handle.get_status().status == "EXPIRED"
    dbos.crash()
    dbos.advance(hours=2)
    assert calls == ["died", b"v", "ended"]
    assert len(app.list_workflows(parent_workflow_id=handle.workflow_id)) == 1


def test_what_it_cannot_take_is_put_aside_and_runs_after_a_redrive(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    def refused(quote: Quote) -> None:
        calls.append("refused")

    @app.kafka_consumer(None, "quotes", ordering="partition", expires=lambda _: SOON, on_expired=refused)
    def on_quote(value: bytes) -> None:
        calls.append(value)
        app.sleep(60)

    dbos = dbos_test_app(app)
    dbos.deliver(on_quote, b"{}")
    second = dbos.deliver(on_quote, b"not JSON")
    dbos.advance(seconds=90)
    [aside] = app.list_quarantined()
    assert (aside.workflow_id, aside.reason) == (second.workflow_id, "undecodable")
    assert app.list_workflows(parent_workflow_id=second.workflow_id) == []
    app.redrive_events([second.workflow_id])
    dbos.advance(seconds=90)
    assert second.get_status().status == "SUCCESS", "a redrive runs, whatever the time"
    assert "refused" not in calls


def test_options_that_do_not_fit_are_refused(app: App) -> None:
    def refused(_: bytes) -> None: ...

    def of_two(_: bytes, __: bytes) -> None: ...

    def on_quote(_: bytes) -> None: ...

    with pytest.raises(RegistrationError, match="it needs expires"):
        app.kafka_consumer(None, "quotes", on_expired=refused)(on_quote)
    with pytest.raises(RegistrationError, match="on_expired"):
        app.kafka_consumer(None, "quotes", expires=lambda _: SOON, on_expired=of_two)(on_quote)
    app.kafka_consumer(None, "quotes", name="one", expires=_soon, on_expired=refused)(on_quote)
    with pytest.raises(RegistrationError, match="on_expired"):
        app.kafka_consumer(None, "others", name="two", expires=_soon)(on_quote)


def _soon(_: KafkaMessage) -> timedelta:
    return SOON
