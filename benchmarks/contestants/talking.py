"""Messages, us and the peer: how soon one arrives, how fast two workflows answer each other, how many a mailbox takes."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contestants.common import Executions, Outcome, Task, cpu_seconds, latencies, read_task, report
from benchmarks.contestants.frameworks import Framework

ARRIVAL, ANSWERS, MAILBOX = range(3)
"""What is measured: the option `what` of a workload."""

SENDERS = 4
MESSAGES = 10
PAUSE = 0.01
WARM_UP = 5


def main() -> None:
    """Measure what the task asks for; each receipt is one execution."""
    task = read_task()
    framework = Framework(task)
    what = task.number("what")
    measured = (arrival, answers, mailbox)[what]
    outcome = measured(framework, task, Executions(task, task.count + (WARM_UP if what == ARRIVAL else 0)))
    report(outcome)
    framework.api.destroy()


def _start(framework: Framework, task: Task, workflow: Any, *args: Any) -> str:
    """Start a workflow on the colour's way; gives its id."""
    if not task.is_async:
        return str(framework.api.start_workflow(workflow, *args).workflow_id)

    async def start() -> str:
        return str((await framework.api.start_workflow_async(workflow, *args)).workflow_id)

    return asyncio.run(start())


def _receiver(framework: Framework, task: Task, note: Any) -> Any:
    """A workflow that receives so many messages and notes each."""
    api = framework.api
    if task.is_async:

        @api.workflow()
        async def receive_async(count: int) -> None:
            for _ in range(count):
                await api.recv_async(timeout_seconds=task.timeout)
                note()

        return receive_async

    @api.workflow()
    def receive(count: int) -> None:
        for _ in range(count):
            api.recv(timeout_seconds=task.timeout)
            note()

    return receive


def arrival(framework: Framework, task: Task, executions: Executions) -> Outcome:
    """From the call of `send` outside of workflows to the return of the `recv` that waits for it."""
    arrived = threading.Event()
    at: list[float] = []

    def note() -> None:
        at.append(time.perf_counter())
        executions.count()
        arrived.set()

    workflow = _receiver(framework, task, note)
    framework.api.launch()
    count = task.count + WARM_UP
    receiver = _start(framework, task, workflow, count)
    time.sleep(0.5)
    seconds = []
    for number in range(count):
        arrived.clear()
        time.sleep(PAUSE)
        sent = time.perf_counter()
        framework.api.send(receiver, number)
        arrived.wait(task.timeout)
        seconds.append(at[-1] - sent)
    return Outcome(cpu_seconds=cpu_seconds(), metrics=latencies(seconds[WARM_UP:]))


def answers(framework: Framework, task: Task, executions: Executions) -> Outcome:
    """Two workflows, each of which waits for the other's message; an execution is one round."""
    api = framework.api
    first, second = (str(uuid.uuid4()) for _ in range(2))
    module = framework.module

    talk = _talker(framework, task, executions)
    api.launch()
    with module.SetWorkflowID(second):
        _start(framework, task, talk, first, False)
    began = time.perf_counter()
    with module.SetWorkflowID(first):
        _start(framework, task, talk, second, True)
    executions.wait(task.timeout)
    return Outcome(began, time.perf_counter(), task.count, cpu_seconds())


def _talker(framework: Framework, task: Task, executions: Executions) -> Any:
    api = framework.api
    if task.is_async:

        @api.workflow()
        async def talk_async(other: str, begins: bool) -> None:
            for number in range(task.count):
                if begins:
                    await api.send_async(other, number)
                await api.recv_async(timeout_seconds=task.timeout)
                if begins:
                    executions.count()
                else:
                    await api.send_async(other, number)

        return talk_async

    @api.workflow()
    def talk(other: str, begins: bool) -> None:
        for number in range(task.count):
            if begins:
                api.send(other, number)
            api.recv(timeout_seconds=task.timeout)
            if begins:
                executions.count()
            else:
                api.send(other, number)

    return talk


def mailbox(framework: Framework, task: Task, executions: Executions) -> Outcome:
    """Workflows that wait, and threads that send each of them ten messages; until all are received."""
    workflow = _receiver(framework, task, executions.count)
    framework.api.launch()
    receivers = [_start(framework, task, workflow, MESSAGES) for _ in range(task.count // MESSAGES)]
    time.sleep(0.5)

    def send(mine: list[str]) -> None:
        for number in range(MESSAGES):
            for receiver in mine:
                framework.api.send(receiver, number)

    began = time.perf_counter()
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(send, [receivers[number::SENDERS] for number in range(SENDERS)]))
    sent = time.perf_counter()
    executions.wait(task.timeout)
    metrics = {"sent_per_second": task.count / (sent - began)}
    return Outcome(began, time.perf_counter(), task.count, cpu_seconds(), metrics=metrics)


if __name__ == "__main__":
    main()
