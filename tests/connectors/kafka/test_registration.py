"""What is refused when a consumer is declared or launched, and what the error says to do (P10, rule 9)."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dbos_events import KafkaMessage
from dbos_events.app import App
from dbos_events.errors import ConfigurationError, DBOSInitializationError, RegistrationError
from dbos_events_kafka.testing import EmbeddedBroker
from tests.connectors.kafka.consuming import PROTOCOLS, Consumers
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

SOMEWHERE = {"bootstrap.servers": "127.0.0.1:1"}
LAUNCH_SECONDS = 20.0
"""A launch that is refused does not wait for a broker."""


def handler(message: KafkaMessage) -> None:
    """Nothing is ever delivered to it unless a test says so."""


@pytest.fixture
def app() -> App:
    return App({"name": "rules"})


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("orders")
        yield broker


def declare(app: App, config: dict[str, Any] | None = None, topics: Any = "orders", **options: Any) -> None:
    app.kafka_consumer(config if config is not None else SOMEWHERE, topics, **options)(handler)


# -- the declaration --------------------------------------------------------------------------


def test_a_bare_string_is_one_topic(app: App) -> None:
    declare(app, topics="orders")
    assert app.consumers[0].options.topics == ("orders",)


def test_a_consumer_is_called_after_its_handler(app: App) -> None:
    declare(app)
    assert app.consumers[0].options.name == handler.__qualname__


def test_a_consumer_without_a_topic_is_refused(app: App) -> None:
    with pytest.raises(RegistrationError, match="names no topic"):
        declare(app, topics=())


@pytest.mark.parametrize(
    ("options", "named", "instead"),
    [
        ({"ordering": "partition", "ordering_key": handler}, "ordering_key", "ordering='key'"),
        ({"ordering": "key", "in_order": True}, "in_order", "ordering='topic'"),
        ({"strict_key_order": True}, "strict_key_order", "ordering='key'"),
        ({"on_regression": "skip"}, "on_regression", "'replay' or 'halt'"),
        ({"ordering": "sideways"}, "sideways", "partition"),
        ({"ordering": "partition", "queue_name": "slow"}, "queue_name", "ordering='none'"),
        ({"on_failure": "retry"}, "retry", "'quarantine' or 'record'"),
        ({"batch_size": 0}, "batch_size", "at least 1"),
        ({"max_in_flight": 0}, "max_in_flight", "at least 1"),
    ],
)
def test_an_option_that_cannot_be_had_is_refused(
    app: App, options: dict[str, Any], named: str, instead: str
) -> None:
    with pytest.raises(RegistrationError) as refused:
        declare(app, **options)
    assert named in refused.value.message
    assert instead in refused.value.message
    assert app.consumers == []


def test_a_pattern_that_cannot_be_read_is_refused(app: App) -> None:
    with pytest.raises(RegistrationError, match="pattern"):
        declare(app, topics="^orders-(")


def takes_nothing() -> None:
    pass


def takes_two(message: KafkaMessage, more: int) -> None:
    pass


def takes_a_keyword(*, message: KafkaMessage) -> None:
    pass


async def takes_nothing_async() -> None:
    pass


@pytest.mark.parametrize("function", [takes_nothing, takes_two, takes_a_keyword, takes_nothing_async])
def test_a_handler_takes_one_argument(app: App, function: Callable[..., Any]) -> None:
    with pytest.raises(RegistrationError, match="must take one argument, the message"):
        app.kafka_consumer(SOMEWHERE, "orders")(function)


def test_a_workflow_of_another_app_is_no_handler(app: App) -> None:
    of_another = App({"name": "other"}).workflow()(handler)
    with pytest.raises(RegistrationError, match="another App"):
        app.kafka_consumer(SOMEWHERE, "orders")(of_another)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"enable.auto.commit": True}, "only after the database has the events"),
        ({"enable.auto.commit": "true"}, "only after the database has the events"),
        ({"enable.auto.offset.store": True}, "only after the database has the events"),
        ({"auto.offset.reset": "error"}, "'earliest' or 'latest'"),
        ({"auto.offset.reset": "none"}, "'earliest' or 'latest'"),
    ],
    ids=str,
)
def test_a_client_setting_that_breaks_a_promise_is_refused_with_the_reason(
    app: App, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        declare(app, {**SOMEWHERE, **config})
    assert reason in refused.value.message
    assert next(iter(config)) in refused.value.message
    assert app.consumers == []


def test_two_consumers_of_one_name_are_refused(app: App) -> None:
    app.kafka_consumer(SOMEWHERE, "orders", name="one")(handler)
    with pytest.raises(RegistrationError, match=r"'one'.*name="):
        app.kafka_consumer(SOMEWHERE, "returns", name="one")(app.workflow(name="other")(takes_any))


def takes_any(message: Any) -> None:
    pass


# -- the launch -------------------------------------------------------------------------------


def refused_launch(app: App) -> str:
    """What the launch raises; it comes at once, and leaves nothing behind that runs."""
    began = time.monotonic()
    with pytest.raises(DBOSInitializationError) as refused:
        app.launch()
    assert time.monotonic() - began < LAUNCH_SECONDS
    assert not app.is_launched
    return refused.value.message


def test_a_consumer_that_names_no_broker_is_refused_at_launch(local: Consumers) -> None:
    app = local.app()
    declare(app, {})
    message = refused_launch(app)
    assert "bootstrap.servers" in message
    assert "DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS" in message


def test_a_client_setting_that_nobody_knows_is_refused_at_launch(local: Consumers) -> None:
    app = local.app()
    local.declare(app, "orders", handler, config={"fetch.wiat.max.ms": 10})
    message = refused_launch(app)
    assert "fetch.wiat.max.ms" in message
    assert "'consumer'" in message


def test_a_setting_of_the_environment_that_breaks_a_promise_is_refused_at_launch(
    local: Consumers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS_EVENTS_KAFKA__ENABLE_AUTO_COMMIT", "true")
    app = local.app()
    local.declare(app, "orders", handler)
    assert "only after the database has the events" in refused_launch(app)


def test_a_consumer_that_is_declared_after_the_launch_is_refused(local: Consumers) -> None:
    app = local.launch(local.app())
    with pytest.raises(DBOSInitializationError, match=r"before DBOS\.launch"):
        declare(app)


def test_a_second_consumer_of_one_topic_in_one_group_is_refused_at_launch(
    local: Consumers, migrated_sqlite: str
) -> None:
    app = local.app()
    local.declare(app, ["orders", "returns"], handler, name="one", config={"group.id": "shared"})
    decorate = app.kafka_consumer(
        {"bootstrap.servers": local.bootstrap, "group.id": "shared"}, ["orders"], name="two"
    )
    decorate(app.workflow(name="another handler")(takes_any))

    message = refused_launch(app)

    assert "'one'" in message
    assert "'two'" in message
    assert "orders" in message
    assert "another group.id" in message
    assert [name for (name,) in Rows(migrated_sqlite).query("SELECT name FROM consumers")] == ["one"]


def test_a_second_consumer_of_the_topic_in_a_group_of_its_own_reads_it_all(
    local: Consumers, migrated_sqlite: str, embedded: EmbeddedBroker
) -> None:
    app = local.app()
    local.declare(app, "orders", handler, name="one", config={"group.id": "first"})
    config = {"bootstrap.servers": local.bootstrap, **PROTOCOLS["broker-assigned"], "group.id": "second"}
    app.kafka_consumer(config, "orders", name="two")(app.workflow(name="another handler")(takes_any))
    local.launch(app)
    embedded.produce("orders", "a", "b")

    wait_until(lambda: Rows(migrated_sqlite).succeeded() == 4, "not both have read both records")


def test_a_consumer_whose_group_changed_is_refused_at_launch(
    local: Consumers, migrated_sqlite: str, embedded: EmbeddedBroker
) -> None:
    embedded.produce("orders", "a")
    first = local.start("orders", handler, config={"group.id": "before"})
    wait_until(lambda: Rows(migrated_sqlite).succeeded() == 1, "the event has not run")
    first.destroy()
    second = local.app()
    local.declare(second, "orders", handler, config={"group.id": "after"})

    message = refused_launch(second)

    assert "'before'" in message
    assert "'after'" in message
    assert "Keep group.id" in message
    assert Rows(migrated_sqlite).statuses() == {"SUCCESS": 1}
    assert Rows(migrated_sqlite).one("SELECT group_id FROM consumers") == "before"


def test_the_environment_comes_below_the_consumers_own_config(
    local: Consumers, migrated_sqlite: str, embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS", embedded.bootstrap_servers)
    monkeypatch.setenv("DBOS_EVENTS_KAFKA__GROUP_ID", "of the environment")
    monkeypatch.setenv("DBOS_EVENTS_KAFKA__GROUP_PROTOCOL", "consumer")
    app = local.app()
    declare(app, {}, name="one")
    app.kafka_consumer({"group.id": "its own"}, "orders", name="two")(app.workflow(name="other")(takes_any))
    local.launch(app)
    embedded.produce("orders", "a")

    rows = Rows(migrated_sqlite)
    wait_until(lambda: rows.succeeded() == 2, "the event has not run")
    groups = dict(rows.query("SELECT name, group_id FROM consumers"))
    assert groups == {"one": "of the environment", "two": "its own"}
    stored = json.loads(rows.one("SELECT settings FROM consumers WHERE name = 'one'"))
    assert stored["group.protocol"] == "consumer"


def test_secrets_reach_neither_the_database_nor_the_log(
    local: Consumers, migrated_sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {
        "sasl.password": "first-of-all-secrets",
        "ssl.key.password": "second-of-all-secrets",
        "sasl.oauthbearer.client.secret": "third-of-all-secrets",
    }
    config = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "reader"}
    app = local.start("orders", handler, config={**config, **secrets})
    wait_until(lambda: any("connecting" not in problem for problem in app.health().problems), "no error yet")
    app.destroy()

    rows = Rows(migrated_sqlite)
    stored = json.loads(rows.one("SELECT settings FROM consumers"))
    assert {stored[key] for key in secrets} == {"***"}
    assert stored["sasl.username"] == "reader"
    everything = [*caplog.messages, rows.one("SELECT settings FROM consumers"), repr(app.consumers)]
    assert [text for text in everything if "of-all-secrets" in text] == []
