"""`dbos-events kafka status` shows what the database knows of each partition."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from dbos_events.cli.root import app as command_line
from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.protocol import Storage
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.storage.subjects.intakerows import IntakeBatch, NewEvent

Run = Callable[..., Result]


def executor(storage: Storage, application: str) -> int:
    return storage.executors.register(
        NewExecutor(application, "host-1", True, "v1", "boot", "namespace", 1, "started", 60_000)
    )


def event(incarnation: int, offset: int) -> NewEvent:
    return NewEvent(f"{incarnation}-{offset}", 0, offset, b"key", b"value", None, 0, 0, None, None, offset)


@pytest.fixture
def storage(database_url: str) -> Iterator[Storage]:
    """A database in which `shop` reads two partitions of `orders`, and took in two records of the first, left out four."""
    storage = open_storage(database_url, schema="dbos_events", clock=SystemClock())
    migrate(storage)
    holder = executor(storage, "shop")
    consumer = storage.consumers.save("shop", "on_order", "on_order", "shop.on_order", ["orders"], "{}")
    incarnation = storage.lives.save("cluster", "orders", "topic-id")
    storage.positions.create(consumer, incarnation, {0: (5, "earliest"), 1: (0, "earliest")})
    (position,) = storage.positions.assign(holder, consumer, incarnation, [0])
    storage.intake.take_in(
        IntakeBatch(
            executor=holder,
            consumer=consumer,
            incarnation=incarnation,
            application="shop",
            name="on_order",
            version="v1",
            queue=None,
            moves={0: (position.epoch, 5, 12, None)},
            gaps=((0, 10, 11),),
            events=(event(incarnation, 5), event(incarnation, 6)),
            filtered=((0, 7, 10, 3), (0, 11, 12, 1)),
        )
    )
    storage.positions.report(holder, consumer, [(incarnation, 0, 15, "reading", None)])
    yield storage
    storage.close()


@pytest.fixture
def run(storage: Storage, database_url: str) -> Run:
    """Run a command on the test's database."""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(command_line, [*arguments, "--database", database_url])


def test_it_shows_holder_watermark_lag_and_what_runs(run: Run) -> None:
    first, second = json.loads(run("kafka", "status", "--application", "shop", "--json").stdout)

    assert first == {
        "application": "shop",
        "consumer": "on_order",
        "group": "shop.on_order",
        "topic": "orders",
        "incarnation": first["incarnation"],
        "partition": 0,
        "holder": "host-1",
        "holder_alive": True,
        "holder_pid": 1,
        "watermark": 12,
        "end_offset": 15,
        "lag": 3,
        "in_flight": 2,
        "held": 0,
        "waiting": 0,
        "oldest_seconds": first["oldest_seconds"],
        "quarantined": 0,
        "filtered": 4,
        "expired": 0,
        "state": "reading",
        "detail": None,
        "paused": None,
        "breaker": None,
    }
    assert (second["partition"], second["holder"], second["holder_alive"]) == (1, None, False)
    assert (second["watermark"], second["lag"], second["filtered"]) == (0, None, 0)


def test_a_holder_that_has_gone_is_told_as_such(run: Run, storage: Storage) -> None:
    (holder,) = storage.executors.read("shop")
    storage.executors.release(holder.id)

    first, _ = json.loads(run("kafka", "status", "--application", "shop", "--json").stdout)
    assert (first["state"], first["holder_alive"]) == ("no process", False)
    assert (first["end_offset"], first["lag"], first["watermark"]) == (None, None, 12), "nobody knows the end"
    assert "host-1:1 (not alive)" in run("kafka", "status", "--application", "shop").stdout


def test_it_is_a_table_for_people(run: Run) -> None:
    titles, *lines = run("kafka", "status", "--application", "shop").stdout.splitlines()

    assert titles.startswith("CONSUMER  GROUP          TOPIC   PARTITION")
    assert len(lines) == 2
    *words, age, quarantined, filtered, expired, error = lines[0].split()
    assert words == [
        "on_order",
        "shop.on_order",
        "orders",
        *("0", "reading", "host-1:1", "12", "15", "3", "2", "0", "0"),
    ]
    assert re.fullmatch(r"\d+s", age)
    assert (quarantined, filtered, expired, error) == ("0", "4", "0", "-")


def test_a_process_without_a_partition_is_a_line_that_says_what_it_waits_for(
    run: Run, storage: Storage
) -> None:
    late = storage.consumers.save("shop", "on_return", "on_return", "shop.on_return", ["returns"], "{}")
    (holder,) = storage.executors.read("shop")
    storage.sources.report(holder.id, late, "waiting", "the topic returns does not exist")

    *_, line = run("kafka", "status", "--application", "shop").stdout.splitlines()
    assert line.split()[:6] == ["on_return", "shop.on_return", "returns", "-", "waiting", "host-1:1"]
    assert line.endswith("the topic returns does not exist")
    first, *_, last = json.loads(run("kafka", "status", "--application", "shop", "--json").stdout)
    assert list(last) == list(first)
    assert (last["topic"], last["partition"], last["lag"]) == ("returns", None, None)
    assert (last["state"], last["holder"], last["holder_alive"]) == ("waiting", "host-1", True)

    storage.executors.release(holder.id)
    *_, line = run("kafka", "status", "--application", "shop").stdout.splitlines()
    assert "no process" in line
    assert line.endswith("no live process has this consumer")


def test_other_applications_are_shown_on_request_only(run: Run) -> None:
    nothing = run("kafka", "status", "--application", "bakery").stdout
    assert nothing.startswith("No consumer of the application 'bakery' has read from a topic yet.")
    assert "shop" in nothing
    assert json.loads(run("kafka", "status", "--application", "bakery", "--json").stdout) == []

    everything = run("kafka", "status", "--all-applications").stdout.splitlines()
    assert everything[0].startswith("APPLICATION  CONSUMER")
    assert everything[1].startswith("shop         on_order")


def test_the_event_of_a_workflow_is_shown_with_it(run: Run, storage: Storage) -> None:
    (row,) = storage.positions.read("shop")[:1]
    found = json.loads(run("workflow", "get", f"{row.incarnation}-5", "--json").stdout)

    assert found["status"] == "PENDING"
    assert found["event"]["topic"] == "orders"
    assert (found["event"]["offset"], found["event"]["key"], found["event"]["value"]) == (5, "key", "value")
