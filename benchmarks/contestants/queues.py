"""A queue, us and the peer: how soon what is enqueued starts when all is idle, and how fast it drains.

`across`: one process enqueues and another one, which it starts, runs the workflows.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from benchmarks.contestants.common import (
    Executions,
    Outcome,
    Task,
    cpu_seconds,
    latencies,
    measure,
    read_task,
    report,
    say,
)
from benchmarks.contestants.frameworks import PEER, Framework

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE = "benchmark"
BUSY = "busy"
ENQUEUERS = 32
WARM_UP = 3
LEAST_PAUSE = 0.05


PARTITIONS = 16
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "priority": {},
    "partitions": {"partition_concurrency": 4},
}


def _options(flavour: str, number: int) -> dict[str, Any]:
    """The options of one enqueue."""
    if flavour == "priority":
        return {"priority": 1 + number % 10}
    return {"queue_partition_key": f"p{number % PARTITIONS}"} if flavour == "partitions" else {}


class Program:
    """The workflow, and when each of its executions started."""

    def __init__(self, task: Task, **settings: int) -> None:
        self.framework = Framework(task, **settings)
        self.executions = Executions(task)
        self.waits: list[float] = []
        self.started = threading.Event()
        self.released = threading.Event()

        @self.framework.api.workflow()
        def work(enqueued: int) -> int:
            if enqueued >= 0:
                self.executions.count()
            return self._note(abs(enqueued))

        @self.framework.api.workflow()
        def keep_busy() -> None:
            self.started.set()
            self.released.wait()

        self.work, self.keep_busy = work, keep_busy

    def _note(self, enqueued: int) -> int:
        waited = time.perf_counter_ns() - enqueued
        self.waits.append(waited / 1e9)
        self.started.set()
        return waited


def main() -> None:
    """Do what the task says: `drain`, `pick-up` in one process, or `serve` as the other process."""
    task = read_task()
    mode = task.text("mode")
    if mode == "serve":
        _serve(task)
    elif mode == "drain":
        report(_drain(task))
    else:
        report(_pick_up_across(task) if mode == "across" else _pick_up(task))


def _drain(task: Task) -> Outcome:
    program = Program(task)
    framework = program.framework
    framework.api.launch()
    flavour = task.text("flavour", "plain")
    enqueue = framework.serve_queue(QUEUE, **SETTINGS[flavour])

    def enqueue_one(number: int) -> None:
        with framework.with_options(**_options(flavour, number)):
            enqueue(program.work, time.perf_counter_ns())

    started = time.perf_counter()
    with ThreadPoolExecutor(ENQUEUERS) as pool:
        for _ in pool.map(enqueue_one, range(task.count)):
            pass
    enqueued = time.perf_counter()
    outcome = measure(task, program.executions, framework.succeeded())
    framework.api.destroy()
    return Outcome(
        started,
        outcome.ended,
        task.count,
        outcome.cpu_seconds,
        {"enqueued_per_second": task.count / (enqueued - started)},
    )


def _pick_up(task: Task) -> Outcome:
    program = Program(task)
    framework = program.framework
    framework.api.launch()
    enqueue = framework.serve_queue(QUEUE)
    for number in range(WARM_UP + task.count):
        program.started.clear()
        now = time.perf_counter_ns()
        enqueue(program.work, now if number >= WARM_UP else -now)
        program.started.wait(task.timeout)
        time.sleep(_pause(task))
    framework.api.destroy()
    return Outcome(cpu_seconds=cpu_seconds(), metrics=latencies(program.waits[WARM_UP:]))


def _pick_up_across(task: Task) -> Outcome:
    server = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, task.with_options(process=1, mode="serve").to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdout.readline()
    program, enqueue = _program_that_only_enqueues(task)
    waits = []
    for number in range(WARM_UP + task.count):
        now = time.perf_counter_ns()
        enqueue(program.work, now if number >= WARM_UP else -now)
        waits.append(float(server.stdout.readline()))
        time.sleep(_pause(task))
    server.stdin.close()
    server.wait(task.timeout)
    program.released.set()
    program.framework.api.destroy()
    return Outcome(cpu_seconds=cpu_seconds(), metrics=latencies(waits[WARM_UP:]))


def _program_that_only_enqueues(task: Task) -> tuple[Program, Callable[..., Any]]:
    if task.framework == PEER:
        program = Program(task)
        cast("Any", program.framework.api).listen_queues([])
        program.framework.api.launch()
        return program, program.framework.enqueue(QUEUE)
    # Whoever declares a queue serves it, so this process has its one place taken.
    program = Program(task, max_in_flight=1)
    program.framework.api.launch()
    program.framework.serve_queue(BUSY)(program.keep_busy)
    program.started.wait(task.timeout)
    return program, program.framework.serve_queue(QUEUE)


def _serve(task: Task) -> None:
    program = Program(task)
    program.framework.api.launch()
    program.framework.serve_queue(QUEUE)
    say("ready")
    threading.Thread(target=_tell, args=(program,), daemon=True).start()
    sys.stdin.read()
    program.framework.api.destroy()


def _tell(program: Program) -> None:
    told = 0
    while True:
        program.started.wait()
        program.started.clear()
        while told < len(program.waits):
            say(str(program.waits[told]))
            told += 1


def _pause(task: Task) -> float:
    """Give the peer's poll no phase: it comes at any moment of its interval."""
    return LEAST_PAUSE + random.random() * task.number("pause_ms", 200) / 1000


if __name__ == "__main__":
    main()
