"""What a careful team writes by hand: a consume loop with one transaction per event.

The row that says "this record was processed" and the handler's result commit together;
offsets are stored after the commit. Each partition belongs to one worker with its own
connection, so that the partitions' transactions overlap.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import closing
from typing import Protocol

import psycopg
from confluent_kafka import Consumer, Message

from benchmarks.contestants.common import (
    Executions,
    Outcome,
    Task,
    measure,
    read_task,
    report,
)

BATCH = 500
WORKERS = 4
IN_FLIGHT = 1_000

SCHEMA = """
    CREATE TABLE processed (
        topic text, partition integer, position bigint, result integer,
        PRIMARY KEY (topic, partition, position)
    )
"""
CLAIM = """
    INSERT INTO processed (topic, partition, position) VALUES (%s, %s, %s)
    ON CONFLICT DO NOTHING
"""
FINISH = """
    UPDATE processed SET result = %s
    WHERE topic = %s AND partition = %s AND position = %s
"""
DURABLE = "SELECT count(*) FROM processed WHERE result IS NOT NULL"

Place = tuple[str, int, int]


class Workers(Protocol):
    """Threads or tasks that process records, each partition by one of them."""

    def give(self, message: Message) -> None:
        """Hand a record over; waits while too many are in flight."""
        ...


def main() -> None:
    """Run the loop on the task."""
    task = read_task()
    with psycopg.connect(task.url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    executions = Executions(task.events)
    report(_run(task, executions))


def _run(task: Task, executions: Executions) -> Outcome:
    with closing(Consumer(_consumer(task))) as consumer:
        workers: Workers = (
            Tasks(task, executions, consumer) if task.is_async else Threads(task, executions, consumer)
        )
        consumer.subscribe([task.topic])
        given = 0
        while given < task.events:
            for message in consumer.consume(BATCH, 0.5):
                if message.error() is None:
                    workers.give(message)
                    given += 1
        return measure(task, executions, DURABLE)


def _consumer(task: Task) -> dict[str, str | bool]:
    return {
        "bootstrap.servers": task.bootstrap,
        "group.id": f"group-{task.topic}",
        "auto.offset.reset": "earliest",
        "enable.auto.offset.store": False,
    }


def _place(message: Message) -> Place:
    topic, partition, position = (
        message.topic(),
        message.partition(),
        message.offset(),
    )
    if topic is None or partition is None or position is None:
        raise ValueError(message)
    return topic, partition, position


class Threads:
    """Sync handlers: a thread and a connection per worker."""

    def __init__(self, task: Task, executions: Executions, consumer: Consumer) -> None:
        self._task = task
        self._executions = executions
        self._consumer = consumer
        self._queues: list[queue.Queue[Message]] = [queue.Queue(IN_FLIGHT // WORKERS) for _ in range(WORKERS)]
        for work in self._queues:
            threading.Thread(target=self._work, args=(work,), daemon=True).start()

    def give(self, message: Message) -> None:
        """Hand a record to its partition's thread."""
        self._queues[_place(message)[1] % WORKERS].put(message)

    def _work(self, work: queue.Queue[Message]) -> None:
        with psycopg.connect(self._task.url) as connection:
            while True:
                self._process(connection, work.get())

    def _process(self, connection: psycopg.Connection, message: Message) -> None:
        place = _place(message)
        with connection.transaction():
            if connection.execute(CLAIM, place).rowcount:
                connection.execute(FINISH, (self._handle(message), *place))
        self._consumer.store_offsets(message)

    def _handle(self, message: Message) -> int:
        self._executions.count()
        return len(message.value() or b"")


class Tasks:
    """Async handlers: a task and a connection per worker, on a loop of their own."""

    def __init__(self, task: Task, executions: Executions, consumer: Consumer) -> None:
        self._task = task
        self._executions = executions
        self._consumer = consumer
        self._loop = asyncio.new_event_loop()
        self._room = threading.Semaphore(IN_FLIGHT)
        self._queues: list[asyncio.Queue[Message]] = [asyncio.Queue() for _ in range(WORKERS)]
        threading.Thread(target=self._serve, daemon=True).start()

    def give(self, message: Message) -> None:
        """Hand a record to its partition's task."""
        self._room.acquire()
        work = self._queues[_place(message)[1] % WORKERS]
        self._loop.call_soon_threadsafe(work.put_nowait, message)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._work_all())

    async def _work_all(self) -> None:
        await asyncio.gather(*(self._work(work) for work in self._queues))

    async def _work(self, work: asyncio.Queue[Message]) -> None:
        async with await psycopg.AsyncConnection.connect(self._task.url) as connection:
            while True:
                await self._process(connection, await work.get())
                self._room.release()

    async def _process(self, connection: psycopg.AsyncConnection, message: Message) -> None:
        place = _place(message)
        async with connection.transaction():
            if (await connection.execute(CLAIM, place)).rowcount:
                result = await self._handle(message)
                await connection.execute(FINISH, (result, *place))
        self._consumer.store_offsets(message)

    async def _handle(self, message: Message) -> int:
        self._executions.count()
        return len(message.value() or b"")


if __name__ == "__main__":
    main()
