"""What a claim reads on PostgreSQL: what it takes and no more, beside a backlog, beside history, with partitions."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from dbos_events.clock import SystemClock
from dbos_events.model.queue import QueueLimits
from dbos_events.storage.database import Tx
from dbos_events.storage.migrate import migrate
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from tests.storage.building import APP, register
from tests.storage.conftest import SCHEMA, Open

WAITING = 20_000
TAKES = 50
PARTITIONS = 40

FILL = f"""
INSERT INTO {SCHEMA}.workflows
    (id, application, name, status, take, version, created_at, updated_at, queue, priority, queue_partition_key)
SELECT 'w' || n, '{APP}', 'work', 'ENQUEUED', 0, 'v1', n, n, 'q', n % 5,
       CASE WHEN %(partitioned)s THEN 'p' || n % {PARTITIONS} END
FROM generate_series(1, {WAITING}) AS n
"""
RUNNING = f"""
INSERT INTO {SCHEMA}.workflows
    (id, application, name, status, owner, take, created_at, updated_at, queue, queue_partition_key)
SELECT 'r' || n, '{APP}', 'work', 'PENDING', 1, 1, n, n, 'q', CASE WHEN %(partitioned)s THEN 'p' || n % {PARTITIONS} END
FROM generate_series(1, 2000) AS n
"""
HISTORY = f"""
INSERT INTO {SCHEMA}.workflows (id, application, name, status, take, created_at, updated_at, queue, queue_partition_key)
SELECT 'f' || n, '{APP}', 'work', 'SUCCESS', 1, n, n, 'q', CASE WHEN %(partitioned)s THEN 'p' || n % {PARTITIONS} END
FROM generate_series(1, 60000) AS n
"""


@pytest.fixture(params=[False, True], ids=["no-statistics", "analyzed"])
def filled(
    request: pytest.FixtureRequest, postgres_url: str, opened: Open
) -> Iterator[tuple[SqlStorage, psycopg.Connection[Any]]]:
    """A database that `fill` gives a backlog beside what runs and what has finished."""
    del request
    storage = opened(postgres_url, clock=SystemClock())
    migrate(storage)
    register(storage)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {SCHEMA}.workflows SET (autovacuum_enabled = false)")
        yield storage, connection


def fill(connection: psycopg.Connection[Any], *, partitioned: bool, analyzes: bool) -> None:
    for statement in (HISTORY, RUNNING, FILL):
        connection.execute(statement.replace("n % ", "n %% "), {"partitioned": partitioned})
    if analyzes:
        connection.execute(f"VACUUM ANALYZE {SCHEMA}.workflows")


def rows_read(
    storage: SqlStorage, name: str, rows: list[tuple[Any, ...]] | None = None, **values: Any
) -> int:
    """How many rows of `workflows` the statement reads, filtered ones included; nothing is kept."""
    database = storage.database
    statement = database.statements[name]
    with database.engine.connect() as connection:
        if rows is not None:
            values |= Tx(database, connection)._rows(statement, rows)
        for key, kind in statement.lists:
            values[key] = database.arrays[kind](values[key])
        text = sa.text("EXPLAIN (ANALYZE, FORMAT JSON) " + statement.sql)
        [root] = connection.execute(text, values).scalar_one()
        connection.rollback()
    return _read(root["Plan"])


def _read(node: dict[str, Any]) -> int:
    own = 0
    if node.get("Relation Name") == "workflows" and "Scan" in node["Node Type"]:
        loops = node["Actual Loops"]
        own = round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * loops)
    return own + sum(_read(one) for one in node.get("Plans", ()))


TAKER = {
    "executor": 1, "application": APP, "version": "v1", "names": ["work"], "waits": False, "queue": "q", "revision": 0,
}  # fmt: skip


def test_a_claim_reads_what_it_takes(filled: tuple[SqlStorage, Any], request: pytest.FixtureRequest) -> None:
    storage, connection = filled
    fill(connection, partitioned=False, analyzes="analyzed" in request.node.name)
    assert rows_read(storage, "claim", **TAKER, count=TAKES) <= 3 * TAKES
    assert rows_read(storage, "waiting_priorities", application=APP, queue="q", count=50) <= 12
    looked = {name: value for name, value in TAKER.items() if name != "executor"}
    assert rows_read(storage, "first_of_priority", **looked, priority=3, count=TAKES) <= 2 * TAKES


def test_a_claim_of_partitions_reads_what_it_takes(
    filled: tuple[SqlStorage, Any], request: pytest.FixtureRequest
) -> None:
    storage, connection = filled
    fill(connection, partitioned=True, analyzes="analyzed" in request.node.name)
    wanted = [(f"p{number}", 2) for number in range(25)]
    assert rows_read(storage, "claim_partitions", wanted, **TAKER) <= 3 * TAKES
    assert rows_read(storage, "claim_partition", **TAKER, partition="p7", count=TAKES) <= 3 * TAKES
    looked = {"application": APP, "queue": "q", "after": "", "count": 200}
    assert rows_read(storage, "waiting_partitions", **looked) <= 2 * PARTITIONS
    running = {"application": APP, "queue": "q"}
    assert rows_read(storage, "count_running_of", [("p1",), ("p2",)], **running) <= 2 * 2000 // PARTITIONS + 2


def test_what_a_whole_claim_takes_is_shared_among_the_partitions(
    filled: tuple[SqlStorage, Any], request: pytest.FixtureRequest
) -> None:
    storage, connection = filled
    fill(connection, partitioned=True, analyzes="analyzed" in request.node.name)
    storage.queues.save_declared(APP, {"q": QueueLimits(partitions=True)})
    state = storage.queues.get(APP, "q")
    assert state is not None
    taken = storage.queues.claim(Taker(1, APP, "v1", ["work"]), state, 2 * PARTITIONS).rows
    keys = [row.queue_partition_key for row in taken]
    assert sorted(keys) == sorted([f"p{number}" for number in range(PARTITIONS)] * 2)
