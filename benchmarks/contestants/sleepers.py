"""Sleeping workflows, us and the peer: what they cost while nothing happens, and when they wake.

Many sleep for a day. When they all do, the process is looked at while it is idle; then some
more start and sleep until times that are spread over some seconds, and say how late they woke.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.contestants.common import (
    Executions,
    Outcome,
    Task,
    ask,
    cpu_seconds,
    quantile,
    read_task,
    report,
)
from benchmarks.contestants.frameworks import Framework

DAY = 86_400.0
STARTERS = 64
CHUNK = 1_000
IDLE_SECONDS = 10.0
SETTLE_SECONDS = 3.0
"""How long what has been started may still be putting itself to sleep."""
LEAD_SECONDS = 4.0
"""How long after its start the first of those that wake is due: longer than a wait stays in memory."""


class Program:
    """The workflow; what wakes is counted in a step then, since waking may run the handler again."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.framework = Framework(task)
        self.wakers = task.number("wakers")
        self.executions = Executions(task, task.count + self.wakers)
        self.lateness: list[float] = []
        self.awake = threading.Event()
        # The peer's workflows run on the loop that starts them, so it goes on.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.sleeper = self._async_sleeper() if task.is_async else self._sync_sleeper()

    def _sync_sleeper(self) -> Any:
        api = self.framework.api

        @api.step()
        def count() -> None:
            self.executions.count()

        @api.workflow()
        def sleeper(due: float, wakes: bool) -> None:
            if not wakes:
                self.executions.count()
            api.sleep(due - time.time())
            self._woke(due)
            count()

        return sleeper

    def _async_sleeper(self) -> Any:
        api = self.framework.api

        @api.step()
        async def count() -> None:
            self.executions.count()

        @api.workflow()
        async def sleeper(due: float, wakes: bool) -> None:
            if not wakes:
                self.executions.count()
            await api.sleep_async(due - time.time())
            self._woke(due)
            await count()

        return sleeper

    def _woke(self, due: float) -> None:
        self.lateness.append(time.time() - due)
        if len(self.lateness) == self.wakers:
            self.awake.set()

    def start(self, dues: list[float], *, wakes: bool) -> None:
        """Start a workflow for each time, many at once, and keep no handle."""
        if self.task.is_async:
            asyncio.run_coroutine_threadsafe(self._start_async(dues, wakes), self._loop).result()
            return
        start = self.framework.api.start_workflow
        with ThreadPoolExecutor(STARTERS) as pool:
            for first in range(0, len(dues), CHUNK):
                list(pool.map(lambda due: start(self.sleeper, due, wakes), dues[first : first + CHUNK]))

    async def _start_async(self, dues: list[float], wakes: bool) -> None:
        start = self.framework.api.start_workflow_async
        for first in range(0, len(dues), CHUNK):
            await asyncio.gather(*(start(self.sleeper, due, wakes) for due in dues[first : first + CHUNK]))


def main() -> None:
    """Put workflows to sleep, look, and wake some."""
    task = read_task()
    program = Program(task)
    program.framework.api.launch()
    before = memory_mib()
    began = time.perf_counter()
    program.start([time.time() + DAY] * task.count, wakes=False)
    program.executions.wait(task.timeout, task.count)
    _wait_for_rows(program, task)
    asleep = time.perf_counter()
    time.sleep(SETTLE_SECONDS)
    metrics = {
        "put_to_sleep_per_second": task.count / (asleep - began),
        "memory_mib": memory_mib() - before,
        "memory_kib_each": (memory_mib() - before) * 1024 / task.count,
        "threads": threads(),
        **_idle(),
        **_wake(program),
    }
    report(Outcome(cpu_seconds=cpu_seconds(), metrics=metrics))
    # Neither waits: the peer's sleepers hold threads that nothing ends.
    os._exit(0)


def _wait_for_rows(program: Program, task: Task) -> None:
    """Wait until all that can leave memory has."""
    if not program.framework.is_ours:
        return
    table = program.framework.table()
    parked = f"SELECT count(*) FROM {table} WHERE wake_at IS NOT NULL"
    deadline = time.perf_counter() + task.timeout
    while ask(task.url, parked) < task.count:
        if time.perf_counter() > deadline:
            message = "the sleepers did not leave memory in time"
            raise TimeoutError(message)
        time.sleep(0.2)


def _idle() -> dict[str, float]:
    cpu = cpu_seconds()
    time.sleep(IDLE_SECONDS)
    return {"idle_cpu_percent": (cpu_seconds() - cpu) / IDLE_SECONDS * 100}


def _wake(program: Program) -> dict[str, float]:
    if not program.wakers:
        return {}
    # Far enough apart that one wakes while the others sleep.
    spread = max(1.0, program.wakers / program.task.number("wakes_per_second", 100))
    first = time.time() + LEAD_SECONDS + program.wakers / 500
    program.start([first + spread * number / program.wakers for number in range(program.wakers)], wakes=True)
    if not program.awake.wait(program.task.timeout):
        message = f"{len(program.lateness)} of {program.wakers} woke in time"
        raise TimeoutError(message)
    program.executions.wait(program.task.timeout)
    late = program.lateness
    return {f"late_p{name}_ms": quantile(late, part) * 1000 for name, part in (("50", 0.5), ("99", 0.99))}


def memory_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def threads() -> float:
    """Return how many threads this process has, those of C code too."""
    return len(list(Path("/proc/self/task").iterdir()))


if __name__ == "__main__":
    main()
