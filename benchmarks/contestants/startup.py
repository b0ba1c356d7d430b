"""How long a process takes to be ready on a schema that is there, us and the peer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median

from benchmarks.contestants.common import Executions, Outcome, Task, read_task, report, say
from benchmarks.contestants.frameworks import Framework


def main() -> None:
    """Start a process `count` times and tell the median of each part."""
    task = read_task()
    if task.text("role") == "starter":
        _start(task)
        return
    executions = Executions(task)
    _run(task)  # makes the schema
    parts: dict[str, list[float]] = {}
    for _ in range(task.count):
        executions.count()
        for name, seconds in _run(task).items():
            parts.setdefault(f"{name}_ms", []).append(seconds * 1000)
    report(Outcome(metrics={name: median(values) for name, values in parts.items()}))


def _run(task: Task) -> dict[str, float]:
    began = time.perf_counter()
    command = [sys.executable, "-m", __spec__.name, task.with_options(role="starter").to_json()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    line = process.stdout.readline()
    ready = time.perf_counter() - began
    process.communicate(timeout=task.timeout)
    measured: dict[str, float] = json.loads(line)
    return {**measured, "ready": ready}


def _start(task: Task) -> None:
    began = time.perf_counter()
    __import__(task.framework)
    imported = time.perf_counter()
    framework = Framework(task)

    @framework.api.workflow()
    def work() -> None: ...

    framework.api.launch()
    launched = time.perf_counter()
    say(json.dumps({"import": imported - began, "launch": launched - imported}))
    sys.stdin.read()
    framework.api.destroy()


if __name__ == "__main__":
    main()
