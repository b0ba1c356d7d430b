"""Parked receivers: what they cost while nothing comes, and how fast messages to all of them are received.

Each workflow waits for one message for a day. When all of them are rows, the process is looked at while it is idle; then
threads send each of them a message, many in one call, until all have ended.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contestants.common import Executions, Outcome, Task, ask, cpu_seconds, read_task, report
from benchmarks.contestants.frameworks import Framework
from benchmarks.contestants.sleepers import CHUNK, DAY, IDLE_SECONDS, STARTERS, memory_mib, threads

SENDERS = 4
AT_ONCE = 500
"""Messages in one call."""


class Program:
    """The workflow, and the ids of those that wait."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.framework = Framework(task)
        self.executions = Executions(task)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._receiver = self._async_receiver() if task.is_async else self._sync_receiver()

    def _sync_receiver(self) -> Any:
        api = self.framework.api

        @api.workflow()
        def receive() -> None:
            assert api.recv(timeout_seconds=DAY) is not None
            self.executions.count()

        return receive

    def _async_receiver(self) -> Any:
        api = self.framework.api

        @api.workflow()
        async def receive() -> None:
            assert await api.recv_async(timeout_seconds=DAY) is not None
            self.executions.count()

        return receive

    def start(self, ids: list[str]) -> None:
        """Start a receiver under each id, many at once, and keep no handle."""
        for first in range(0, len(ids), CHUNK):
            some = ids[first : first + CHUNK]
            if self.task.is_async:
                asyncio.run_coroutine_threadsafe(self._start_async(some), self._loop).result()
            else:
                with ThreadPoolExecutor(STARTERS) as pool:
                    list(pool.map(self._start, some))

    def _start(self, id_: str) -> None:
        with self.framework.module.SetWorkflowID(id_):
            self.framework.api.start_workflow(self._receiver)

    async def _start_async(self, ids: list[str]) -> None:
        async def start(id_: str) -> None:
            with self.framework.module.SetWorkflowID(id_):
                await self.framework.api.start_workflow_async(self._receiver)

        await asyncio.gather(*(start(id_) for id_ in ids))

    def send(self, ids: list[str]) -> None:
        """Send each of them a message, many in one call."""
        for first in range(0, len(ids), AT_ONCE):
            self.framework.api.send_bulk(
                [self.framework.module.SendMessage(id_, 1) for id_ in ids[first : first + AT_ONCE]]
            )

    def wait_for_rows(self) -> None:
        """Wait until all of them are rows."""
        parked = f"SELECT count(*) FROM {self.framework.table()} WHERE awaits IS NOT NULL AND owner IS NULL"
        deadline = time.perf_counter() + self.task.timeout
        while ask(self.task.url, parked) < self.task.count:
            if time.perf_counter() > deadline:
                message = "the receivers did not leave memory in time"
                raise TimeoutError(message)
            time.sleep(0.2)


def main() -> None:
    """Park receivers, look, and send to all of them."""
    task = read_task()
    program = Program(task)
    program.framework.api.launch()
    before = memory_mib()
    began = time.perf_counter()
    ids = [f"receiver-{number}" for number in range(task.count)]
    program.start(ids)
    program.wait_for_rows()
    parked = time.perf_counter()
    gc.collect()
    metrics = {
        "parked_per_second": task.count / (parked - began),
        "memory_mib": memory_mib() - before,
        "threads": threads(),
    }
    cpu = cpu_seconds()
    time.sleep(IDLE_SECONDS)
    metrics["idle_cpu_percent"] = (cpu_seconds() - cpu) / IDLE_SECONDS * 100
    began = time.perf_counter()
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(program.send, [ids[number::SENDERS] for number in range(SENDERS)]))
    metrics["sent_per_second"] = task.count / (time.perf_counter() - began)
    program.executions.wait(task.timeout)
    report(Outcome(began, time.perf_counter(), task.count, cpu_seconds(), metrics=metrics))
    os._exit(0)


if __name__ == "__main__":
    main()
