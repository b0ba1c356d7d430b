"""Steps without a broker, us and the peer: one workflow's in sequence, or those of many workflows at once."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contestants.common import Executions, Outcome, Task, cpu_seconds, measure, read_task, report
from benchmarks.contestants.frameworks import Framework

STARTERS = 32


def main() -> None:
    """Run `count` workflows with `steps` steps each; one that is alone is called, not started."""
    task = read_task()
    framework = Framework(task)
    steps = task.number("steps")
    executions = Executions(task, task.count * steps)
    run = _async_workflow if task.is_async else _sync_workflow
    workflow = run(framework, executions, steps)
    framework.api.launch()
    began = time.perf_counter()
    if task.is_async:
        asyncio.run(_run_async(framework, task, workflow))
    else:
        _run_sync(framework, task, workflow)
    outcome = measure(task, executions, framework.succeeded(), task.count * steps)
    framework.api.destroy()
    report(Outcome(began, outcome.ended, outcome.units, cpu_seconds()))


def _sync_workflow(framework: Framework, executions: Executions, steps: int) -> Any:
    @framework.api.step()
    def step(number: int) -> int:
        executions.count()
        return number + 1

    @framework.api.workflow()
    def workflow() -> int:
        number = 0
        for _ in range(steps):
            number = step(number)
        return number

    return workflow


def _async_workflow(framework: Framework, executions: Executions, steps: int) -> Any:
    @framework.api.step()
    async def step(number: int) -> int:
        executions.count()
        return number + 1

    @framework.api.workflow()
    async def workflow() -> int:
        number = 0
        for _ in range(steps):
            number = await step(number)
        return number

    return workflow


def _run_sync(framework: Framework, task: Task, workflow: Any) -> None:
    if task.count == 1:
        workflow()
        return
    start = framework.api.start_workflow
    with ThreadPoolExecutor(STARTERS) as pool:
        handles = list(pool.map(lambda _: start(workflow), range(task.count)))
    for handle in handles:
        handle.get_result()


async def _run_async(framework: Framework, task: Task, workflow: Any) -> None:
    if task.count == 1:
        await workflow()
        return
    start = framework.api.start_workflow_async
    handles = await asyncio.gather(*(start(workflow) for _ in range(task.count)))
    await asyncio.gather(*(handle.get_result() for handle in handles))


if __name__ == "__main__":
    main()
