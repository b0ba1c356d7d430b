"""A client that cannot be made: the launch goes through, others read, it is asked again, and health says it meanwhile."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from dbos_events import KafkaMessage
from dbos_events.errors import ConfigurationError, ConnectorError
from dbos_events_kafka import client, topics
from dbos_events_kafka.source import KafkaSource
from dbos_events_kafka.state import SourceState
from dbos_events_kafka.testing import EmbeddedBroker
from dbos_events_kafka.tokens import Tokens
from tests.connectors.kafka.consuming import CLASSIC, Consumers, Counting
from tests.connectors.kafka.troubles import Troubles
from tests.faults.waiting import wait_until

OAUTH = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"}


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create_topic("orders")
        broker.produce("orders", b"1")
        yield broker


@pytest.fixture
def apps(database_url: str, embedded: EmbeddedBroker) -> Iterator[Consumers]:
    with Consumers(database_url, embedded.bootstrap_servers) as made:
        yield made


def nothing(message: KafkaMessage) -> None:
    """Nothing is ever delivered to it."""


def expect_failing(*errors: BaseException | Any) -> Callable[[Any], Any]:
    """An `oauth_cb` that raises or gives these in turn, and then a token."""
    left = list(errors)

    def ask(_config: Any) -> Any:
        if left:
            answer = left.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        return "token", time.time() + 600

    ask.left = left  # type: ignore[attr-defined]
    return ask


@pytest.mark.parametrize(
    "answers",
    [[ConnectionError("the provider is down")], [SystemExit(1)], [None, "token"], [("token",)]],
    ids=["raises", "exits", "no-tuple", "no-end"],
)
def test_a_token_that_is_not_there_at_launch_holds_up_no_other_consumer_and_is_asked_for_again(
    answers: list[Any], apps: Consumers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dbos_events_kafka.source.RECONNECT_SECONDS", 0.3)
    seen, troubles = Counting(), Troubles(caplog)
    ask = expect_failing(*answers, ConnectionError("once more"))

    def note(message: KafkaMessage) -> None:
        seen.sync_handler(message)

    app = apps.app()
    apps.declare(app, "elsewhere", nothing, name="guarded", config={**OAUTH, "oauth_cb": ask})
    app.kafka_consumer(
        {"bootstrap.servers": apps.bootstrap, "group.protocol": "classic"}, "orders", name="plain"
    )(app.workflow(name="plain")(note))
    began = time.monotonic()
    apps.launch(app)
    assert time.monotonic() - began < 8, "the launch waited for the token"

    troubles.wait_for(app, "there is no token to log in with; oauth_cb failed")
    wait_until(lambda: seen.total == 1, "the other consumer does not read")
    wait_until(lambda: not ask.left, "the token was not asked for again")  # type: ignore[attr-defined]
    wait_until(lambda: "oauth_cb failed" not in troubles.problem(app), "the health says so still", seconds=20)


def test_a_token_is_asked_for_once_for_clients_that_are_made_together_and_anew_before_it_ends() -> None:
    asked: list[Any] = []

    def ask(config: Any) -> tuple[str, float]:
        asked.append(config)
        return f"token {len(asked)}", 1e12

    tokens = Tokens(ask, "a=b", SourceState("consumer"))
    tokens.prepare()
    tokens.prepare()
    assert asked == ["a=b"]
    assert tokens("a=b") == ("token 1", 1e12)
    assert tokens("a=b") == ("token 2", 1e12)


def test_a_token_that_fails_while_the_client_reads_is_told_until_there_is_one_again() -> None:
    state = SourceState("consumer")
    tokens = Tokens(expect_failing(KeyboardInterrupt()), None, state)
    with pytest.raises(ConnectorError, match="KeyboardInterrupt"):
        tokens(None)
    assert "oauth_cb failed and is called again" in state.detail
    tokens(None)
    assert "oauth_cb" not in state.detail


CANNOT_BE_MADE: list[BaseException] = [
    OSError(24, "Too many open files"),
    KafkaException(KafkaError(KafkaError._CRIT_SYS_RESOURCE, "cannot create a thread")),
    KafkaException(KafkaError(KafkaError._INVALID_ARG, "ssl.ca.location failed: no such file")),
    RuntimeError("unforeseen"),
    MemoryError(),
]


@pytest.mark.parametrize(
    "error", CANNOT_BE_MADE, ids=["files", "threads", "certificate", "runtime", "memory"]
)
@pytest.mark.parametrize("when", ["first", "anew"])
def test_a_client_that_cannot_be_made_is_tried_again(
    when: str,
    error: BaseException,
    apps: Consumers,
    embedded: EmbeddedBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("dbos_events_kafka.source.RECONNECT_SECONDS", 0.3)
    failing: list[BaseException] = []

    def make(settings: dict[str, Any], **more: Any) -> Consumer:
        if failing and settings["bootstrap.servers"]:
            raise failing.pop()
        return Consumer(settings, **more)

    monkeypatch.setattr(client, "Consumer", make)
    seen, troubles = Counting(), Troubles(caplog)
    if when == "first":
        failing += [error] * 3
    app = apps.start("orders", seen.sync_handler, config={"group.protocol": "classic", **CLASSIC})
    if when == "anew":
        wait_until(lambda: seen.total == 1, "it does not read")
        failing += [error] * 3
        (source,) = app.launched.sources
        assert isinstance(source, KafkaSource)
        source._commands.renew()

    wait_until(lambda: not failing, "the client is not made again")
    embedded.produce("orders", b"2")
    wait_until(lambda: seen.total == 2, "it does not read on")
    assert [text for text in troubles.warnings if "the Kafka client cannot be made now" in text]
    troubles.wait_ready(app)


def test_questions_wait_for_their_client_too(
    apps: Consumers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = [OSError(24, "Too many open files"), RuntimeError("unforeseen"), MemoryError()]

    def make(settings: dict[str, Any]) -> Any:
        if left:
            raise left.pop()
        return AdminClient(settings)

    monkeypatch.setattr(topics, "AdminClient", make)
    seen, troubles = Counting(), Troubles(caplog)
    app = apps.start("orders", seen.sync_handler, config={"group.protocol": "classic", **CLASSIC})
    wait_until(lambda: seen.total == 1, f"it does not read: {app.health()}")
    assert left == []
    troubles.wait_ready(app)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}, "sasl.username"),
        ({"no.such.setting": 1}, "no.such.setting"),
        ({"oauth_cb": "not a function"}, "oauth_cb must be a function"),
    ],
    ids=["password", "name", "callback"],
)
def test_what_the_client_refuses_for_good_is_refused_at_launch_still(
    config: dict[str, Any], said: str, apps: Consumers
) -> None:
    app = apps.app()
    apps.declare(app, "orders", nothing, config=config)
    with pytest.raises(ConfigurationError, match=said):
        app.launch()
