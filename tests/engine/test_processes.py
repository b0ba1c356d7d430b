"""Recovery between real processes (protocol, rules 1 and 2; P6)."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbos_events.clock import SystemClock
from dbos_events.storage.opening import open_storage

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")


class Worker:
    """One process; `lines` are what it has printed so far."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[str] = []
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

    def tell(self) -> None:
        """Let the step that holds go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


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


def test_another_process_finishes_what_a_killed_one_began(worker: Callable[..., Worker]) -> None:
    first = worker(starts=True, steps=4, holds=[3], lease_seconds=10.0)
    second = worker(lease_seconds=10.0)
    first.wait_for("step 3")
    killed = time.monotonic()
    first.signal(signal.SIGKILL)
    second.wait_for("result 10")
    assert time.monotonic() - killed < 6.0, "a process of this host that is gone is dead at once, not after its lease"
    assert first.lines == ["ready", "step 1", "step 2", "step 3"]
    assert second.lines == ["ready", "step 3", "step 4", "result 10"]


def test_a_process_that_was_frozen_is_fenced_when_it_comes_back(worker: Callable[..., Worker]) -> None:
    first = worker(starts=True, steps=4, holds=[2])
    first.wait_for("step 2")
    second = worker()
    first.signal(signal.SIGSTOP)
    second.wait_for("result 10")
    first.signal(signal.SIGCONT)
    first.tell()
    first.wait_for("result 10")
    assert first.lines == ["ready", "step 1", "step 2", "result 10"], "it started no step after it was declared dead"
    assert second.lines == ["ready", "step 2", "step 3", "step 4", "result 10"]


def test_a_fenced_process_goes_on_as_a_new_executor(worker: Callable[..., Worker], database_url: str) -> None:
    first = worker(starts=True, steps=2, holds=[1])
    first.wait_for("step 1")
    second = worker()
    first.signal(signal.SIGSTOP)
    second.wait_for("result 3")
    first.signal(signal.SIGCONT)
    first.tell()
    first.wait_for("result 3")
    storage = open_storage(database_url, schema="dbos_events", clock=SystemClock())
    until = time.monotonic() + 10
    while len(alive := [row.id for row in storage.list_executors("jobs") if row.alive]) < 2:
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
    assert second.lines == ["ready", "result 3"]


def test_a_sleeper_of_a_killed_process_wakes_in_another(worker: Callable[..., Worker]) -> None:
    first = worker(starts=True, steps=2, sleeps_after=1, park_after_seconds=0, waits=False)
    first.wait_for("step 1")
    first.signal(signal.SIGKILL)
    second = worker(sleeps_after=1, park_after_seconds=0)
    second.wait_for("result 3")
    assert second.lines in (["ready", "step 2", "result 3"], ["ready", "step 1", "step 2", "result 3"])


@pytest.mark.parametrize("lease_seconds", [60.0])
def test_a_successor_of_the_same_explicit_id_need_not_wait_for_the_lease(
    worker: Callable[..., Worker], database_url: str, lease_seconds: float
) -> None:
    """Two silent heartbeats are enough; shown with a predecessor on a host that is not this one."""
    first = worker(starts=True, steps=2, holds=[1], executor_id="pod-0", lease_seconds=4.0)
    first.wait_for("step 1")
    first.signal(signal.SIGSTOP)
    second = worker(executor_id="pod-0", lease_seconds=4.0)
    began = time.monotonic()
    second.wait_for("result 3")
    assert time.monotonic() - began < 3.9
    assert lease_seconds
    assert psycopg
