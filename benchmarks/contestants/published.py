"""Values and streams, us and the peer: from setting to getting, from writing to reading, and how much of it a second."""

from __future__ import annotations

import time

from benchmarks.contestants.common import Executions, Outcome, Task, cpu_seconds, quantile, read_task, report
from benchmarks.contestants.frameworks import Framework

VALUES = 100
PAUSE = 0.02


class Program:
    """Workflows that say when they published."""

    def __init__(self, framework: Framework) -> None:
        self.api = api = framework.api

        @api.workflow()
        def sets() -> None:
            api.sleep(PAUSE)
            api.set_event("key", time.time())

        @api.workflow()
        def writes(count: int, pause: float) -> None:
            for number in range(count):
                api.write_stream("stream", (number, time.time()))
                if pause:
                    api.sleep(pause)
            api.close_stream("stream")

        self.sets, self.writes = sets, writes

    def values(self, count: int) -> list[float]:
        """How late each value is for who waits for it, in seconds."""
        late = []
        for _ in range(count):
            handle = self.api.start_workflow(self.sets)
            at = self.api.get_event(handle.workflow_id, "key")
            late.append(time.time() - at)
        return late

    def stream(self, count: int, pause: float, executions: Executions | None = None) -> list[float]:
        """How late each entry is for a reader that is there all the time."""
        handle = self.api.start_workflow(self.writes, count, pause)
        late = []
        for _, at in self.api.read_stream(handle.workflow_id, "stream"):
            late.append(time.time() - at)
            if executions is not None:
                executions.count()
        return late


def main() -> None:
    """A stream as fast as it can be written; one with pauses; values one after the other."""
    task: Task = read_task()
    framework = Framework(task)
    executions = Executions(task)
    program = Program(framework)
    framework.api.launch()
    program.stream(10, 0)
    began = time.perf_counter()
    program.stream(task.count, 0, executions)
    seconds = time.perf_counter() - began
    slow = program.stream(VALUES, PAUSE / 4)
    values = program.values(VALUES)
    metrics = {
        "entries_per_second": task.count / seconds,
        "entry_p50_ms": quantile(slow, 0.5) * 1000,
        "entry_p99_ms": quantile(slow, 0.99) * 1000,
        "value_p50_ms": quantile(values, 0.5) * 1000,
        "value_p99_ms": quantile(values, 0.99) * 1000,
    }
    framework.api.destroy()
    report(Outcome(cpu_seconds=cpu_seconds(), metrics=metrics))


if __name__ == "__main__":
    main()
