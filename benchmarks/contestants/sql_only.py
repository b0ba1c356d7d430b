"""The limit: the SQL that a one-step event needs at least, without Kafka and handlers.

One connection takes events in, another records outcomes with their checkpoints, both in
batches and under the fence of a shared lock on the executor's row: what remains when
everything else costs nothing. The tables are the engine's, less what no event uses.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg.types.array import ListBinaryDumper

from benchmarks.contestants.common import (
    Executions,
    Task,
    measure,
    read_task,
    report,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INTAKE_BATCH = 500
COMMIT_BATCH = 500
IN_FLIGHT = 4_000
PARTITIONS = 4
EXECUTOR = 7
VALUE = b"x" * 100

SCHEMA = """
    CREATE TABLE workflows (
        id text PRIMARY KEY, status text NOT NULL, application text NOT NULL,
        name text NOT NULL, owner bigint, take integer NOT NULL,
        crashes integer NOT NULL, generation integer NOT NULL, queue text,
        priority integer NOT NULL, created_at bigint NOT NULL,
        updated_at bigint NOT NULL, started_at bigint, completed_at bigint,
        wake_at bigint, consumer integer, incarnation integer, partition integer,
        position bigint, version text, output text,
        checkpoints text
    ) WITH (fillfactor = 70);
    CREATE INDEX ON workflows (owner) WHERE status = 'PENDING';
    CREATE INDEX ON workflows (queue, priority, created_at) WHERE status = 'ENQUEUED';
    CREATE INDEX ON workflows (wake_at) WHERE wake_at IS NOT NULL;
    CREATE TABLE events (
        workflow text PRIMARY KEY, key bytea, value bytea, headers text,
        timestamp bigint, leader_epoch integer, fingerprint bigint
    );
    CREATE TABLE executors (id bigint PRIMARY KEY, alive boolean NOT NULL);
    CREATE TABLE watermarks (partition integer PRIMARY KEY, next_position bigint);
"""
LOCK = "SELECT 1 FROM executors WHERE id = %(owner)s AND alive FOR KEY SHARE"
INSERT_WORKFLOWS = """
    INSERT INTO workflows (
        id, status, application, name, owner, take, crashes, generation, priority,
        created_at, updated_at, started_at, consumer, incarnation, partition,
        position, version
    )
    SELECT u.id, 'PENDING', 'benchmark', 'handle', %(owner)s, 1, 0, 0, 0,
        %(now)s, %(now)s, %(now)s, 1, 1, u.partition, u.position, 'version'
    FROM unnest(%(ids)s::text[], %(partitions)s::int[], %(positions)s::bigint[])
        AS u (id, partition, position)
    ON CONFLICT DO NOTHING RETURNING id
"""
INSERT_EVENTS = """
    INSERT INTO events (workflow, key, value, timestamp, leader_epoch, fingerprint)
    SELECT u.id, u.key, u.value, %(now)s, 1, u.position
    FROM unnest(
        %(ids)s::text[], %(keys)s::bytea[], %(values)s::bytea[], %(positions)s::bigint[]
    ) AS u (id, key, value, position)
"""
MOVE_WATERMARKS = """
    UPDATE watermarks AS w SET next_position = w.next_position + u.taken
    FROM (SELECT p, count(*) AS taken FROM unnest(%(partitions)s::int[]) AS p
          GROUP BY p) AS u
    WHERE w.partition = u.p
"""
# The sub-selects hide the arrays' length and CASE hides the fence's columns from the
# planner, which then always probes the primary key, statistics or none.
FENCED = """
    CASE WHEN w.owner = %(owner)s AND w.take = 1 AND w.status = 'PENDING'
         THEN true ELSE false END
"""
FINISH_WORKFLOWS = f"""
    UPDATE workflows AS w
    SET status = 'SUCCESS', output = u.output, completed_at = %(now)s,
        updated_at = %(now)s, checkpoints = u.checkpoints
    FROM unnest(
        (SELECT %(ids)s::text[]), (SELECT %(outputs)s::text[]),
        (SELECT %(checkpoints)s::text[])
    ) AS u (id, output, checkpoints)
    WHERE w.id = u.id AND {FENCED}
    RETURNING w.id
"""
DURABLE = "SELECT count(*) FROM workflows WHERE status = 'SUCCESS'"


class Flow:
    """How far intake and the committer are, and the room between them."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._taken = 0
        self._finished = 0

    def took(self, position: int) -> None:
        """Say that intake has committed everything before `position`."""
        with self._moved:
            self._taken = position
            self._moved.notify_all()

    def finished(self, position: int) -> None:
        """Say that the committer has committed everything before `position`."""
        with self._moved:
            self._finished = position
            self._moved.notify_all()

    def wait_for_room(self) -> None:
        """Wait until fewer than the allowed number are in flight."""
        with self._moved:
            self._moved.wait_for(lambda: self._taken - self._finished < IN_FLIGHT)

    def wait_for_work(self) -> range:
        """Wait until something was taken in, and return the next batch to commit."""
        with self._moved:
            self._moved.wait_for(lambda: self._taken > self._finished)
            stop = min(self._taken, self._finished + COMMIT_BATCH)
            return range(self._finished, stop)


def main() -> None:
    """Run the bare SQL on the task; the topic is not read."""
    task = read_task()
    _create(task)
    executions = Executions(task)
    flow = Flow()
    for work in (_take_in, _commit):
        threading.Thread(target=work, args=(task, executions, flow)).start()
    report(measure(task, executions, DURABLE))


def _create(task: Task) -> None:
    with psycopg.connect(task.url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO executors VALUES (%s, true)", (EXECUTOR,))
        connection.execute(
            "INSERT INTO watermarks SELECT p, 0 FROM generate_series(0, %s) AS p",
            (PARTITIONS - 1,),
        )


def _take_in(task: Task, _executions: Executions, flow: Flow) -> None:
    with _connect(task) as connection:
        for start in range(0, task.count, INTAKE_BATCH):
            flow.wait_for_room()
            batch = range(start, min(start + INTAKE_BATCH, task.count))
            _run_batch(
                connection,
                (INSERT_WORKFLOWS, INSERT_EVENTS, MOVE_WATERMARKS),
                _intake_values(batch),
            )
            flow.took(batch.stop)


def _commit(task: Task, executions: Executions, flow: Flow) -> None:
    with _connect(task) as connection:
        batch = range(0)
        while batch.stop < task.count:
            batch = flow.wait_for_work()
            for _ in batch:
                executions.count()
            _run_batch(
                connection,
                (FINISH_WORKFLOWS,),
                _outcome_values(batch),
            )
            flow.finished(batch.stop)


def _connect(task: Task) -> psycopg.Connection:
    connection = psycopg.connect(task.url)
    # Arrays as text, which is the default, cost the client four times as much.
    connection.adapters.register_dumper(list, ListBinaryDumper)
    return connection


def _run_batch(
    connection: psycopg.Connection,
    statements: Sequence[str],
    values: Mapping[str, object],
) -> None:
    with connection.transaction():
        connection.execute(LOCK, values)
        for statement in statements:
            cursor = connection.execute(statement.encode(), values)
            if cursor.description:
                cursor.fetchall()


def _intake_values(batch: range) -> dict[str, object]:
    return _shared_values(batch) | {
        "partitions": [number % PARTITIONS for number in batch],
        "positions": [number // PARTITIONS for number in batch],
        "keys": [b"key-%d" % (number % 1000) for number in batch],
        "values": [VALUE] * len(batch),
    }


def _outcome_values(batch: range) -> dict[str, object]:
    values = _shared_values(batch)
    now = values["now"]
    step = f'[[1,"1","measure_value",1,null,"json","100",null,null,{now},{now}]]'
    return values | {"outputs": ["100"] * len(batch), "checkpoints": [step] * len(batch)}


def _shared_values(batch: range) -> dict[str, object]:
    return {
        "ids": [f"kafka/group/topic/1/{number % PARTITIONS}/{number // PARTITIONS}" for number in batch],
        "owner": EXECUTOR,
        "now": time.time_ns() // 1_000_000,
    }


if __name__ == "__main__":
    main()
