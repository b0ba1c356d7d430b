"""What all contestants share: the task, the tally of executions, the line of output.

Imports the standard library and psycopg only: it runs in the peer's environment too.
"""

from __future__ import annotations

import json
import mmap
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

SLOTS = 16
"""How many processes can count in one tally."""
POLL_SECONDS = 0.02
LOOK_SECONDS = 0.002
GRACE_SECONDS = 0.5
"""How long an execution too many may take to show up after everything is durable."""


@dataclass(frozen=True)
class Task:
    """What a contestant is asked to do."""

    url: str
    count: int
    """How much work there is: events, workflows or calls."""
    colour: str
    timeout: float
    tally: str
    """The file in which executions are counted."""
    framework: str = "dbos_events"
    kafka: str = ""
    topic: str = ""
    process: int = 0
    processes: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_async(self) -> bool:
        """Whether the handler is to be an async function."""
        return self.colour == "async"

    @property
    def leads(self) -> bool:
        """Whether this process measures; the others only work."""
        return self.process == 0

    def number(self, name: str, default: int = 0) -> int:
        """Return an option that is a number."""
        return int(self.options.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        """Return an option that is a word."""
        return str(self.options.get(name, default))

    def with_options(self, process: int | None = None, **options: object) -> Task:
        """Return the task of a process that helps with this one."""
        number = self.process if process is None else process
        return replace(self, process=number, options={**self.options, **options})

    def to_json(self) -> str:
        """Return the argument of a contestant's process."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Outcome:
    """What a process measured; printed as one JSON line."""

    started: float = 0.0
    """When the first handler started, on the machine's monotonic clock, which all processes share."""
    ended: float = 0.0
    """When the last outcome was found durable; 0 where no rate is measured."""
    units: int = 0
    """How many units of work that was, for the rate."""
    cpu_seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)


def read_task() -> Task:
    """Read the task from the command line."""
    return Task(**json.loads(sys.argv[1]))


def report(outcome: Outcome) -> None:
    """Print the outcome for the suite to read."""
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    sys.stdout.flush()


def say(line: str) -> None:
    """Tell the process that started this one something."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Executions:
    """Counts the handler's executions in a file, so that they outlive a killed process."""

    def __init__(self, task: Task, expected: int | None = None) -> None:
        self._expected = task.count if expected is None else expected
        self._slot = task.process
        self._lock = threading.Lock()
        self._count = 0
        self._started = 0.0
        self._slots = _open_slots(Path(task.tally))

    def count(self) -> None:
        """Count one; called first thing by the handler, from any thread or loop."""
        with self._lock:
            if not self._count:
                self._started = time.perf_counter()
            self._count += 1
            self._slots[self._slot] = self._count

    @property
    def total(self) -> int:
        """How many there were so far, in all processes."""
        return sum(self._slots)

    @property
    def started(self) -> float:
        """When this process's first one started, on the performance counter."""
        return self._started

    def wait(self, seconds: float, expected: int | None = None) -> None:
        """Wait until as many ran as are expected.

        Raises:
            TimeoutError: There were not as many in time.
        """
        wanted = self._expected if expected is None else expected
        deadline = time.perf_counter() + seconds
        while self.total < wanted:
            if time.perf_counter() > deadline:
                message = f"{self.total} of {wanted} executions in time"
                raise TimeoutError(message)
            time.sleep(LOOK_SECONDS)


def make_tally(path: Path) -> None:
    """Make an empty tally."""
    path.write_bytes(bytes(8 * SLOTS))


def read_tally(path: Path) -> int:
    """Return how many executions were counted in all."""
    return sum(memoryview(path.read_bytes()).cast("Q"))


def _open_slots(path: Path) -> memoryview[int]:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 8 * SLOTS)).cast("Q")


def measure(task: Task, executions: Executions, durable: str, units: int | None = None) -> Outcome:
    """Wait until every outcome is durable, which `durable` counts in SQL.

    The database is asked only after the last handler ran, so that asking does not slow
    down what is measured.
    """
    deadline = time.perf_counter() + task.timeout
    executions.wait(task.timeout)
    if task.leads:
        wait_durable(task, durable, task.count, deadline)
    ended = time.perf_counter()
    cpu = cpu_seconds()
    time.sleep(GRACE_SECONDS)
    return Outcome(executions.started, ended, task.count if units is None else units, cpu)


def wait_durable(task: Task, durable: str, wanted: int, deadline: float) -> None:
    """Wait until the statement counts as many as are wanted.

    Raises:
        TimeoutError: It did not in time.
    """
    while (found := ask(task.url, durable)) < wanted:
        if time.perf_counter() > deadline:
            message = f"{found} of {wanted} outcomes durable in time"
            raise TimeoutError(message)
        time.sleep(POLL_SECONDS)


def ask(url: str, statement: str) -> int:
    """Return the number that the statement gives."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as file:
            row = file.execute(statement).fetchone()
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0


def cpu_seconds() -> float:
    """Return the processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def quantile(values: list[float], part: float) -> float:
    """Return the smallest value that `part` of all do not exceed; never a value between two."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-part * len(ordered) // 1) - 1))]


def latencies(seconds: list[float]) -> dict[str, float]:
    """Return the usual quantiles in milliseconds; one that too few values carry is left out."""
    parts = {"p50": (0.5, 1), "p99": (0.99, 100), "p999": (0.999, 1_000)}
    return {
        f"{name}_ms": quantile(seconds, part) * 1000
        for name, (part, least) in parts.items()
        if len(seconds) >= least
    }
