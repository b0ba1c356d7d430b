"""`dbos-events kafka status` does not say what nobody knows: of the dead, of the silent, of ends that are old."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from dbos_events.cli.root import app as command_line
from dbos_events.clock import Clock, SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.storage.subjects.intakerows import IntakeBatch, NewEvent
from dbos_events.testing import ManualClock
from tests.cli.service import PROGRAM, clean_environment
from tests.conftest import TopicFactory

MINUTES = 60_000


class Stage:
    """A database in which one process of `shop` reads one partition, at some time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.at(SystemClock(), migrate)

    def at(self, clock: Clock, work: Callable[[Any], None]) -> None:
        storage = open_storage(self.url, schema="dbos_events", clock=clock)
        try:
            work(storage)
        finally:
            storage.close()

    def begin(
        self,
        clock: Clock | None = None,
        *,
        lease_ms: int = 10 * MINUTES,
        pid: int = 1,
        topic: str = "orders",
        topic_id: str = "topic-id",
        partition: int = 0,
    ) -> None:
        """A process takes two records in, and says that the partition ends at 9."""

        def work(storage: Any) -> None:
            holder = storage.executors.register(
                NewExecutor("shop", "host", False, "v1", "boot", "namespace", pid, f"{pid}", lease_ms)
            )
            consumer = storage.consumers.save("shop", "on_order", "on_order", "shop.on_order", [topic], "{}")
            incarnation = storage.lives.save("cluster", topic, topic_id)
            storage.positions.create(consumer, incarnation, {partition: (5, "earliest")})
            (position,) = storage.positions.assign(holder, consumer, incarnation, [partition])
            events = tuple(
                NewEvent(f"{partition}-{at}", partition, at, b"k", b"v", None, 0, 0, None, None, at)
                for at in (5, 6)
            )
            storage.intake.take_in(
                IntakeBatch(
                    executor=holder,
                    consumer=consumer,
                    incarnation=incarnation,
                    application="shop",
                    name="on_order",
                    version="v1",
                    queue=None,
                    moves={partition: (position.epoch, 5, 7, None)},
                    gaps=(),
                    events=events,
                    filtered=(),
                )
            )
            storage.positions.report(holder, consumer, [(incarnation, partition, 9, "reading", None)])

        self.at(clock or SystemClock(), work)

    def run(self, *options: str, **environment: str) -> Any:
        return CliRunner(env=environment).invoke(
            command_line, ["kafka", "status", "--application", "shop", "--database", self.url, *options]
        )

    def rows(self, *options: str, **environment: str) -> list[dict[str, Any]]:
        result = self.run("--json", *options, **environment)
        assert result.exit_code == 0, result.output
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found


@pytest.fixture
def stage(database_url: str) -> Stage:
    return Stage(database_url)


def test_without_a_live_holder_neither_the_end_nor_the_lag_is_known(stage: Stage) -> None:
    stage.begin(lease_ms=0)

    [row] = stage.rows()
    assert (row["state"], row["holder_alive"], row["watermark"]) == ("no process", False, 7)
    assert (row["end_offset"], row["lag"]) == (None, None)
    assert "not known" in stage.run().output


def test_a_holder_that_says_nothing_any_more_is_silent(stage: Stage) -> None:
    stage.begin(ManualClock(datetime.now(UTC) - timedelta(minutes=1)))

    [row] = stage.rows()
    assert (row["state"], row["holder_alive"], row["lag"]) == ("silent", True, None)
    assert "told nothing for 1m" in stage.run().stdout


def test_what_waits_and_since_when_is_told_beside_the_lag(stage: Stage) -> None:
    stage.begin(ManualClock(datetime.now(UTC) - timedelta(minutes=7)))

    [row] = stage.rows()
    assert (row["in_flight"], row["held"], row["waiting"]) == (2, 0, 0)
    assert 420 <= row["oldest_seconds"] < 480
    assert "7m" in stage.run().stdout


def test_two_processes_of_one_host_are_told_apart(stage: Stage) -> None:
    stage.begin(pid=4711)
    stage.begin(pid=4712, partition=1)

    assert [row["holder_pid"] for row in stage.rows()] == [4711, 4712]
    shown = stage.run().stdout
    assert "host:4711" in shown
    assert "host:4712" in shown


def test_a_pause_does_not_hide_that_no_process_is_there(stage: Stage) -> None:
    stage.begin(lease_ms=0)
    stage.at(
        SystemClock(), lambda storage: storage.consumers.pause("shop", "on_order", "alice@host", "migration")
    )

    shown = stage.run().stdout
    assert "no process" in shown
    assert "paused by alice@host" in shown


# ------------------------------------------------------------------ asking Kafka


@pytest.fixture
def filled(kafka_bootstrap: str, kafka_topic: TopicFactory) -> str:
    """A topic with 20 records in its first partition."""
    topic = kafka_topic(partitions=2)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for _ in range(20):
        producer.produce(topic, b"x", partition=0)
    assert producer.flush(30) == 0
    return topic


def topic_id(bootstrap: str, topic: str) -> str:
    from confluent_kafka import TopicCollection
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap})
    return str(admin.describe_topics(TopicCollection([topic]))[topic].result(20).topic_id)


def test_the_broker_tells_the_lag_of_consumers_that_nobody_runs(
    migrated_sqlite: str, filled: str, kafka_bootstrap: str
) -> None:
    stage = Stage(migrated_sqlite)
    stage.begin(lease_ms=0, topic=filled, topic_id=topic_id(kafka_bootstrap, filled))
    broker = {"DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap}

    [row] = stage.rows("--broker", **broker)
    assert (row["state"], row["watermark"], row["end_offset"], row["lag"]) == ("no process", 7, 20, 13)


def test_the_end_of_another_life_of_the_topic_is_not_the_consumers(
    migrated_sqlite: str, filled: str, kafka_bootstrap: str
) -> None:
    stage = Stage(migrated_sqlite)
    stage.begin(lease_ms=0, topic=filled, topic_id="of-a-former-life")

    [row] = stage.rows("--broker", DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap)
    assert row["lag"] is None
    assert "made again" in row["detail"]


def test_a_broker_that_nobody_names_or_that_is_away_is_told_in_a_line(migrated_sqlite: str) -> None:
    stage = Stage(migrated_sqlite)
    stage.begin()

    unnamed = stage.run("--broker")
    assert unnamed.exit_code == 1
    assert "DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS" in unnamed.stderr
    away = stage.run("--broker", DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert away.exit_code == 1
    assert "127.0.0.1:1" in away.stderr
    assert away.stderr.count("\n") == 1


# ------------------------------------------------------------------ again and again


def test_watching_shows_it_again_until_it_is_interrupted(migrated_sqlite: str, tmp_path: Path) -> None:
    stage = Stage(migrated_sqlite)
    stage.begin()
    with subprocess.Popen(
        [PROGRAM, "kafka", "status", "--watch", "--interval", "0.1", "--json", "--application", "shop"],
        cwd=tmp_path,
        env=clean_environment(DBOS_SYSTEM_DATABASE_URL=migrated_sqlite),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        shown = [json.loads(command.stdout.readline()) for _ in range(3)]
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=30)
    assert [[row["lag"] for row in rows] for rows in shown] == [[2]] * 3
    assert (command.returncode, errors) == (0, "")


def test_watching_on_a_terminal_redraws_it_with_rates(migrated_sqlite: str, tmp_path: Path) -> None:
    stage = Stage(migrated_sqlite)
    stage.begin()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [PROGRAM, "kafka", "status", "--watch", "--interval", "0.1", "--application", "shop"],
        cwd=tmp_path,
        env=clean_environment(DBOS_SYSTEM_DATABASE_URL=migrated_sqlite, COLUMNS="200", TERM="xterm"),
        stdout=theirs,
        stderr=theirs,
    ) as command:
        os.close(theirs)
        printed = b""
        while printed.count(b"\x1b[2J") < 3:
            printed += os.read(ours, 65536)
        command.send_signal(signal.SIGINT)
        assert command.wait(30) == 0
    os.close(ours)
    second = printed.decode().split("\x1b[2J")[2]
    assert "PER SECOND" in second
    assert "\x1b[H" in printed.decode()
