"""Schedules, us and the peer: how late a schedule of each second is, and what many cost while none of them fires."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime
from typing import Any, cast

from benchmarks.contestants.common import (
    Executions,
    Outcome,
    Task,
    cpu_seconds,
    quantile,
    read_task,
    report,
)
from benchmarks.contestants.frameworks import Framework
from benchmarks.contestants.sleepers import IDLE_SECONDS, memory_mib, threads

CHUNK = 500
NEW_YEAR = "0 0 0 1 1 *"
SETTLE_SECONDS = 5.0


class Program:
    """One workflow for all schedules; those of the first part count themselves."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.framework = Framework(task)
        self.executions = Executions(task)
        self.lateness: list[float] = []
        self._lock = threading.Lock()
        self.workflow = self._async_workflow() if task.is_async else self._sync_workflow()

    def _sync_workflow(self) -> Any:
        @self.framework.api.workflow()
        def tick(scheduled_time: datetime, _context: Any) -> None:
            self._ticked(scheduled_time)

        return tick

    def _async_workflow(self) -> Any:
        @self.framework.api.workflow()
        async def tick(scheduled_time: datetime, _context: Any) -> None:
            self._ticked(scheduled_time)

        return tick

    def _ticked(self, scheduled_time: datetime) -> None:
        late = time.time() - scheduled_time.timestamp()
        with self._lock:
            if len(self.lateness) < self.task.count:
                self.lateness.append(late)
                self.executions.count()


def main() -> None:
    """Let a schedule fire each second; then make many that do not, and look."""
    task = read_task()
    program = Program(task)
    api = cast("Any", program.framework.api)
    api.launch()
    api.create_schedule(schedule_name="each second", workflow_fn=program.workflow, schedule="* * * * * *")
    program.executions.wait(task.timeout)
    api.delete_schedule("each second")
    metrics = {
        "late_p50_ms": quantile(program.lateness, 0.5) * 1000,
        "late_p99_ms": quantile(program.lateness, 0.99) * 1000,
        **_idle(task, program, api),
    }
    report(Outcome(cpu_seconds=cpu_seconds(), metrics=metrics))
    # Nothing waits for the peer's threads, one for each schedule.
    os._exit(0)


def _idle(task: Task, program: Program, api: Any) -> dict[str, float]:
    """What the process uses with many schedules, beyond what it uses with none."""
    time.sleep(SETTLE_SECONDS)
    alone, threads_alone, memory_alone = _share(), threads(), memory_mib()
    count = task.number("schedules")
    began = time.perf_counter()
    for first in range(0, count, CHUNK):
        api.apply_schedules(
            [
                {
                    "schedule_name": f"idle {number}",
                    "workflow_fn": program.workflow,
                    "schedule": NEW_YEAR,
                    "context": None,
                }
                for number in range(first, min(first + CHUNK, count))
            ]
        )
    made = time.perf_counter() - began
    time.sleep(SETTLE_SECONDS)
    return {
        "schedules": count,
        "idle_cpu_percent": _share() - alone,
        "threads": threads() - threads_alone,
        "memory_mib": memory_mib() - memory_alone,
        "made_per_second": count / made,
    }


def _share() -> float:
    cpu = cpu_seconds()
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds() - cpu) / IDLE_SECONDS * 100


if __name__ == "__main__":
    main()
