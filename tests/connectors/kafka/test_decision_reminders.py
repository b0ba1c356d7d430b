"""What waits for an operator's decision is said once as an error, then recalled at growing intervals, without a count."""

import logging
from types import SimpleNamespace

import pytest

from dbos_events.errors import ClusterChanged
from tests.connectors.kafka.test_positioning import ORDERS, OTHER, Positioned

DAY = 86_400


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time by which what recurs is said, moved by the test."""
    clock = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("dbos_events.telemetry.log.time", SimpleNamespace(monotonic=lambda: clock.seconds))
    return clock


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[tuple[str, str]]:
    return [(one.levelname, one.getMessage()) for one in caplog.records if words in one.getMessage()]


def test_a_halt_is_an_error_and_recalled_without_a_count(
    now: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    positioned = Positioned()
    positioned.intake.halted = lambda _incarnation: frozenset({0})  # type: ignore[attr-defined]
    positioned.topics.ends["orders"] = 3
    positioned.assign(ORDERS)
    for _ in range(100):
        positioned.positions.look_at_halts()
    [first] = said(caplog, "halted")
    assert first[0] == "ERROR"
    assert "orders[0] is halted: the watermark 5 lies beyond the end" in first[1]

    for _ in range(DAY):
        now.seconds += 1
        positioned.positions.look_at_halts()
    recalled = said(caplog, "halted")
    assert set(recalled) == {first}
    assert DAY / 300 <= len(recalled) <= DAY / 300 + 10


def test_a_halt_that_was_decided_about_is_not_recalled(
    now: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    positioned = Positioned()
    positioned.intake.halted = lambda _incarnation: frozenset()  # type: ignore[attr-defined]
    positioned.topics.ends["orders"] = 3
    positioned.assign(ORDERS)
    now.seconds += DAY
    positioned.positions.look_at_halts()
    assert len(said(caplog, "is halted")) == 1
    assert positioned.state.detail == ""


def test_another_cluster_is_an_error_once(now: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    positioned = Positioned()
    positioned.topics.broken = ClusterChanged("the brokers are another cluster's")
    positioned.assign(ORDERS, OTHER)
    for _ in range(3):
        positioned.positions.again([OTHER])
        positioned.positions.topic_changed("bills")
        positioned.positions.position()
    assert said(caplog, "another cluster") == [("ERROR", "consumer: the brokers are another cluster's")]
    assert now.seconds == 1000


def test_what_is_over_by_itself_is_a_warning_with_a_count(
    now: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dbos_events")
    state = Positioned().state
    for _ in range(3):
        state.trouble("no broker answers", "cluster")
    now.seconds += DAY
    state.trouble("no broker answers", "cluster")
    assert said(caplog, "no broker") == [
        ("WARNING", "consumer: no broker answers"),
        ("WARNING", "consumer: no broker answers (2 more like it since)"),
    ]
