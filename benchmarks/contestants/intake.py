"""A Kafka record to a handler with some steps, us and the peer: the same program, another import."""

from __future__ import annotations

from typing import Any

from benchmarks.contestants.common import Executions, Task, measure, read_task, report
from benchmarks.contestants.frameworks import Framework
from benchmarks.contestants.history import DURABLE


def main() -> None:
    """Run the framework on the task."""
    task = read_task()
    framework = Framework(task)
    executions = Executions(task)
    (register_async if task.is_async else register_sync)(framework, task, executions)
    framework.api.launch()
    durable = DURABLE if "history" in task.options else framework.succeeded()
    report(measure(task, executions, durable))
    framework.api.destroy()


def consumer(task: Task) -> dict[str, Any]:
    """Return what librdkafka is told; all contestants share it."""
    largest = 4 * 2**20
    return {
        "bootstrap.servers": task.kafka,
        "group.id": f"group-{task.topic}",
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": largest,
    }


def ordering(task: Task) -> dict[str, Any]:
    """Return the decorator's argument; nothing for unordered, which is the default of both."""
    word = task.text("ordering", "none")
    return {} if word == "none" else {"ordering": word}


def register_sync(framework: Framework, task: Task, executions: Executions) -> None:
    """Declare the consumer with a sync handler."""
    api = framework.api
    steps = range(task.number("steps", 1))

    @api.step()
    def measure_value(value: bytes) -> int:
        return len(value)

    @api.kafka_consumer(consumer(task), [task.topic], **ordering(task))
    @api.workflow()
    def handle(message: Any) -> None:
        executions.count()
        for _ in steps:
            measure_value(message.value)


def register_async(framework: Framework, task: Task, executions: Executions) -> None:
    """Declare the consumer with an async handler."""
    api = framework.api
    steps = range(task.number("steps", 1))

    @api.step()
    async def measure_value(value: bytes) -> int:
        return len(value)

    @api.kafka_consumer(consumer(task), [task.topic], **ordering(task))
    @api.workflow()
    async def handle(message: Any) -> None:
        executions.count()
        for _ in steps:
            await measure_value(message.value)


if __name__ == "__main__":
    main()
