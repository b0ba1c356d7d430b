"""Us: a Kafka record to a handler with one step, as the peer's program has it.

The same program as `dbos_kafka`, with another import and another table to ask.
"""

from __future__ import annotations

from benchmarks.contestants.common import (
    Executions,
    Task,
    measure,
    read_task,
    report,
)
from dbos_events import DBOS, DBOSConfig, KafkaMessage

DURABLE = "SELECT count(*) FROM dbos_events.workflows WHERE status = 'SUCCESS'"


def main() -> None:
    """Run dbos_events on the task."""
    task = read_task()
    executions = Executions(task.events)
    config: DBOSConfig = {
        "name": "benchmark",
        "system_database_url": task.url,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    (_register_async if task.is_async else _register_sync)(task, executions)
    DBOS.launch()
    report(measure(task, executions, DURABLE))
    DBOS.destroy()


def _consumer(task: Task) -> dict[str, str]:
    return {
        "bootstrap.servers": task.bootstrap,
        "group.id": f"group-{task.topic}",
        "auto.offset.reset": "earliest",
    }


def _register_sync(task: Task, executions: Executions) -> None:
    @DBOS.step()
    def measure_value(value: bytes) -> int:
        return len(value)

    @DBOS.kafka_consumer(_consumer(task), [task.topic], ordering=task.ordering)
    @DBOS.workflow()
    def handle(message: KafkaMessage) -> None:
        executions.count()
        measure_value(_value(message))


def _register_async(task: Task, executions: Executions) -> None:
    @DBOS.step()
    async def measure_value(value: bytes) -> int:
        return len(value)

    @DBOS.kafka_consumer(_consumer(task), [task.topic], ordering=task.ordering)
    @DBOS.workflow()
    async def handle(message: KafkaMessage) -> None:
        executions.count()
        await measure_value(_value(message))


def _value(message: KafkaMessage) -> bytes:
    if not isinstance(message.value, bytes):
        raise TypeError(message.value)
    return message.value


if __name__ == "__main__":
    main()
