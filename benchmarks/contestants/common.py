"""What all contestants share: the task, the count of executions, the line of output.

Imports the standard library and psycopg only: it runs in the peer's environment too.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Literal

import psycopg

POLL_SECONDS = 0.02
GRACE_SECONDS = 0.5
"""How long an execution too many may take to show up after everything is durable."""


@dataclass(frozen=True)
class Task:
    """What a contestant is asked to do."""

    bootstrap: str
    topic: str
    events: int
    url: str
    colour: str
    timeout: float
    ordering: Literal["none", "partition", "key"] = "none"

    @property
    def is_async(self) -> bool:
        """Whether the handler is to be an async function."""
        return self.colour == "async"


@dataclass(frozen=True)
class Outcome:
    """What a contestant measured; printed as one JSON line."""

    executions: int
    seconds: float
    events_per_second: float
    cpu_seconds: float


def read_task() -> Task:
    """Read the task from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--colour", choices=("async", "sync"), required=True)
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--ordering", choices=("none", "partition", "key"), default="none")
    return Task(**vars(parser.parse_args()))


class Executions:
    """Counts the handler's executions, and remembers when the first one started."""

    def __init__(self, expected: int) -> None:
        self._lock = threading.Lock()
        self._expected = expected
        self._count = 0
        self._started = 0.0
        self._reached = threading.Event()

    def count(self) -> None:
        """Count one; called first thing by the handler, from any thread or loop."""
        with self._lock:
            if not self._count:
                self._started = time.perf_counter()
            self._count += 1
            if self._count == self._expected:
                self._reached.set()

    @property
    def total(self) -> int:
        """How many there were so far."""
        return self._count

    @property
    def started(self) -> float:
        """When the first one started, on the performance counter."""
        return self._started

    def wait(self, timeout: float) -> None:
        """Wait until as many ran as were expected, or the time is over."""
        self._reached.wait(timeout)


def measure(task: Task, executions: Executions, durable_count: str) -> Outcome:
    """Wait until every outcome is durable, which `durable_count` asks in SQL.

    The database is asked only after the last handler ran, so that asking does not slow
    down what is measured.
    """
    deadline = time.perf_counter() + task.timeout
    executions.wait(task.timeout)
    _wait_durable(task, durable_count, deadline)
    seconds = time.perf_counter() - executions.started
    cpu = _cpu_seconds()
    time.sleep(GRACE_SECONDS)
    return Outcome(executions.total, seconds, task.events / seconds, cpu)


def report(outcome: Outcome) -> None:
    """Print the outcome for the suite to read."""
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    sys.stdout.flush()


def _wait_durable(task: Task, durable_count: str, deadline: float) -> None:
    with psycopg.connect(task.url, autocommit=True) as connection:
        while (found := _ask(connection, durable_count)) < task.events:
            if time.perf_counter() > deadline:
                message = f"{found} of {task.events} outcomes durable in time"
                raise TimeoutError(message)
            time.sleep(POLL_SECONDS)


def _ask(connection: psycopg.Connection, durable_count: str) -> int:
    row = connection.execute(durable_count.encode()).fetchone()
    return int(row[0]) if row else 0


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
