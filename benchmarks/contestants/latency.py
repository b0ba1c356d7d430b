"""From a record's due time to its handler, with a producer that never waits for the consumer.

`quiet` sends a few records a second. `half` first lets the contestant work off a backlog, and then sends
at half of the rate that this showed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks.contestants import producer
from benchmarks.contestants.common import (
    Executions,
    Outcome,
    Task,
    cpu_seconds,
    latencies,
    read_task,
    report,
)
from benchmarks.contestants.frameworks import Framework
from benchmarks.contestants.intake import consumer

QUIET_RATE = 5.0
WARM_UP = 3
BACKLOG_RATE = 100_000.0


class Clock:
    """Notes each execution and how long after its record was due it came."""

    def __init__(self, task: Task) -> None:
        self.warm_up = WARM_UP + task.number("backlog")
        self.executions = Executions(task, task.count + self.warm_up)
        self.seconds: list[float] = []
        self.ends: list[float] = []
        self._lock = threading.Lock()

    def note(self, value: bytes) -> None:
        """Note an execution of the handler."""
        now = time.perf_counter()
        with self._lock:
            self.seconds.append(now - producer.due_of(value))
            self.ends.append(now)
        self.executions.count()


def main() -> None:
    """Measure the framework."""
    task = read_task()
    framework = Framework(task)
    clock = Clock(task)
    (_register_async if task.is_async else _register_sync)(framework, task, clock)
    framework.api.launch()
    report(measure_latency(task, clock))
    framework.api.destroy()


def measure_latency(task: Task, clock: Clock) -> Outcome:
    """Send records, wait for their handlers, and tell how long they took."""
    send_records(task, WARM_UP, QUIET_RATE)
    clock.executions.wait(task.timeout, WARM_UP)
    rate = QUIET_RATE
    backlog = task.number("backlog")
    if backlog:
        send_records(task, backlog, BACKLOG_RATE)
        clock.executions.wait(task.timeout, clock.warm_up)
        rate = half_rate(clock.ends[WARM_UP:])
    send_records(task, task.count, rate)
    clock.executions.wait(task.timeout)
    measured = clock.seconds[clock.warm_up :]
    return Outcome(cpu_seconds=cpu_seconds(), metrics={**latencies(measured), "sent_per_second": rate})


def half_rate(ends: list[float]) -> float:
    """Return half of the rate at which these handlers ran, once the first third had.

    The first ones come out of empty buffers into empty places, faster than any that follow.
    """
    steady = sorted(ends)[len(ends) // 3 :]
    return (len(steady) - 1) / max(1e-3, steady[-1] - steady[0]) / 2


def send_records(task: Task, count: int, rate: float) -> None:
    """Run the producer as a process of its own."""
    arguments = Task(**{**vars(task), "count": count}).with_options(rate=rate)
    command = [sys.executable, "-m", producer.__name__, arguments.to_json()]
    subprocess.run(command, check=True, timeout=task.timeout)


def _register_sync(framework: Framework, task: Task, clock: Clock) -> None:
    @framework.api.kafka_consumer(consumer(task), [task.topic])
    @framework.api.workflow()
    def handle(message: Any) -> None:
        clock.note(message.value)


def _register_async(framework: Framework, task: Task, clock: Clock) -> None:
    @framework.api.kafka_consumer(consumer(task), [task.topic])
    @framework.api.workflow()
    async def handle(message: Any) -> None:
        clock.note(message.value)


if __name__ == "__main__":
    main()
