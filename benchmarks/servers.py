"""The servers of a run, named or started here, and what a run makes on them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from contextlib import ExitStack

    from benchmarks.workloads import Workload

POSTGRES_SETTINGS = {"shared_buffers": "256MB"}
ADMIN_SECONDS = 30.0


@dataclass(frozen=True)
class Servers:
    """The addresses that all contestants of a run share."""

    kafka: str
    postgres: str


def open_servers(stack: ExitStack, kafka: str | None, postgres: str | None) -> Servers:
    """Return the servers that were named; start the others, until `stack` closes."""
    return Servers(
        kafka or _start_kafka(stack),
        postgres or _start_postgres(stack),
    )


def _start_kafka(stack: ExitStack) -> str:
    # Here and not above: with both servers named, the suite runs without the tests.
    from tests.servers import KafkaServer

    return stack.enter_context(KafkaServer()).bootstrap


def _start_postgres(stack: ExitStack) -> str:
    from tests.servers import PostgresServer

    server = PostgresServer(durable=True, settings=POSTGRES_SETTINGS)
    return stack.enter_context(server).url


@contextmanager
def fresh_database(url: str, label: str) -> Iterator[str]:
    """Make an empty database for one run, and drop it afterwards.

    The checkpoint before it gives every run the same start: the writes of the run
    before it do not fall into this one.
    """
    name = f"benchmark_{label}_{time.time_ns()}"
    identifier = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            connection.execute(drop.format(identifier))


@contextmanager
def filled_topic(bootstrap: str, events: int, workload: Workload) -> Iterator[str]:
    """Make a topic that holds the events, and delete it afterwards."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    topic = f"benchmark-{time.time_ns()}"
    _settle(admin.create_topics([NewTopic(topic, workload.partitions, 1)]))
    try:
        _produce(bootstrap, topic, events, workload)
        yield topic
    finally:
        _settle(admin.delete_topics([topic]))


def _produce(bootstrap: str, topic: str, events: int, workload: Workload) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
    value = b"x" * workload.value_bytes
    for number in range(events):
        producer.produce(
            topic,
            key=b"key-%d" % (number % workload.keys),
            value=value,
            partition=number % workload.partitions,
        )
        if number % 1_000 == 0:
            producer.poll(0)
    left = producer.flush(ADMIN_SECONDS)
    if left:
        message = f"{left} of {events} events were not delivered to {topic}"
        raise TimeoutError(message)


def _settle(futures: Mapping[str, Future[None]]) -> None:
    for future in futures.values():
        future.result(ADMIN_SECONDS)
