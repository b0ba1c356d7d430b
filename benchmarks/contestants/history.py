"""Finished workflows that are there before a run, written by SQL alone: millions in minutes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg

from benchmarks.contestants.frameworks import Framework

if TYPE_CHECKING:
    from benchmarks.contestants.common import Task

STATEMENT = """
    INSERT INTO dbos_events.workflows
        (id, application, name, status, version, start_id, started_at, completed_at, created_at, updated_at,
         take, generation, crashes, priority, own_checkpoints)
    SELECT 'finished-' || n, 'benchmark', 'handle', 'SUCCESS', 'v0', -n, %(then)s, %(then)s, %(then)s, %(then)s,
           1, 0, 0, 0,
           '[[1,"1","measure_value",1,null,"json","100",null,null,' || %(then)s || ',' || %(then)s || ',' || n || ']]'
    FROM generate_series(1, %(count)s) AS n
"""

DURABLE = """
    SELECT (SELECT count(*) FROM dbos_events.events)
         - (SELECT count(*) FROM dbos_events.workflows WHERE owner IS NOT NULL AND status = 'PENDING')
"""
"""What has ended, without reading the history: all that was taken in, less what runs."""


def fill(task: Task, count: int) -> None:
    """Make the schema, and `count` workflows with a step each that finished an hour ago."""
    framework = Framework(task)
    framework.api.launch()
    framework.api.destroy()
    then = int(time.time() * 1000) - 3_600_000
    with psycopg.connect(task.url, autocommit=True) as connection:
        connection.execute(STATEMENT.encode(), {"count": count, "then": then})
        connection.execute("VACUUM ANALYZE dbos_events.workflows")
        connection.execute("CHECKPOINT")
