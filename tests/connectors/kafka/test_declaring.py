"""What a consumer may not be asked for is refused, with what is wrong and what to do."""

from typing import Any

import pytest

from dbos_events import KafkaMessage
from dbos_events.app import App
from dbos_events.errors import ConfigurationError, DBOSException, RegistrationError
from dbos_events.model.event import Retry
from tests.conftest import TopicFactory
from tests.connectors.kafka.consuming import Consumers, Counting

NOWHERE = {"bootstrap.servers": "127.0.0.1:1"}


def nothing(message: KafkaMessage) -> None:
    """A handler."""


def refused(config: dict[str, Any] | None = None, topics: Any = "orders", **options: Any) -> str:
    with pytest.raises(DBOSException) as caught:
        App({"name": "refusals"}).kafka_consumer(config or NOWHERE, topics, **options)(nothing)
    return str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        {"enable.auto.commit": True},
        {"enable.auto.commit": "true"},
        {"enable.auto.offset.store": True},
        {"auto.offset.reset": "none"},
        {"auto.offset.reset": "error"},
    ],
    ids=str,
)
def test_a_setting_that_breaks_a_promise_is_refused_by_its_name(setting: dict[str, Any]) -> None:
    assert next(iter(setting)) in refused({**NOWHERE, **setting})


@pytest.mark.parametrize(
    "options",
    [
        {"ordering": "key"},
        {"ordering": "topic"},
        {"in_order": True},
        {"ordering_key": lambda message: message.key},
        {"when": lambda _: True},
        {"retries": Retry(3)},
        {"on_regression": "halt"},
        {"strict_key_order": True},
    ],
    ids=lambda options: (
        "-".join(f"{name}={value}" for name, value in options.items() if type(value) is str)
        or next(iter(options))
    ),
)
def test_an_option_of_a_later_release_is_refused_by_its_name(options: dict[str, Any]) -> None:
    message = refused(**options)
    assert "release" in message
    name = "ordering" if "in_order" in options else next(iter(options))
    assert name in message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"topics": ()}, "topic"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"on_failure": "ignore"}, "on_failure"),
        ({"ordering": "random"}, "ordering"),
        ({"ordering": "partition", "queue_name": "q"}, "queue_name"),
    ],
)
def test_an_option_without_sense_is_refused_by_its_name(options: dict[str, Any], named: str) -> None:
    assert named in refused(**options)


def test_a_handler_must_take_the_message() -> None:
    with pytest.raises(RegistrationError, match="one argument"):
        App({"name": "refusals"}).kafka_consumer(NOWHERE, "orders")(lambda: None)


def test_a_consumer_without_a_broker_is_refused_at_launch(sqlite_url: str) -> None:
    app = App({"name": "refusals", "system_database_url": sqlite_url})
    app.kafka_consumer(None, "orders", name="orders")(nothing)
    with pytest.raises(ConfigurationError, match="names no broker"):
        app.launch()
    assert not app.is_launched


def test_a_setting_that_the_client_does_not_know_is_refused_at_launch(sqlite_url: str) -> None:
    app = App({"name": "refusals", "system_database_url": sqlite_url})
    app.kafka_consumer({**NOWHERE, "no.such.setting": 1}, "orders", name="orders")(nothing)
    with pytest.raises(ConfigurationError, match=r"no\.such\.setting"):
        app.launch()
    assert not app.is_launched


def test_two_consumers_of_one_group_and_topic_are_refused_at_launch(
    kafka_topic: TopicFactory, consumers: Consumers
) -> None:
    topic = kafka_topic()
    app = consumers.app()
    for name in ("first", "second"):
        consumers.declare(app, topic, Counting().sync_handler, name=name, config={"group.id": "shared"})
    with pytest.raises(RegistrationError, match=f"(?s)'first' and 'second'.*{topic}.*'shared'"):
        app.launch()
    assert not app.is_launched


def test_a_second_consumer_of_another_process_is_refused_at_launch(
    kafka_topic: TopicFactory, consumers: Consumers
) -> None:
    topic = kafka_topic()
    consumers.start(topic, Counting().sync_handler, name="first", config={"group.id": "shared"})
    with pytest.raises(RegistrationError, match="'first' and 'second'"):
        consumers.start(topic, Counting().sync_handler, name="second", config={"group.id": "shared"})


def test_two_consumers_of_one_topic_in_groups_of_their_own_are_welcome(
    kafka_topic: TopicFactory, consumers: Consumers
) -> None:
    topic = kafka_topic()
    app = consumers.app()
    for name in ("first", "second"):
        consumers.declare(app, topic, Counting().sync_handler, name=name)
    consumers.launch(app)
    assert [source.name for source in app.launched.sources] == ["first", "second"]


def test_a_consumer_whose_group_changed_is_refused_at_launch(
    kafka_topic: TopicFactory, consumers: Consumers
) -> None:
    topic = kafka_topic()
    consumers.start(topic, Counting().sync_handler, config={"group.id": "old"}).destroy()
    with pytest.raises(RegistrationError, match=r"(?s)'old'.*'new'"):
        consumers.start(topic, Counting().sync_handler, config={"group.id": "new"})


def test_secrets_are_not_stored_with_the_consumer(
    kafka_topic: TopicFactory, consumers: Consumers, postgres_url: str
) -> None:
    from tests.faults.rows import Rows

    consumers.start(
        kafka_topic(), Counting().sync_handler, config={"sasl.password": "secret-word", "client.id": "me"}
    )
    settings = Rows(postgres_url).one("SELECT settings FROM {t}consumers")
    assert "secret-word" not in settings
    assert "client.id" in settings
