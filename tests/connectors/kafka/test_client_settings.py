"""Settings of the Kafka client: refused with the reason, warned of, or passed on (docs/kafka.md)."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from dbos_events import KafkaMessage
from dbos_events.app import App
from dbos_events.errors import ConfigurationError, DBOSInitializationError
from dbos_events_kafka.masking import Mask
from dbos_events_kafka.testing import EmbeddedBroker
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.connectors.kafka.troubles import Troubles
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

SOMEWHERE = {"bootstrap.servers": "127.0.0.1:1"}


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("orders")
        yield broker


def wait_run(stored: Rows, count: int) -> None:
    wait_until(lambda: stored.succeeded() == count, "records are missing")


def handler(message: KafkaMessage) -> None:
    """Nothing is ever delivered to it."""


# -- refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"enable.auto.commit": True}, "only after the database has the events"),
        ({"auto.commit.enable": "true"}, "only after the database has the events"),
        ({"enable.auto.offset.store": 1}, "only after the database has the events"),
        ({"auto.offset.reset": "none"}, "'earliest' or 'latest'"),
        ({"isolation.level": "read_uncommitted"}, "aborted"),
        ({"isolation.level": "READ_UNCOMMITTED"}, "aborted"),
        (
            {"partition.assignment.strategy": "cooperative-sticky,range"},
            "stop all processes of the group first",
        ),
        ({"max.poll.interval.ms": 9999}, "at least 10000"),
        ({"max.poll.interval.ms": "6000"}, "Handlers may take longer"),
        ({"enabled_events": 64}, "errors and rebalances"),
        ({"test.mock.num.brokers": 3}, "EmbeddedBroker"),
    ],
    ids=str,
)
def test_a_setting_that_breaks_a_promise_is_refused_where_it_is_declared(
    config: dict[str, Any], reason: str
) -> None:
    app = App({"name": "rules"})
    with pytest.raises(ConfigurationError) as refused:
        app.kafka_consumer({**SOMEWHERE, **config}, "orders")(handler)
    assert reason in refused.value.message
    assert next(iter(config)) in refused.value.message
    assert app.consumers == []


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("ISOLATION_LEVEL", "read_uncommitted", "aborted"),
        ("MAX_POLL_INTERVAL_MS", "1000", "at least 10000"),
        ("ENABLED_EVENTS", "64", "errors and rebalances"),
    ],
)
def test_the_same_goes_for_the_environment(
    variable: str, value: str, reason: str, local: Consumers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DBOS_EVENTS_KAFKA__{variable}", value)
    app = local.app()
    local.declare(app, "orders", handler)
    with pytest.raises(DBOSInitializationError, match=reason):
        app.launch()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"fetch.wiat.max.ms": 1}, "fetch.wiat.max.ms"),
        ({"group.protocol": "sideways"}, "group.protocol"),
        ({"session.timeout.ms": "soon"}, "session.timeout.ms"),
        ({"error_cb": "not a function"}, "error_cb must be a function, not str"),
        ({"fetch.max.bytes": 100, "message.max.bytes": 2000}, "fetch.max.bytes"),
        ({"reconnect.backoff.ms": 900, "reconnect.backoff.max.ms": 100}, "reconnect.backoff"),
    ],
    ids=str,
)
def test_what_the_client_refuses_ends_the_launch_with_its_reason(
    config: dict[str, Any], named: str, local: Consumers
) -> None:
    app = local.app()
    local.declare(app, "orders", handler, config={"group.protocol": "classic", **config})
    with pytest.raises(DBOSInitializationError) as refused:
        app.launch()
    assert "'consumer'" in refused.value.message
    assert named in refused.value.message


# -- warned of --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"auto.commit.interval.ms": 100}, "auto.commit.interval.ms has no effect"),
        ({"offset.store.method": "broker"}, "offset.store.method has no effect"),
        ({"check.crcs": False}, "damaged on their way reach the handler"),
        ({"allow.auto.create.topics": True}, "misspelt is created"),
        ({"session.timeout.ms": 6000}, "session.timeout.ms has no effect: with group.protocol=consumer"),
        ({"partition.assignment.strategy": "range"}, "partition.assignment.strategy has no effect"),
    ],
    ids=str,
)
def test_what_is_allowed_and_probably_not_meant_is_said_once(
    config: dict[str, Any],
    said: str,
    local: Consumers,
    embedded: EmbeddedBroker,
    stored: Rows,
    troubles: Troubles,
) -> None:
    embedded.produce("orders", "a")
    local.start("orders", Counting().sync_handler, config=config)
    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    assert len([warning for warning in troubles.warnings if said in warning]) == 1, troubles.warnings


# -- passed on --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"enable.partition.eof": True},
        {"group.id": ""},
        {"default.topic.config": {"auto.offset.reset": "earliest"}},
        {"message.max.bytes": 20_000_000},
        {"receive.message.max.bytes": 1_500_000},
        {"receive.message.max.bytes": 30_000_000, "message.max.bytes": 20_000_000},
        {"reconnect.backoff.max.ms": 50},
        {"isolation.level": "read_committed"},
        {"max.poll.interval.ms": 10_000},
        {"statistics.interval.ms": 50},
        {"debug": "consumer,security"},
        {"log_level": 0},
        {"client.rack": "a", "client.id": "mine"},
        {"partition.assignment.strategy": "roundrobin,range", "group.protocol": "classic"},
        {"group.protocol": "CONSUMER"},
        {"enable.metrics.push": False},
    ],
    ids=str,
)
def test_what_breaks_nothing_is_passed_on(
    config: dict[str, Any], local: Consumers, embedded: EmbeddedBroker, stored: Rows, troubles: Troubles
) -> None:
    embedded.produce("orders", "a")
    app = local.start("orders", Counting().sync_handler, config=config)
    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    troubles.wait_ready(app)
    assert troubles.warnings == []
    assert stored.one("SELECT group_id FROM consumers") == "rules.consumer"


def test_a_start_that_is_nested_as_topic_config_counts(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows
) -> None:
    embedded.produce("orders", "a")
    config = {"default.topic.config": {"auto.offset.reset": "latest"}}
    local.start("orders", Counting().sync_handler, config=config)
    wait_until(lambda: stored.watermarks() == {0: 1}, "it does not begin at the end")


# -- callbacks of the user --------------------------------------------------------------------


def test_callbacks_and_logger_of_the_user_are_called_beside_ours(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows, troubles: Troubles
) -> None:
    errors: list[str] = []
    statistics: list[str] = []
    commits: list[Any] = []
    lines: list[logging.LogRecord] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record)

    own = logging.getLogger("of the user")
    own.addHandler(Lines())
    own.propagate = False
    config = {
        "error_cb": lambda error: errors.append(error.name()),
        "stats_cb": statistics.append,
        "on_commit": lambda error, places: commits.append((error, places)),
        "logger": own,
        "statistics.interval.ms": 50,
        "reconnect.backoff.max.ms": 200,
    }
    embedded.produce("orders", "a")
    app = local.start("orders", Counting().sync_handler, config=config)
    wait_until(lambda: stored.succeeded() == 1, "the event has not run")
    wait_until(lambda: commits, "on_commit is not called")
    wait_until(lambda: statistics, "stats_cb is not called")
    assert json.loads(statistics[0])["type"] == "consumer"

    embedded.set_down()
    troubles.wait_for(app, "no broker answers")
    wait_until(lambda: "_ALL_BROKERS_DOWN" in errors, "error_cb is not called")
    wait_until(lambda: lines, "the logger is not called")


def test_a_callback_that_raises_costs_no_record(
    local: Consumers, embedded: EmbeddedBroker, stored: Rows, troubles: Troubles
) -> None:
    def bad(*arguments: object) -> None:
        raise ValueError("out of a callback")

    counting = Counting()
    config = {"stats_cb": bad, "on_commit": bad, "error_cb": bad, "statistics.interval.ms": 1}
    local.start("orders", counting.sync_handler, config=config)
    for number in range(20):
        embedded.produce("orders", *[f"{number}"] * 50)
        wait_run(stored, 50 * number + 50)

    assert set(counting.executions.values()) == {1}
    assert stored.gaps() == []
    # Once; and where this took longer than ten seconds, again.
    first, *again = [one for one in troubles.warnings if "stats_cb of the Kafka client raised" in one]
    assert "more like it" not in first
    assert len(again) <= 3


# -- secrets ----------------------------------------------------------------------------------


def test_secrets_are_taken_out_of_any_text() -> None:
    mask = Mask(
        {
            "sasl.password": "hunter22",
            "ssl.key.pem": "-----KEY-----",
            "sasl.username": "me",
            "ssl.key.password": "",
        }
    )
    assert mask("the user me has hunter22 and -----KEY-----") == "the user me has *** and ***"


def test_a_value_that_the_client_refuses_does_not_show_its_secrets(local: Consumers) -> None:
    secrets = {"ssl.key.pem": "first-of-all-secrets", "sasl.password": "second-of-all-secrets"}
    app = local.app()
    config = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "me", **secrets}
    local.declare(app, "orders", handler, config=config)
    with pytest.raises(DBOSInitializationError) as refused:
        app.launch()
    error: BaseException | None = refused.value
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error}")
        error = error.__cause__ or error.__context__
    assert "ssl.key.pem" in texts[0]
    assert [text for text in texts if "of-all-secrets" in text] == []
