"""Recovery between real processes (protocol, rules 1 and 2; P6)."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from dbos_events.clock import SystemClock
from dbos_events.storage.opening import open_storage

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")


class Worker:
    """One process; `lines` are what it has printed so far."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[str] = []
        self.url: str = options["url"]
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.wait_for("ready")

    def wait_for(self, text: str) -> None:
        """Wait until it prints this line."""
        assert self.process.stdout is not None
        while not self.lines or self.lines[-1] != text:
            line = self.process.stdout.readline()
            assert line, f"the process ended before it printed {text!r}: {self.lines}"
            self.lines.append(line.strip())

    @property
    def work(self) -> list[str]:
        """What it did, without "ready": a recovered step may come before or after that."""
        return [line for line in self.lines if line != "ready"]

    def tell(self) -> None:
        """Let the step that holds go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()

    def freeze(self) -> None:
        """Stop it while it has no transaction open (what it holds in one is shown in tests/storage)."""
        self.process.send_signal(signal.SIGSTOP)
        while in_transaction(self.url):
            self.process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
            self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


def in_transaction(url: str) -> bool:
    """Whether somebody has a transaction open."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        finally:
            connection.close()
        return False
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    )
    with psycopg.connect(url) as postgres:
        row = postgres.execute(query).fetchone()
    return row is not None and row[0] > 0


def end_of_first(url: str) -> str | None:
    """Why the first executor was declared dead."""
    storage = open_storage(url, schema="dbos_events", clock=SystemClock())
    table = sa.table(
        "executors", sa.column("id"), sa.column("end_reason"), schema=storage.database.schema or None
    )
    with storage.database.engine.connect() as connection:
        reason: str | None = connection.scalar(sa.select(table.c.end_reason).where(table.c.id == 1))
    storage.close()
    return reason


@pytest.fixture
def worker(database_url: str) -> Iterator[Callable[..., Worker]]:
    """Start a process on the test's database."""
    workers: list[Worker] = []

    def start(**options: Any) -> Worker:
        workers.append(Worker(url=database_url, **options))
        return workers[-1]

    yield start
    for each in workers:
        each.end()


def test_another_process_finishes_what_a_killed_one_began(
    worker: Callable[..., Worker], database_url: str
) -> None:
    first = worker(starts=True, steps=4, holds=[3], lease_seconds=100.0)
    second = worker(lease_seconds=3.0)
    first.wait_for("step 3")
    first.kill()
    second.wait_for("result 10")
    assert end_of_first(database_url) == "its process does not exist any more", "it is dead at once"
    assert first.lines == ["ready", "step 1", "step 2", "step 3"]
    assert second.work == ["step 3", "step 4", "result 10"]


def test_a_process_that_was_frozen_is_fenced_when_it_comes_back(worker: Callable[..., Worker]) -> None:
    first = worker(starts=True, steps=4, holds=[2])
    first.wait_for("step 2")
    second = worker(lease_seconds=1.0)
    first.freeze()
    second.wait_for("result 10")
    first.thaw()
    first.tell()
    first.wait_for("result 10")
    assert first.lines == ["ready", "step 1", "step 2", "result 10"], (
        "it started no step after it was declared dead"
    )
    assert second.work == ["step 2", "step 3", "step 4", "result 10"]


def test_a_fenced_process_goes_on_as_a_new_executor(worker: Callable[..., Worker], database_url: str) -> None:
    first = worker(starts=True, steps=2, holds=[1])
    first.wait_for("step 1")
    second = worker(lease_seconds=1.0)
    first.freeze()
    second.wait_for("result 3")
    first.thaw()
    first.tell()
    first.wait_for("result 3")
    storage = open_storage(database_url, schema="dbos_events", clock=SystemClock())
    until = time.monotonic() + 10
    while len(alive := [row.id for row in storage.executors.read("jobs") if row.alive]) < 2:
        assert time.monotonic() < until, "the process did not register anew"
        time.sleep(0.01)
    storage.close()
    assert max(alive) == 3


def test_a_live_process_that_is_only_slow_keeps_its_work(worker: Callable[..., Worker]) -> None:
    first = worker(starts=True, steps=2, holds=[1])
    first.wait_for("step 1")
    second = worker()
    time.sleep(2.5)  # two and a half leases: the passing of time is what is tested
    first.tell()
    first.wait_for("result 3")
    second.wait_for("result 3")
    assert second.work == ["result 3"]


def test_a_sleeper_of_a_killed_process_wakes_in_another(worker: Callable[..., Worker]) -> None:
    first = worker(starts=True, steps=2, sleeps_after=1, park_after_seconds=0, waits=False)
    first.wait_for("step 1")
    first.kill()
    second = worker(sleeps_after=1, park_after_seconds=0)
    second.wait_for("result 3")
    assert second.work in (["step 2", "result 3"], ["step 1", "step 2", "result 3"])


def test_a_successor_of_the_same_explicit_id_need_not_wait_for_the_lease(
    worker: Callable[..., Worker], database_url: str
) -> None:
    first = worker(starts=True, steps=2, holds=[1], executor_id="pod-0", lease_seconds=4.0)
    first.wait_for("step 1")
    first.freeze()
    second = worker(executor_id="pod-0", lease_seconds=4.0)
    second.wait_for("result 3")
    assert end_of_first(database_url) == "this process has succeeded to its executor_id"
