"""The worker processes of a run: who they are, what was done to them, and what became of their executors."""

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from tests.chaos.check import Executors
from tests.chaos.findings import PROCESS, Findings
from tests.chaos.worker import WorkerOptions
from tests.faults.rows import Rows
from tests.faults.workers import Worker

LAUNCH_SECONDS = 90.0
STOP_SECONDS = 60.0
DEATH_SLACK_NS = 1_500_000_000
"""How long after its death was recorded an executor may still begin a step that it had decided upon before, on a busy
machine."""


class Door(Protocol):
    """What a worker connects to: a proxy, or a server itself."""

    port: int


Doors = tuple[Door, Door]
"""A worker's ways to the database and to the broker."""


class Harm(NamedTuple):
    """Something was done to a process, at a time of the wall clock: what it ran then may run again elsewhere."""

    label: str
    at_ms: int


class Attendance:
    """Who is at work: has launched, is not frozen, and was not told to stop. It counts the time in which nobody is."""

    def __init__(self) -> None:
        self.nobody_seconds = 0.0
        self._present: set[Worker] = set()
        self._since: float | None = None
        self._lock = threading.Lock()

    def comes(self, worker: Worker) -> None:
        with self._lock:
            self._present.add(worker)
            if self._since is not None:
                self.nobody_seconds += time.monotonic() - self._since
                self._since = None

    def goes(self, worker: Worker) -> bool:
        """Gives whether it was there."""
        with self._lock:
            was_there = worker in self._present
            self._present.discard(worker)
            if was_there and not self._present:
                self._since = time.monotonic()
            return was_there


class Crew:
    """All worker processes. They are started under labels, and each start may fail while a server is down."""

    def __init__(self, options: WorkerOptions, folder: Path, findings: Findings) -> None:
        self.findings = findings
        self.harms: list[Harm] = []
        self.thaws: list[tuple[str, int]] = []
        self.launches_that_failed = 0
        self.workers: list[Worker] = []
        self.attendance = Attendance()
        self.doors: list[Doors] = []
        self._options = options
        self._folder = folder
        self._numbers = itertools.count(1)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._ended: set[Worker] = set()

    # -- what is done to one ------------------------------------------------------------------

    def start(self, doors: Doors, label: str = "", clock_seconds: float = 0.0) -> Worker:
        """Start a worker, without waiting for it, on a host whose clock is that much ahead."""
        database, broker = doors
        number = next(self._numbers)
        name = label or f"w{number}"
        options = replace(
            self._options,
            label=name,
            database=self._options.database.format(port=database.port),
            kafka={**self._options.kafka, "bootstrap.servers": f"127.0.0.1:{broker.port}"},
            clock_seconds=clock_seconds,
        )
        worker = Worker(options, self._folder / "logs" / f"{number}-{name}.log", "tests.chaos.worker")
        with self._lock:
            self.workers.append(worker)
        return worker

    def launch(self, doors: Doors, label: str = "", clock_seconds: float = 0.0) -> Worker:
        """Start a worker and wait until it has launched; again, when a server was down just then."""
        while True:
            worker = self.start(doors, label, clock_seconds)
            try:
                worker.wait_launched(LAUNCH_SECONDS)
                self.attendance.comes(worker)
                return worker
            except AssertionError:
                self.launches_that_failed += 1
                self.kill(worker)
                if self._closing.wait(0.5):
                    return worker

    def guest(self) -> Worker:
        """A member that comes for a while, by somebody else's ways."""
        return self.start(self.doors[len(self.workers) % len(self.doors)])

    def wait_launched(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            try:
                worker.wait_launched(LAUNCH_SECONDS)
                self.attendance.comes(worker)
            except AssertionError:
                self.launches_that_failed += 1
                self.kill(worker)

    def harm(self, worker: Worker) -> None:
        self.harms.append(Harm(worker.label, time.time_ns() // 1_000_000))

    def kill(self, worker: Worker) -> None:
        self._ended.add(worker)
        self.harm(worker)
        self.attendance.goes(worker)
        worker.kill()

    def stop(self, workers: Sequence[Worker]) -> None:
        """SIGTERM to these, all at once; each must end well, unless it is gone already."""
        leaving = [worker for worker in workers if worker.running]
        for worker in leaving:
            self.ask_to_stop(worker)
        for worker in leaving:
            self.wait_stopped(worker)

    def ask_to_stop(self, worker: Worker) -> None:
        """SIGTERM; what does not finish in time goes on elsewhere."""
        self._ended.add(worker)
        self.harm(worker)
        self.attendance.goes(worker)
        worker.terminate()

    def wait_stopped(self, worker: Worker) -> None:
        try:
            status = worker.wait_ended(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.findings.add(
                PROCESS, f"{worker.label} did not stop within {STOP_SECONDS:g} s: {tail(worker)}"
            )
            worker.kill()
        else:
            if status:
                self.findings.add(PROCESS, f"{worker.label} stopped with {status}: {tail(worker)}")

    def freeze(
        self, worker: Worker, rest: Callable[[float], None], seconds: float, then: Callable[[], object]
    ) -> None:
        """Stop it for a time; `then` is done when it has stopped."""
        worker.freeze()
        was_there = self.attendance.goes(worker)
        then()
        rest(seconds)
        self.thaws.append((worker.label, time.monotonic_ns()))
        worker.thaw()
        if was_there and worker not in self._ended:
            self.attendance.comes(worker)

    def died_by_itself(self, worker: Worker) -> bool:
        return not worker.running and worker not in self._ended

    def note_death(self, worker: Worker) -> None:
        self._ended.add(worker)
        self.harm(worker)
        self.attendance.goes(worker)
        self.findings.add(PROCESS, f"{worker.label} ended by itself: {tail(worker)}")

    def closing(self) -> None:
        self._closing.set()

    # -- the end ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for worker in self.workers:
            if worker.running:
                worker.process.kill()
            worker.process.wait(30)
            if worker.process.stdout is not None:
                worker.process.stdout.close()

    def executors(self, rows: Rows) -> tuple[Executors, int]:
        """What the checker has to know of them, and how many died though nothing was done to their process."""
        to_monotonic = time.monotonic_ns() - time.time_ns()
        harmed: set[int] = set()
        last_begin: dict[int, int] = {}
        unexplained = 0
        for number, label, started, ended, reason in rows.query(
            "SELECT id, label, started_at, ended_at, end_reason FROM {t}executors"
        ):
            explained = any(harm.label == label and started <= harm.at_ms for harm in self.harms)
            if explained:
                harmed.add(number)
            if ended is None:
                continue
            thaws = [at for name, at in self.thaws if name == label]
            began = started * 1_000_000 + to_monotonic
            death = max([ended * 1_000_000 + to_monotonic, *(at for at in thaws if at > began)])
            last_begin[number] = death + DEATH_SLACK_NS
            if reason != "stopped" and not explained:
                harmed.add(number)
                unexplained += 1
        return Executors(frozenset(harmed), last_begin, self.attendance.nobody_seconds), unexplained


def tail(worker: Worker) -> str:
    """The end of a worker's log."""
    return "\n".join(worker.log.read_text(errors="replace").splitlines()[-15:])
