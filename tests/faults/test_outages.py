"""Servers go away and come back: no event is lost, nothing spins meanwhile, nobody has to help.

`DBOS_EVENTS_OUTAGE_SECONDS=60` makes the outages a minute long.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from dbos_events.app import App
from tests.conftest import TopicFactory, unique_name
from tests.connectors.kafka.consuming import PROTOCOLS, Consumers, Counting, protocol
from tests.faults.broker import SECONDS, Broker
from tests.faults.checks import (
    assert_all_finished,
    assert_every_step_once,
    assert_in_order,
)
from tests.faults.conftest import FleetFactory
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until
from tests.faults.workers import Worker, end_gracefully
from tests.servers import KafkaServer, PostgresServer
from tests.servers.kafka import create_topic

OUTAGE_SECONDS = float(os.environ.get("DBOS_EVENTS_OUTAGE_SECONDS", "8"))
PARTITIONS = 4
COUNT = 300
VALUES = [b"%d" % number for number in range(COUNT)]


@contextmanager
def at_rest(worker: Worker, what: str) -> Iterator[None]:
    """Stay in the block for the time of an outage; the worker must be nearly idle and nearly silent."""
    began, cpu, lines = time.monotonic(), worker.cpu_seconds(), worker.log_lines()
    yield
    time.sleep(max(0.0, OUTAGE_SECONDS - (time.monotonic() - began)))
    seconds = time.monotonic() - began
    used, said = worker.cpu_seconds() - cpu, worker.log_lines() - lines
    print(f"{what}: {seconds:.0f} s, {used / seconds:.1%} of one core, {said} lines of log")
    assert worker.running
    assert used / seconds < 0.15, "a hot loop"
    assert said < 40 + seconds * 2, worker.log.read_text()[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(OUTAGE_SECONDS + 150)
@pytest.mark.parametrize(
    ("ordering", "handler", "how"), [("none", "async", "kill"), ("partition", "sync", "stop")]
)
def test_a_database_that_is_down_loses_nothing(
    ordering: str,
    handler: str,
    how: str,
    kafka_topic: TopicFactory,
    broker: Broker,
    postgres_server: PostgresServer,
    fleet_of: FleetFactory,
) -> None:
    topic = kafka_topic(PARTITIONS)
    fleet = fleet_of(
        topic, ordering=ordering, handler=handler, database=postgres_server.url, step_seconds=0.005
    )
    worker = fleet.start().wait_launched()
    broker.produce_spread(topic, VALUES, PARTITIONS)
    wait_until(lambda: fleet.rows.succeeded() >= COUNT // 3, "the events stand still")

    getattr(postgres_server, how)()
    with at_rest(worker, f"database down, {ordering}, {handler}"):
        broker.produce_spread(topic, VALUES, PARTITIONS)
    postgres_server.start()
    back_at = time.monotonic()
    wait_until(lambda: fleet.rows.succeeded() == 2 * COUNT, "not all events finished", seconds=60)
    print(f"all finished {time.monotonic() - back_at:.1f} s after the database was back")
    executors = fleet.executors(worker)
    end_gracefully([worker])

    effects = fleet.effects.read()
    assert_all_finished(fleet.rows, 2 * COUNT)
    assert executors == [1]  # nobody is declared dead because the database was
    assert_every_step_once(effects, 2 * COUNT)
    if ordering == "partition":
        assert_in_order(effects)


@pytest.mark.slow
@pytest.mark.timeout(OUTAGE_SECONDS + 150)
@pytest.mark.parametrize(
    ("ordering", "protocol_name", "how"),
    [("none", "broker-assigned", "kill"), ("partition", "cooperative", "stop"), ("none", "eager", "kill")],
)
def test_a_broker_that_is_down_loses_nothing(
    ordering: str, protocol_name: str, how: str, kafka_server: KafkaServer, fleet_of: FleetFactory
) -> None:
    broker = Broker(kafka_server.bootstrap)
    topic = unique_name("topic")
    create_topic(kafka_server.bootstrap, topic, partitions=PARTITIONS)
    fleet = fleet_of(
        topic,
        ordering=ordering,
        kafka={"bootstrap.servers": kafka_server.bootstrap, **protocol(protocol_name)},
        step_seconds=0.005,
    )
    workers = [fleet.start().wait_launched() for _ in range(2)]
    broker.produce_spread(topic, VALUES, PARTITIONS)
    wait_until(lambda: fleet.rows.succeeded() >= COUNT // 3, "the events stand still")

    getattr(kafka_server, how)()
    with at_rest(workers[0], f"broker down, {ordering}, {protocol_name}"):
        pass
    kafka_server.start()
    back_at = time.monotonic()
    broker.produce_spread(topic, VALUES, PARTITIONS)
    wait_until(lambda: fleet.rows.succeeded() == 2 * COUNT, "not all events finished", seconds=60)
    print(f"all finished {time.monotonic() - back_at:.1f} s after the broker was back")
    end_gracefully(workers)

    effects = fleet.effects.read()
    assert_all_finished(fleet.rows, 2 * COUNT)
    assert_every_step_once(effects, 2 * COUNT)
    if ordering == "partition":
        assert_in_order(effects)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_worker_stops_in_time_while_both_servers_are_down(
    kafka_server: KafkaServer, postgres_server: PostgresServer, fleet_of: FleetFactory
) -> None:
    topic = unique_name("topic")
    create_topic(kafka_server.bootstrap, topic, partitions=PARTITIONS)
    broker = Broker(kafka_server.bootstrap)
    fleet = fleet_of(
        topic,
        database=postgres_server.url,
        kafka={"bootstrap.servers": kafka_server.bootstrap, "group.protocol": "consumer"},
        settings={"lease_seconds": 1.5, "shutdown_timeout_seconds": 6.0},
        drain_seconds=3.0,
    )
    worker = fleet.start().wait_launched()
    broker.produce_spread(topic, VALUES, PARTITIONS)
    wait_until(lambda: fleet.rows.succeeded() == COUNT, "the events stand still")
    kafka_server.kill()
    postgres_server.kill()
    began = time.monotonic()
    worker.terminate()
    assert worker.wait_ended(40) == 0, worker.log.read_text()[-3000:]
    print(f"stopped {time.monotonic() - began:.1f} s after SIGTERM, with both servers down")
    assert time.monotonic() - began < 6.0 + 10.0


# -- what a source waits for ------------------------------------------------------------------


def problems(app: App) -> str:
    health = app.health()
    assert health.live
    return "; ".join(health.problems)


def wait_ready(app: App) -> None:
    wait_until(lambda: app.health().ready, f"not ready: {app.health()}")


@pytest.mark.slow
@pytest.mark.parametrize("protocol_name", PROTOCOLS)
def test_a_topic_that_is_created_later_is_read_by_itself(
    protocol_name: str, kafka_bootstrap: str, broker: Broker, postgres_url: str
) -> None:
    topic = unique_name("later")
    counting = Counting()
    rows = Rows(postgres_url)
    with Consumers(postgres_url, kafka_bootstrap) as consumers:
        app = consumers.start(topic, counting.async_handler, config=protocol(protocol_name))
        wait_until(lambda: f"{topic} does not exist" in problems(app), f"it does not say so: {app.health()}")
        create_topic(kafka_bootstrap, topic, partitions=2)
        created_at = time.monotonic()
        broker.produce_spread(topic, VALUES, 2)
        wait_until(lambda: rows.succeeded() == COUNT, "the topic is not read", seconds=40)
        print(f"read {time.monotonic() - created_at:.1f} s after it was created, {protocol_name}")
        wait_ready(app)
    assert set(counting.executions.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("protocol_name", ["cooperative", "broker-assigned"])
def test_a_broker_that_comes_later_is_read_by_itself(
    protocol_name: str, kafka_server: KafkaServer, postgres_url: str
) -> None:
    broker = Broker(kafka_server.bootstrap)
    rows = Rows(postgres_url)
    counting = Counting()
    create_topic(kafka_server.bootstrap, "orders", partitions=2)
    broker.produce_spread("orders", VALUES, 2)
    kafka_server.stop()
    with Consumers(postgres_url, kafka_server.bootstrap) as consumers:
        app = consumers.start("orders", counting.async_handler, config=protocol(protocol_name))
        wait_until(lambda: "bootstrap.servers" in problems(app), "it does not say so")
        kafka_server.start()
        back_at = time.monotonic()
        wait_until(lambda: rows.succeeded() == COUNT, "the topic is not read", seconds=40)
        print(f"read {time.monotonic() - back_at:.1f} s after the broker was there, {protocol_name}")
        wait_ready(app)
    assert set(counting.executions.values()) == {1}


@pytest.fixture
def guarded_broker() -> Iterator[KafkaServer]:
    """A broker with access rules, that allows what no rule speaks of."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with KafkaServer(settings=settings) as server:
        yield server


def rule(kind: Any, name: str) -> list[Any]:
    """Somebody else may read: so we may not."""
    return [
        kind, name, ResourcePatternType.LITERAL, "User:somebody-else", "*", AclOperation.READ,
        AclPermissionType.ALLOW,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(180)
@pytest.mark.parametrize("protocol_name", ["cooperative", "broker-assigned"])
@pytest.mark.parametrize(("kind", "name"), [("group", "readers"), ("topic", "orders")])
def test_a_missing_right_is_named_and_reading_begins_when_it_is_granted(
    kind: str, name: str, protocol_name: str, guarded_broker: KafkaServer, postgres_url: str
) -> None:
    broker = Broker(guarded_broker.bootstrap)
    rows = Rows(postgres_url)
    create_topic(guarded_broker.bootstrap, "orders", partitions=2)
    broker.produce_spread("orders", VALUES, 2)
    resource = ResourceType.GROUP if kind == "group" else ResourceType.TOPIC
    binding = AclBinding(*rule(resource, name))
    broker.admin.create_acls([binding])[binding].result(SECONDS)
    with Consumers(postgres_url, guarded_broker.bootstrap) as consumers:
        config = {"group.id": "readers", **protocol(protocol_name)}
        app = consumers.start("orders", Counting().async_handler, config=config)
        wait_until(lambda: "no right to" in problems(app), f"it does not say so: {app.health()}")
        assert kind in problems(app)
        assert rows.succeeded() == 0
        pattern = AclBindingFilter(*rule(resource, name))
        broker.admin.delete_acls([pattern])[pattern].result(SECONDS)
        granted_at = time.monotonic()
        wait_until(lambda: rows.succeeded() == COUNT, f"not read: {app.health()}", seconds=60)
        print(f"read {time.monotonic() - granted_at:.1f} s after the right to the {kind} was granted")
        wait_ready(app)
