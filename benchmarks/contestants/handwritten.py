"""What a careful team writes by hand: a consume loop with one transaction per event.

The row that says "this record was processed" and the handler's result commit together;
offsets are stored after the commit. Each partition belongs to one worker with its own
connection, so that the partitions' transactions overlap.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Protocol

import psycopg
from confluent_kafka import Consumer, Message

from benchmarks.contestants.common import (
    Executions,
    Task,
    measure,
    read_task,
    report,
)

BATCH = 500
WAIT_SECONDS = 0.5
WORKERS = 4
IN_FLIGHT = 1_000

SCHEMA = """
    CREATE TABLE IF NOT EXISTS processed (
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
Handle = Callable[[bytes], int]


class Workers(Protocol):
    """Threads or tasks that process records, each partition by one of them."""

    def give(self, message: Message) -> None:
        """Hand a record over; waits while too many are in flight."""
        ...


def main() -> None:
    """Run the loop on the task."""
    task = read_task()
    executions = Executions(task)
    steps = range(task.number("steps", 1))

    def handle(value: bytes) -> int:
        executions.count()
        for _ in steps:
            len(value)
        return len(value)

    start(task, handle, WAIT_SECONDS)
    report(measure(task, executions, DURABLE))


def start(task: Task, handle: Handle, wait_seconds: float) -> None:
    """Consume in the background for as long as the process lives."""
    with psycopg.connect(task.url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")  # another process may do the same now
        connection.execute(SCHEMA)
    threading.Thread(target=_consume, args=(task, handle, wait_seconds), daemon=True).start()


def _consume(task: Task, handle: Handle, wait_seconds: float) -> None:
    with closing(Consumer(_consumer(task))) as consumer:
        kind = Tasks if task.is_async else Threads
        done: queue.SimpleQueue[Message] = queue.SimpleQueue()
        workers: Workers = kind(task, handle, done)
        consumer.subscribe([task.topic])
        while True:
            for message in consumer.consume(BATCH, wait_seconds):
                if message.error() is None:
                    workers.give(message)
            # Here and not by the workers: storing waits while another thread is in `consume`.
            while not done.empty():
                consumer.store_offsets(done.get())


def _consumer(task: Task) -> dict[str, str | bool | int]:
    return {
        "bootstrap.servers": task.kafka,
        "group.id": f"group-{task.topic}",
        "auto.offset.reset": "earliest",
        "enable.auto.offset.store": False,
        "fetch.message.max.bytes": 4 * 2**20,
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

    def __init__(self, task: Task, handle: Handle, done: queue.SimpleQueue[Message]) -> None:
        self._task = task
        self._count = task.number("workers", WORKERS)
        self._handle = handle
        self._done = done
        self._queues: list[queue.Queue[Message]] = [
            queue.Queue(IN_FLIGHT // self._count) for _ in range(self._count)
        ]
        for work in self._queues:
            threading.Thread(target=self._work, args=(work,), daemon=True).start()

    def give(self, message: Message) -> None:
        """Hand a record to its partition's thread."""
        self._queues[_place(message)[1] % self._count].put(message)

    def _work(self, work: queue.Queue[Message]) -> None:
        with psycopg.connect(self._task.url) as connection:
            while True:
                self._process(connection, work.get())

    def _process(self, connection: psycopg.Connection, message: Message) -> None:
        place = _place(message)
        with connection.transaction():
            if connection.execute(CLAIM, place).rowcount:
                connection.execute(FINISH, (self._handle(message.value() or b""), *place))
        self._done.put(message)


class Tasks:
    """Async handlers: a task and a connection per worker, on a loop of their own."""

    def __init__(self, task: Task, handle: Handle, done: queue.SimpleQueue[Message]) -> None:
        self._task = task
        self._count = task.number("workers", WORKERS)
        self._handle = handle
        self._done = done
        self._loop = asyncio.new_event_loop()
        self._room = threading.Semaphore(IN_FLIGHT)
        self._queues: list[asyncio.Queue[Message]] = [asyncio.Queue() for _ in range(self._count)]
        threading.Thread(target=self._serve, daemon=True).start()

    def give(self, message: Message) -> None:
        """Hand a record to its partition's task."""
        self._room.acquire()
        work = self._queues[_place(message)[1] % self._count]
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
                result = self._handle(message.value() or b"")
                await connection.execute(FINISH, (result, *place))
        self._done.put(message)


if __name__ == "__main__":
    main()
