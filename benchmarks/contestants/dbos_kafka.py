"""The peer, DBOS Transact: a Kafka record to a handler with one step.

Runs in an environment of its own, where `dbos` and `confluent-kafka` are installed.
"""

# The peer is not installed beside us.
# mypy: disable-error-code="import-not-found, untyped-decorator"

from __future__ import annotations

from dbos import DBOS, DBOSConfig, KafkaMessage

from benchmarks.contestants.common import (
    Executions,
    Task,
    measure,
    read_task,
    report,
)

DURABLE = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"


def main() -> None:
    """Run the peer on the task."""
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

    @DBOS.kafka_consumer(
        _consumer(task), [task.topic], ordering="partition" if task.ordering == "partition" else None
    )
    @DBOS.workflow()
    def handle(message: KafkaMessage) -> None:
        executions.count()
        measure_value(_value(message))


def _register_async(task: Task, executions: Executions) -> None:
    @DBOS.step()
    async def measure_value(value: bytes) -> int:
        return len(value)

    @DBOS.kafka_consumer(
        _consumer(task), [task.topic], ordering="partition" if task.ordering == "partition" else None
    )
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
