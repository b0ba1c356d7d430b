"""The servers of a run, named or started here, and what a run makes on them."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from psycopg import sql

from benchmarks.costs import PRELOAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from contextlib import ExitStack
    from pathlib import Path

    from benchmarks.model import Topic

POSTGRES_SETTINGS = {"shared_buffers": "256MB"}
ADMIN_SECONDS = 30.0
LARGEST_VALUE = 4 * 2**20


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
    from tests.servers.errors import ServerFailed

    try:
        server = PostgresServer(durable=True, settings=POSTGRES_SETTINGS | PRELOAD)
        return stack.enter_context(server).url
    except ServerFailed:  # these programs come without the extension
        return stack.enter_context(PostgresServer(durable=True, settings=POSTGRES_SETTINGS)).url


@contextmanager
def fresh_database(url: str, label: str, template: str = "") -> Iterator[str]:
    """Make a database for one run, empty or as `template` is, and drop it afterwards.

    The checkpoint before it gives every run the same start: the writes of the run
    before it do not fall into this one.
    """
    name = f"benchmark_{label}_{time.time_ns()}"
    identifier = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        create = sql.SQL("CREATE DATABASE {}").format(identifier)
        if template:
            create += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
        connection.execute(create)
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            connection.execute(drop.format(identifier))


def fresh_file(directory: Path) -> str:
    """Return the URL of a SQLite file that is not there yet."""
    return f"sqlite:///{directory / 'benchmark.sqlite'}"


@contextmanager
def fresh_topic(bootstrap: str, events: int, topic: Topic) -> Iterator[str]:
    """Make a topic, with the events in it where they are there before; delete it afterwards."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    name = f"benchmark-{time.time_ns()}"
    settings = {"max.message.bytes": str(LARGEST_VALUE)}
    _settle(admin.create_topics([NewTopic(name, topic.partitions, 1, config=settings)]))
    try:
        if topic.filled:
            _produce(bootstrap, name, events, topic)
        yield name
    finally:
        _settle(admin.delete_topics([name]))


def keys_of(topic: Topic, events: int) -> Iterator[int]:
    """Yield a key for each event: all alike one after the other, or drawn by Zipf's law with exponent 1."""
    if not topic.skewed:
        yield from (number % topic.keys for number in range(events))
        return
    weights = list(accumulate(1 / rank for rank in range(1, topic.keys + 1)))
    yield from random.Random(1).choices(range(topic.keys), cum_weights=weights, k=events)


def _produce(bootstrap: str, name: str, events: int, topic: Topic) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "message.max.bytes": LARGEST_VALUE,
            "queue.buffering.max.kbytes": 131_072,
        }
    )
    value = random.Random(2).randbytes(topic.value_bytes)  # nothing that the database could compress
    for key in keys_of(topic, events):
        # A key stays in one partition, as in life.
        while True:
            try:
                producer.produce(name, key=b"key-%d" % key, value=value, partition=key % topic.partitions)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(ADMIN_SECONDS)
    if left:
        message = f"{left} of {events} events were not delivered to {name}"
        raise TimeoutError(message)


def _settle(futures: Mapping[str, Future[None]]) -> None:
    for future in futures.values():
        future.result(ADMIN_SECONDS)
