"""Users, rights and certificates that are wrong: said once and clearly, waited for calmly, gone on with by itself."""

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin._acl import AclOperation
from confluent_kafka.admin._resource import ResourceType

from tests.conftest import unique_name
from tests.connectors.kafka.consuming import CLASSIC, Consumers, Counting
from tests.connectors.kafka.troubles import Troubles
from tests.faults.broker import Broker
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until
from tests.servers.kafka import create_topic
from tests.servers.kafka_secure import PLAIN_PASSWORD, PLAIN_USER, SecureKafkaServer

TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
QUICK = {"reconnect.backoff.max.ms": 300}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "classic": {"group.protocol": "classic", **CLASSIC},
    "broker-assigned": {"group.protocol": "consumer"},
}


class World:
    """A user, a topic with one record and a consumer group of the test's own on the secure broker."""

    def __init__(self, server: SecureKafkaServer, consumers: Consumers) -> None:
        self.server = server
        self.consumers = consumers
        self.user = unique_name("reader")
        self.password = unique_name("password")
        self.topic = unique_name("orders")
        self.group = unique_name("group")
        server.set_password(self.user, self.password)
        create_topic(server.bootstrap, self.topic)
        self.produce("first")

    def produce(self, value: str) -> None:
        Broker(self.server.bootstrap).produce(self.topic, [value])

    def allow_all(self) -> None:
        self.server.allow(self.user, TOPIC, self.topic)
        self.server.allow(self.user, GROUP, self.group)

    def config(self, protocol: str = "broker-assigned", **more: Any) -> dict[str, Any]:
        """Client settings of this user; `_` stands for `.`."""
        dotted = {key.replace("_", "."): value for key, value in more.items()}
        return {
            "bootstrap.servers": self.server.sasl,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": self.user,
            "sasl.password": self.password,
            "group.id": self.group,
            **QUICK,
            **PROTOCOLS[protocol],
            **dotted,
        }


@pytest.fixture
def world(secure_kafka: SecureKafkaServer, migrated_sqlite: str) -> Iterator[World]:
    with Consumers(migrated_sqlite, secure_kafka.sasl) as consumers:
        yield World(secure_kafka, consumers)


def start(world: World, config: dict[str, Any]) -> Any:
    return world.consumers.start(world.topic, Counting().sync_handler, config=config)


def wait_run(stored: Rows, count: int = 1) -> None:
    wait_until(lambda: stored.succeeded() == count, "the event has not run")


# -- who we are -------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_password_that_is_wrong_is_waited_for_until_the_broker_knows_it(
    protocol: str, world: World, stored: Rows, troubles: Troubles
) -> None:
    world.allow_all()
    app = start(world, world.config(protocol, sasl_password="the-new-password"))
    said = "the broker refuses our credentials; check the sasl settings"
    troubles.wait_for(app, said)
    assert troubles.wait_for_line(app, said).state == "waiting"
    troubles.assert_calm(app, said)

    world.server.set_password(world.user, "the-new-password")

    wait_run(stored)
    troubles.wait_ready(app)
    assert troubles.idle(app) == []
    assert len(troubles.mended) == 1


def test_a_user_of_the_plain_mechanism_reads(world: World, stored: Rows) -> None:
    world.server.allow(PLAIN_USER, TOPIC, world.topic)
    world.server.allow(PLAIN_USER, GROUP, world.group)
    login = {"sasl.mechanism": "PLAIN", "sasl.username": PLAIN_USER, "sasl.password": PLAIN_PASSWORD}
    start(world, {**world.config(), **login})
    wait_run(stored)


# -- what we may ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("has", ["nothing", "describe"])
def test_a_right_to_the_topic_is_waited_for(
    has: str, protocol: str, world: World, stored: Rows, troubles: Troubles
) -> None:
    world.server.allow(world.user, GROUP, world.group)
    if has == "describe":
        world.server.allow(world.user, TOPIC, world.topic, AclOperation.DESCRIBE)
    app = start(world, world.config(protocol))
    said = f"no right to read the topic {world.topic}; grant the user '{world.user}' Read on it"
    troubles.wait_for(app, said)
    troubles.assert_calm(app, said)

    world.server.allow(world.user, TOPIC, world.topic)

    wait_run(stored)
    troubles.wait_ready(app)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_right_to_the_group_is_waited_for(
    protocol: str, world: World, stored: Rows, troubles: Troubles
) -> None:
    world.server.allow(world.user, TOPIC, world.topic)
    app = start(world, world.config(protocol))
    said = "no right to use the group; grant Read on it"
    troubles.wait_for(app, said)
    assert troubles.wait_for_line(app, said).group == world.group
    troubles.assert_calm(app, said)

    world.server.allow(world.user, GROUP, world.group)

    wait_run(stored)
    troubles.wait_ready(app)


@pytest.mark.parametrize("kind", ["topic", "group"])
def test_a_right_that_is_taken_away_in_the_middle_is_named_and_waited_for(
    kind: str, world: World, stored: Rows, troubles: Troubles
) -> None:
    world.allow_all()
    app = start(world, world.config())
    wait_run(stored)
    where = (TOPIC, world.topic) if kind == "topic" else (GROUP, world.group)

    world.server.forbid(world.user, *where)
    world.produce("second")
    troubles.wait_for(app, "no right to")
    troubles.assert_calm(app, "no right to")
    world.server.allow(world.user, *where)

    wait_run(stored, 2)
    troubles.wait_ready(app)


# -- which port, which certificate ------------------------------------------------------------


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown authority": ("tls", {"security.protocol": "SSL"}, "the broker's certificate is not trusted"),
    "no TLS on a TLS port": ("tls", {}, "the broker hangs up at once; check security.protocol and the port"),
    "TLS on a port without": ("bootstrap", {"security.protocol": "SSL"}, "TLS with the broker fails"),
    "no login on a port with": (
        "sasl",
        {},
        "the broker hangs up at once; check security.protocol and the port",
    ),
    "login on a port without": (
        "bootstrap",
        {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "me",
            "sasl.password": "my-password",
        },
        "check sasl.mechanism and the port",
    ),
    "another mechanism": (
        "sasl",
        {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "me",
            "sasl.password": "my-password",
        },
        "the broker does not have our way to log in",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_the_port_is_named(case: str, world: World, troubles: Troubles) -> None:
    port, config, said = WRONG[case]
    app = start(world, {"bootstrap.servers": getattr(world.server, port), **config})
    troubles.wait_for(app, said)
    troubles.wait_for_line(app, said)
    troubles.assert_calm(app, said)


def test_a_certificate_of_a_known_authority_is_accepted(
    world: World, stored: Rows, troubles: Troubles
) -> None:
    tls = {"security.protocol": "SSL", "ssl.ca.location": str(world.server.authority)}
    app = start(world, {"bootstrap.servers": world.server.tls, **tls})
    wait_run(stored)
    troubles.wait_ready(app)
    assert troubles.warnings == []
