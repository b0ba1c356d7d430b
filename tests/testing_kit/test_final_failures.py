"""An event that has failed for good is one line of the log, with all that is known of it; many are counted."""

import logging
from typing import Any

import pytest

from dbos_events import App, KafkaMessage, Quarantine, Retry
from dbos_events.runtime.intake.finals import LINES, FinalFailure, FinalFailures
from dbos_events.testing.plugin import MakeTestApp


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.ERROR]


def shop(handler: Any, **options: Any) -> tuple[App, Any]:
    app = App({"name": "shop"})
    options.setdefault("breaker", None)
    return app, app.kafka_consumer(topics=["orders"], name="orders", **options)(handler)


def test_it_is_logged_once_with_consumer_place_reason_and_error(
    dbos_test_app: MakeTestApp, caplog: pytest.LogCaptureFixture
) -> None:
    def on_order(message: KafkaMessage[bytes]) -> None:
        raise ValueError(f"no such order\nat postgresql://me:hush@db/shop, {message.value!r}")

    app, handler = shop(on_order, retries=Retry(max_attempts=3, interval_seconds=1))
    dbos = dbos_test_app(app)
    handle = dbos.deliver(handler, "7", partition=3)
    dbos.run_until_idle()
    for _ in range(3):
        dbos.advance(seconds=60)

    [line] = errors(caplog)
    workflow_id = handle.get_workflow_id()
    said = line.getMessage()
    for part in (
        "orders",
        "attempts-exhausted",
        "quarantine",
        "partition 3, offset 0",
        workflow_id,
        "ValueError",
    ):
        assert part in said
    assert "\n" not in said
    assert "hush" not in said + str(vars(line))
    extra = vars(line)
    assert (extra["consumer"], extra["topic"], extra["partition"], extra["offset"]) == (
        "orders",
        "orders",
        3,
        0,
    )
    assert (extra["workflow_id"], extra["reason"], extra["error_type"]) == (
        workflow_id,
        "attempts-exhausted",
        "ValueError",
    )
    assert extra["quarantined"] is True
    assert extra["error"].startswith("no such order\n")


@pytest.mark.parametrize(
    ("error", "options", "reason", "quarantined"),
    [
        (Quarantine("stale"), {}, "stale", True),
        (ValueError("x"), {"on_failure": "record"}, "handler-failed", False),
    ],
)
def test_its_reason_is_the_one_that_filters_ask_for(
    dbos_test_app: MakeTestApp,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    options: dict[str, Any],
    reason: str,
    quarantined: bool,
) -> None:
    def on_order(_message: KafkaMessage[bytes]) -> None:
        raise error

    app, handler = shop(on_order, **options)
    dbos = dbos_test_app(app)
    dbos.deliver(handler, "7")
    dbos.run_until_idle()

    [line] = errors(caplog)
    assert (vars(line)["reason"], vars(line)["quarantined"]) == (reason, quarantined)


def test_what_cannot_be_decoded_is_told_as_well(
    dbos_test_app: MakeTestApp, caplog: pytest.LogCaptureFixture
) -> None:
    def on_order(_order: dict[str, int]) -> None: ...

    app, handler = shop(on_order)
    dbos = dbos_test_app(app)
    dbos.deliver(handler, b"{no json")
    dbos.run_until_idle()

    [line] = errors(caplog)
    assert vars(line)["reason"] == "undecodable"


def test_an_event_that_ends_well_or_is_tried_again_is_not_told(
    dbos_test_app: MakeTestApp, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = []

    def on_order(message: KafkaMessage[bytes]) -> None:
        attempts.append(message.offset)
        if len(attempts) == 1:
            raise ValueError("once")

    app, handler = shop(on_order, retries=Retry(max_attempts=3, interval_seconds=1))
    dbos = dbos_test_app(app)
    dbos.deliver(handler, "7")
    dbos.run_until_idle()
    dbos.advance(seconds=60)

    assert len(attempts) == 2
    assert errors(caplog) == []


def failure(number: int, consumer: str = "orders", reason: str = "handler-failed") -> FinalFailure:
    return FinalFailure(consumer, "orders", 0, number, f"kafka/{number}", reason, True, ValueError("x"))


def test_many_of_one_consumer_are_counted_by_reason_and_none_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    finals = FinalFailures(lambda: now)
    for number in range(LINES + 5):
        finals.tell(failure(number))
    finals.tell(failure(99, reason="stale"))
    finals.tell(failure(0, consumer="returns"))
    assert len(errors(caplog)) == LINES + 1

    finals.look()
    assert len(errors(caplog)) == LINES + 1
    now = 10.0
    finals.look()
    assert "6 more events have failed for good within 10 s (handler-failed 5, stale 1)" in caplog.messages[-1]
    assert vars(caplog.records[-1])["count"] == 6

    finals.look()
    assert len(errors(caplog)) == LINES + 2
    finals.tell(failure(100))
    assert "offset 100" in caplog.messages[-1]


def test_what_was_only_counted_is_told_when_the_process_stops(caplog: pytest.LogCaptureFixture) -> None:
    finals = FinalFailures(lambda: 0.0)
    for number in range(LINES + 2):
        finals.tell(failure(number))
    finals.look(at_end=True)
    assert "2 more events have failed for good" in caplog.messages[-1]
