"""Where the demo runs: inside its own processes by default, else on servers that are named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from dbos_events_kafka.testing import EmbeddedBroker

PARTITIONS = 4
SECONDS = 15.0


@dataclass(frozen=True)
class Servers:
    """Addresses, and the settings that make a crash show within seconds on such servers."""

    bootstrap_servers: str
    database_url: str
    broker: str
    database: str
    settings: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def broker_for(topic: str, group: str, kafka: str | None) -> Iterator[tuple[str, str, dict[str, str]]]:
    """A broker with the topic: its address, what it is, and client settings that suit it."""
    if kafka is None:
        with EmbeddedBroker() as broker:
            broker.create_topic(topic, partitions=PARTITIONS)
            # Its groups of the new protocol notice after three seconds that a member is gone.
            settings = {"DBOS_EVENTS_KAFKA__GROUP_PROTOCOL": "consumer"}
            yield broker.bootstrap_servers, "the broker inside of the confluent-kafka wheel", settings
        return
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    _wait(admin.create_topics([NewTopic(topic, PARTITIONS)], request_timeout=SECONDS), topic)
    try:
        # The shortest time that brokers allow by default, after which a silent member is out.
        settings = {
            "DBOS_EVENTS_KAFKA__SESSION_TIMEOUT_MS": "6000",
            "DBOS_EVENTS_KAFKA__HEARTBEAT_INTERVAL_MS": "1000",
        }
        yield kafka, f"Kafka at {kafka}", settings
    finally:
        with contextlib.suppress(KafkaException):
            _wait(admin.delete_consumer_groups([group], request_timeout=SECONDS), group)
        with contextlib.suppress(KafkaException):
            _wait(admin.delete_topics([topic], request_timeout=SECONDS), topic)


def _wait(answers: dict[str, Future[Any]], name: str) -> None:
    answers[name].result(SECONDS)


@contextlib.contextmanager
def servers_for(
    folder: Path, topic: str, group: str, kafka: str | None, database: str | None
) -> Iterator[Servers]:
    """The servers of one run of the demo; topic and group are its own and go with it."""
    url = database or f"sqlite:///{folder}/workflows.sqlite"
    named = "the database that --database names" if database else "a SQLite file"
    with broker_for(topic, group, kafka) as (address, broker, settings):
        yield Servers(address, url, broker, named, settings)


class Stream:
    """Writes orders to the topic, by customer, so that each customer's orders share a partition."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5, "log_level": 0})
        self._topic = topic
        self._lost: list[str] = []
        self.sent = 0

    def send(self, key: str, value: bytes) -> None:
        self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
        self._producer.poll(0)
        self.sent += 1

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._lost.append(str(error))

    def finish(self) -> None:
        """Wait until the broker has all of it.

        Raises:
            RuntimeError: It does not.
        """
        waiting = self._producer.flush(SECONDS)
        if waiting or self._lost:
            raise RuntimeError(
                f"{waiting + len(self._lost)} orders did not reach the broker. {self._lost[:1]}"
            )
