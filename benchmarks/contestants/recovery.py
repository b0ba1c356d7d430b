"""Crash and recovery, us and the peer: a process is killed with unfinished workflows, the next one ends them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

from benchmarks.contestants.common import (
    Executions,
    Outcome,
    Task,
    ask,
    cpu_seconds,
    read_task,
    report,
    say,
    wait_durable,
)
from benchmarks.contestants.frameworks import Framework

CHUNK = 500
STEPS = 2
VERSION = "1"
"""Of both processes: they run the same code."""


def main() -> None:
    """Leave `count` workflows unfinished in a process that is killed, and end them in this one."""
    task = read_task()
    if task.text("role") == "victim":
        asyncio.run(_begin(task))
        return
    _leave_unfinished(task)
    framework, executions, _ = _program(task, finishes=True)
    began = time.perf_counter()
    framework.api.launch()
    launched = time.perf_counter()
    executions.wait(task.timeout, STEPS * task.count)
    wait_durable(task, framework.succeeded(), task.count, began + task.timeout)
    ended = time.perf_counter()
    framework.api.destroy()
    report(
        Outcome(
            began,
            ended,
            task.count,
            cpu_seconds(),
            {"recovery_seconds": ended - began, "launch_seconds": launched - began},
        )
    )


def _program(task: Task, *, finishes: bool) -> tuple[Framework, Executions, Any]:
    framework = Framework(task, application_version=VERSION)
    executions = Executions(task, STEPS * task.count)

    @framework.api.step()
    async def step(number: int) -> int:
        executions.count()
        return number + 1

    @framework.api.workflow()
    async def workflow() -> int:
        number = await step(0)
        if not finishes:
            await asyncio.Event().wait()
        return await step(number)

    return framework, executions, workflow


def _leave_unfinished(task: Task) -> None:
    victim = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, task.with_options(process=1, role="victim").to_json()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert victim.stdout is not None
    try:
        while "unfinished" not in (line := victim.stdout.readline()):
            if not line:
                raise RuntimeError("the process that is to be killed ended by itself")
    finally:
        victim.kill()
        victim.wait()


async def _begin(task: Task) -> None:
    framework, executions, workflow = _program(task, finishes=False)
    framework.api.launch()
    start = framework.api.start_workflow_async
    for first in range(0, task.count, CHUNK):
        await asyncio.gather(*(start(workflow) for _ in range(min(CHUNK, task.count - first))))
    await asyncio.to_thread(executions.wait, task.timeout, task.count)
    await asyncio.to_thread(_wait_for_checkpoints, task, framework)
    say("unfinished")
    await asyncio.Event().wait()


def _wait_for_checkpoints(task: Task, framework: Framework) -> None:
    table = framework.table("checkpoints" if framework.is_ours else "operation_outputs")
    while ask(task.url, f"SELECT count(*) FROM {table}") < task.count:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
