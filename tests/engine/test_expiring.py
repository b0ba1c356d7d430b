"""Events that are too late when their turn comes: counted, and not run (rules 11 and 20)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pydantic
import pytest

from dbos_events import App, KafkaMessage, Retry
from dbos_events.control.control import Control
from dbos_events.errors import DBOSWorkflowExpiredError, RegistrationError
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp

SOON = timedelta(seconds=30)


class Quote(pydantic.BaseModel):
    price: int
    valid_until: datetime


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def calls() -> list[Any]:
    return []


def quote(dbos: TestApp, price: int, seconds: float) -> Quote:
    return Quote(price=price, valid_until=dbos.clock.now + timedelta(seconds=seconds))


def outcomes(app: App, count: int) -> list[str]:
    core = app.core
    proofs = Control(core.storage, core.codecs, core.application).proofs
    return [proofs.trace("quotes", 0, offset)[0].outcome.word for offset in range(count)]


def test_what_is_too_late_when_its_turn_comes_ends_as_expired(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    app.queue("slow", worker_concurrency=1)

    def until(value: Quote) -> datetime:
        return value.valid_until

    @app.kafka_consumer(None, "quotes", queue_name="slow", expires=until)
    def on_quote(value: Quote) -> int:
        calls.append(value.price)
        app.sleep(60)
        return value.price

    dbos = dbos_test_app(app, park_after_seconds=3600.0)
    handles = [
        dbos.deliver(on_quote, quote(dbos, price, seconds)) for price, seconds in ((1, 1), (2, 30), (3, 90))
    ]
    assert handles[0].get_result() == 1, "it began in time"
    assert handles[2].get_result() == 3
    with pytest.raises(DBOSWorkflowExpiredError):
        handles[1].get_result()
    assert handles[1].get_status().status == "EXPIRED"
    assert calls == [1, 3]
    assert outcomes(app, 3) == ["succeeded", "expired", "succeeded"]
    (partition,) = app.core.storage.positions.read(None)
    assert (partition.expired, partition.quarantined, partition.in_flight) == (1, 0, 0)
    assert app.core.storage.quarantine.get(handles[1].workflow_id) is None


def test_an_expired_event_frees_its_lane(app: App, calls: list[Any], dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(None, "quotes", ordering="partition", expires=lambda _: SOON)
    def on_quote(value: bytes) -> None:
        calls.append(value)
        app.sleep(60)

    dbos = dbos_test_app(app)
    for value in (b"first", b"second"):
        dbos.deliver(on_quote, value)
    dbos.advance(seconds=61)
    third = dbos.deliver(on_quote, b"third")
    third.get_result()
    assert list(dict.fromkeys(calls)) == [b"first", b"third"]
    assert outcomes(app, 3) == ["succeeded", "expired", "succeeded"]


def test_what_a_dead_process_had_taken_in_and_not_begun_is_too_late_as_well(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "quotes", expires=lambda _: SOON)
    def on_quote(_: bytes) -> None:
        if not calls:
            calls.append("dies")
            dbos.crash()
        calls.append("called")

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_quote, b"")
    dbos.clock.advance(timedelta(minutes=1))
    dbos.run_until_idle()
    assert handle.get_status().status == "EXPIRED"
    assert calls == ["dies"]


def test_what_has_begun_goes_on_whatever_the_time(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def fails_once() -> None:
        calls.append("called")
        if len(calls) == 1:
            raise OSError

    @app.kafka_consumer(
        None, "quotes", expires=lambda _: SOON, retries=Retry(max_attempts=3, interval_seconds=3600)
    )
    def on_quote(_: bytes) -> str:
        fails_once()
        app.sleep(3600)
        return "done"

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_quote, b"")
    dbos.run_until_idle()
    dbos.crash()
    assert handle.get_result() == "done"
    assert calls == ["called", "called"]


def test_what_an_operator_redrives_runs(app: App, calls: list[Any], dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(None, "quotes", expires=lambda _: SOON)
    def on_quote(_: bytes) -> str:
        calls.append("called")
        if len(calls) == 1:
            raise OSError
        return "done"

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_quote, b"")
    dbos.advance(days=1)
    assert handle.get_status().status == "ERROR"
    app.redrive_events([handle.workflow_id])
    assert handle.get_result() == "done"


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (None, "SUCCESS"),
        (timedelta(seconds=30), "EXPIRED"),
        (timedelta(days=2), "SUCCESS"),
        (datetime(2029, 1, 1).astimezone(), "EXPIRED"),
        (2_000_000_000_000, "SUCCESS"),
        (1_800_000_000_000.0, "EXPIRED"),
        (1_900_000_000, "ERROR"),
        (float("nan"), "ERROR"),
        (True, "ERROR"),
        ("tomorrow", "ERROR"),
        (datetime(2040, 1, 1), "ERROR"),  # noqa: DTZ001 - that is the point
        (OSError("broken"), "ERROR"),
    ],
    ids=str,
)
def test_how_the_time_can_be_said_and_what_is_put_aside(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp, answer: object, ends: str
) -> None:
    app.queue("gate")

    def expires(_: KafkaMessage) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    @app.kafka_consumer(None, "quotes", queue_name="gate", expires=expires)
    def on_quote(_: bytes) -> None:
        calls.append("called")

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_quote, b"")
    dbos.clock.advance(timedelta(days=1))
    dbos.run_until_idle()
    assert handle.get_status().status == ends
    assert calls == (["called"] if ends == "SUCCESS" else [])
    aside = app.core.storage.quarantine.get(handle.workflow_id)
    assert (aside is not None) == (ends == "ERROR")
    if aside is not None:
        assert aside.event.reason == "filter-failed"
        assert "`expires` of the consumer" in str(handle.get_status().error)


def test_one_that_cannot_be_asked_is_refused_at_the_declaration(app: App) -> None:
    async def later(_: KafkaMessage) -> None: ...

    def two(first: int, second: int) -> None: ...

    wrong: list[Callable[..., Any]] = [later, two]
    for expires in wrong:
        with pytest.raises(RegistrationError, match="expires"):

            @app.kafka_consumer(None, "quotes", name="quotes", expires=expires)
            def on_quote(_: bytes) -> None: ...
