"""Plans of PostgreSQL that must not change with the size of a table whose statistics are old or missing."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from dbos_events.clock import SystemClock
from dbos_events.storage.database import Tx
from dbos_events.storage.functions import functions
from dbos_events.storage.migrate import migrate
from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import APP, register
from tests.storage.conftest import SCHEMA, Open

BATCH = 200

# What a busy process has: its own running workflows, some of them waiting, woken, in a lane.
FILL = f"""
INSERT INTO {SCHEMA}.workflows
    (id, application, name, status, owner, take, version, created_at, updated_at, wake_at, awaits, queue,
     queue_partition_key, consumer, incarnation, partition, position, lane, lane_sequence, lane_open)
SELECT 'w' || n, '{APP}', 'work', CASE WHEN n %% 10 = 1 THEN 'ENQUEUED' ELSE 'PENDING' END,
       CASE WHEN n %% 10 > 3 THEN 1 END, 1, 'v1', n, n, CASE WHEN n %% 10 = 2 THEN n END,
       CASE WHEN n %% 10 = 3 THEN 'workflow:w' || n + 1 END, CASE WHEN n %% 10 IN (1, 5) THEN 'q' END,
       CASE WHEN n %% 20 IN (1, 5) THEN 'p' || n %% 9 END,
       1, 1, n %% 4, n, CASE WHEN n %% 10 = 6 THEN CAST(n %% 4 AS text) END, n, CASE WHEN n %% 10 = 6 THEN true END
FROM generate_series(1, %s) AS n
"""
# What was there before, and does nothing any more.
FILL_FINISHED = f"""
INSERT INTO {SCHEMA}.workflows
    (id, application, name, status, take, version, created_at, updated_at, completed_at)
SELECT 'f' || n, '{APP}', 'work', 'SUCCESS', 1, 'v1', n, n, n FROM generate_series(1, 200000) AS n
"""
FILL_FINISHED_STEPS = f"""
INSERT INTO {SCHEMA}.checkpoints (workflow_id, generation, step, call, name, completion_order, writer, write_id)
SELECT 'f' || n, 0, 1, '1', 'step', 1, 1, n FROM generate_series(1, 200000) AS n
"""
# A tenth of all, when the statistics were made.
FILL_BACKLOG = f"""
INSERT INTO {SCHEMA}.workflows
    (id, application, name, status, owner, take, version, created_at, updated_at, wake_at, queue)
SELECT 'b' || n, '{APP}', 'work', CASE WHEN n % 2 = 0 THEN 'ENQUEUED' ELSE 'PENDING' END,
       CASE WHEN n % 4 = 1 THEN 1 END, 1, 'v1', n, n, CASE WHEN n % 4 = 3 THEN n END, CASE WHEN n % 2 = 0 THEN 'q' END
FROM generate_series(1, 20000) AS n
"""
ANALYZE = f"VACUUM ANALYZE {SCHEMA}.workflows, {SCHEMA}.checkpoints"
END_BACKLOG = f"""
UPDATE {SCHEMA}.workflows SET status = 'SUCCESS', owner = NULL, wake_at = NULL WHERE id LIKE 'b%'
"""
# Nobody owns what is held behind one event.
FILL_HELD = f"""
INSERT INTO {SCHEMA}.workflows
    (id, application, name, status, take, created_at, updated_at, consumer, incarnation, partition, position, lane,
     lane_sequence, lane_open, held)
SELECT 'h' || n, '{APP}', 'work', 'PENDING', 0, n, n, 1, 1, 0, n, '0/poison', n, true, true
FROM generate_series(1, 20000) AS n
"""
FILL_CHECKPOINTS = f"""
INSERT INTO {SCHEMA}.checkpoints (workflow_id, generation, step, call, name, completion_order, writer, write_id)
SELECT 'w' || n, 0, 1, '1', 'step', 1, 1, n FROM generate_series(1, %s) AS n
"""


@pytest.fixture
def filled(request: pytest.FixtureRequest, postgres_url: str, opened: Open) -> SqlStorage:
    """A database that was never analyzed."""
    storage = opened(postgres_url, clock=SystemClock())
    migrate(storage)
    with psycopg.connect(postgres_url) as connection:
        for table in ("workflows", "checkpoints", "executors", "payloads", "results", "events"):
            connection.execute(f"ALTER TABLE {SCHEMA}.{table} SET (autovacuum_enabled = false)")
        connection.execute(FILL, [request.param])
        connection.execute(FILL_CHECKPOINTS, [request.param])
    register(storage)
    return storage


def plan(storage: SqlStorage, name: str, rows: list[tuple[Any, ...]] | None = None, **parameters: Any) -> str:
    """The plan of a statement with real parameters."""
    database = storage.database
    statement = database.statements[name]
    with database.engine.begin() as connection:
        if rows is not None:
            parameters |= Tx(database, connection)._rows(statement, rows)
        for key, kind in statement.lists:
            parameters[key] = database.arrays[kind](parameters[key])
        return "\n".join(connection.execute(sa.text("EXPLAIN " + statement.sql), parameters).scalars())


def looked_up(text: str, table: str) -> set[str]:
    """The indexes by which the plan reads the table; `Seq Scan` where it reads all of it."""
    found = set(re.findall(rf"Index (?:Only )?Scan (?:Backward )?using (\w+) on {table}\b", text))
    if re.search(rf"Seq Scan on {table}\b", text):
        found.add("Seq Scan")
    if f"Bitmap Heap Scan on {table}" in text:
        found |= set(re.findall(rf"Bitmap Index Scan on ({table}_\w+)", text))
    return found


IDS = [f"w{number}" for number in range(1, BATCH + 1)]


BATCHES: dict[str, tuple[str, list[tuple[Any, ...]], dict[str, Any]]] = {
    "place_events": ("workflows", [(i, 3, "p", None) for i in IDS], {}),
    "insert_checkpoints": (
        "workflows",
        [(i, 1, 0, 2, "2", "step", 2, None, None, None, None, None, 1, 2, 3) for i in IDS],
        {"executor": 1},
    ),
    "update_outcomes": ("workflows", [(i, 1, "SUCCESS", True, None) for i in IDS], {"executor": 1}),
    "update_parks": ("workflows", [(i, 1, 5, None) for i in IDS], {"executor": 1}),
    "update_retries": ("workflows", [(i, 1, 0, 5, 1) for i in IDS], {"executor": 1}),
    "move_checkpoints": ("checkpoints", [(i, 0) for i in IDS], {}),
    "archive_checkpoints": ("checkpoints", [(i, 0, 1) for i in IDS], {}),
    "archive_children": ("checkpoints", [(i, 0, 1) for i in IDS], {}),
    "wake_parents": ("workflows", [(i, i) for i in IDS], {}),
    "wake_waiting": ("workflows", [(i, f"message:{i}/") for i in IDS], {}),
    "hasten_parks": ("workflows", [(i, 1, 5, True) for i in IDS], {}),
    "look_for_endings": ("workflows", [(n, "w", i, None, 0) for n, i in enumerate(IDS)], {}),
    "read_written_checkpoints": ("checkpoints", [(i, 0, 1) for i in IDS], {"executor": 1}),
}
BY_ID = {
    "take_lane_entries": "workflows",
    "release_unstarted": "workflows",
    "read_tokens": "workflows",
    "read_taken": "workflows",
    "lock_awaited": "workflows",
    "read_checkpoints": "checkpoints",
    "lock_decided": "workflows",
    "read_waiting": "workflows",
    "read_history": "checkpoints",
    "read_used_keys": "checkpoints",
}
BY_ONE_ID = {"list_steps": "checkpoints"}
OF_AN_EXECUTOR = {"take_lane_entries", "release_unstarted"}
TAKER = {"executor": 1, "application": APP, "version": "v1", "names": ["work"], "count": 50, "waits": False}
CLAIMED = {name: value for name, value in TAKER.items() if name != "executor"} | {"queue": "q", "revision": 0}
ANY = dict.fromkeys(("application", "topic", "consumer", "partition"))
PARTIAL = {
    "claim": ("workflows_waiting", {**TAKER, "queue": "q", "revision": 0}),
    "claim_partition": ("workflows_partitions", {**TAKER, "queue": "q", "revision": 0, "partition": "p7"}),
    "first_of_priority": ("workflows_waiting", {**CLAIMED, "priority": 3}),
    "waiting_priorities": ("workflows_waiting", {"application": APP, "queue": "q", "count": 50}),
    "waiting_partitions": (
        "workflows_partitions",
        {"application": APP, "queue": "q", "after": "", "count": 50},
    ),
    "promote_due": ("workflows_wake", {"application": APP}),
    "waiting_on": ("workflows_waiting", {"application": APP, "queue": "q", "count": 50}),
    "take_due": ("workflows_wake", TAKER),
    "requeue_due": ("workflows_wake", {"application": APP}),
    "ready_due_lanes": ("workflows_wake", {"application": APP}),
    "waiting_functions": ("workflows_wake", {"application": APP, "count": 10, "grace_ms": 1000}),
    "waiting_versions": (
        "workflows_wake",
        {"application": APP, "version": "v2", "count": 10, "grace_ms": 1000},
    ),
    "next_wake": ("workflows_wake", {"application": APP}),
    "adopt_from_dead": ("workflows_owned", TAKER),
    "free_lanes_of_dead": ("workflows_owned", {"application": APP}),
    "list_executors": ("workflows_owned", {"application": APP}),
    "count_running": ("workflows_on_queue", {"application": APP, "queue": "q"}),
    "find_gaps": ("workflows_pkey", {**ANY, "stated": False, "count": 1000}),
    "trace_event": ("workflows_pkey", {**ANY, "topic": "orders", "partition": 1, "offset": 7}),
    "orphaned_partitions": (
        "workflows_ready",
        {"executor": 1, "application": APP, "handlers": ["work"], "grace_ms": 1000},
    ),
    "count_held": (
        "workflows_lanes",
        {"consumer": 1, "incarnation": 1, "lane": "1", "count": 100},
    ),
    "wake_parked": ("workflows_awaiting", {"keys": ["workflow:w4", "workflow:w14"]}),
    "lane_entries": (
        "workflows_lanes",
        {"consumer": 1, "incarnation": 1, "lane": "2", "count": 50},
    ),
    "ready_behind": (
        "workflows_ready",
        {"consumer": 1, "incarnation": 1, "lane": "2", "head": 5},
    ),
    "hold_back": (
        "workflows_ready",
        {"consumer": 1, "incarnation": 1, "lane": "2", "head": 5},
    ),
    "lanes_after": (
        "workflows_lanes",
        {"consumer": 1, "incarnation": 1, "after": "2", "before": "20", "count": 50},
    ),
    "ready_lanes": (
        "workflows_ready",
        {"executor": 1, "consumer": 1, "count": 50, "after_incarnation": 1, "after_lane": "0/a"},
    ),
    "count_open": ("workflows_lanes", {"consumer": 1, "incarnation": 1, "lane": "2", "limit": 50}),
}


def all_plans(storage: SqlStorage) -> dict[str, str]:
    plans = {name: plan(storage, name, rows, **parameters) for name, (_, rows, parameters) in BATCHES.items()}
    for name in BY_ID:
        plans[name] = plan(storage, name, ids=IDS[:5], **({"executor": 1} if name in OF_AN_EXECUTOR else {}))
    for name in BY_ONE_ID:
        plans[name] = plan(storage, name, workflow_id=IDS[0])
    for name, (_, parameters) in PARTIAL.items():
        plans[name] = plan(storage, name, **parameters)
    return plans


def unfit(storage: SqlStorage) -> dict[str, str]:
    """Statements that read by another index than theirs, with their plans."""
    plans = all_plans(storage)
    by_key = {name: table for name, (table, _, _) in BATCHES.items()} | BY_ID | BY_ONE_ID
    wrong = [name for name, table in by_key.items() if looked_up(plans[name], table) != {f"{table}_pkey"}]
    for name, (index, _) in PARTIAL.items():
        found = looked_up(plans[name], "workflows")
        if index not in found or "Seq Scan" in found:
            wrong.append(name)
    return {name: plans[name] for name in wrong}


@pytest.mark.parametrize("filled", [25_000], indirect=True)
def test_batches_go_by_primary_key_and_searches_by_their_partial_index(filled: SqlStorage) -> None:
    wrong = unfit(filled)
    assert not wrong, "\n\n".join(f"{name}\n{text}" for name, text in wrong.items())


def reading_all(storage: SqlStorage) -> str:
    """The plans that read a whole table."""
    return "\n\n".join(
        f"{name}\n{text}"
        for name, text in all_plans(storage).items()
        if "Seq Scan" in looked_up(text, "workflows") | looked_up(text, "checkpoints")
    )


@pytest.fixture
def beside_history(filled: SqlStorage, postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database, in which far more has finished than there is to do."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(FILL_FINISHED)
        connection.execute(FILL_FINISHED_STEPS)
        yield connection


@pytest.mark.parametrize("filled", [0, 600], indirect=True)
@pytest.mark.parametrize("analyzed", [False, True])
def test_nothing_reads_all_that_has_finished(
    filled: SqlStorage, beside_history: psycopg.Connection[Any], *, analyzed: bool
) -> None:
    if analyzed:
        beside_history.execute(ANALYZE)
    assert not reading_all(filled)


@pytest.mark.parametrize("filled", [0], indirect=True)
@pytest.mark.parametrize("ended", [False, True])
def test_statistics_of_a_backlog_do_not_lead_through_all_that_has_finished(
    filled: SqlStorage, beside_history: psycopg.Connection[Any], *, ended: bool
) -> None:
    beside_history.execute(FILL_BACKLOG)
    beside_history.execute(ANALYZE)
    if ended:
        beside_history.execute(END_BACKLOG)
    assert not reading_all(filled)


@pytest.mark.parametrize("filled", [600], indirect=True)
def test_what_is_taken_of_a_lane_does_not_read_all_that_is_held(
    filled: SqlStorage, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(FILL_HELD)
    for name in sorted(OF_AN_EXECUTOR):
        text = plan(filled, name, ids=IDS[:16], executor=1)
        assert looked_up(text, "workflows") == {"workflows_pkey"}, text
    lanes = [(f"0/{number}",) for number in range(BATCH)]
    text = plan(filled, "open_lanes", lanes, consumer=1, incarnation=1)
    assert looked_up(text, "workflows") == {"workflows_lanes"}, text
    assert "lane = " in text, text


FILL_PUSHED = f"""
INSERT INTO {SCHEMA}.workflows
    (id, application, name, status, take, created_at, updated_at, consumer, incarnation, lane, lane_sequence,
     lane_open, held)
SELECT 'p' || n, '{APP}', 'work', 'PENDING', 0, n, n, 7, 0, '/' || n % 5000, n, true, n > 5000
FROM generate_series(1, 20000) AS n
"""


@pytest.mark.parametrize("filled", [600], indirect=True)
def test_lanes_of_pushed_events_are_searched_by_their_partial_indexes(
    filled: SqlStorage, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(FILL_PUSHED)
    ready = plan(filled, "ready_pushed_lanes", consumer=7, after="", count=1000)
    assert looked_up(ready, "workflows") == {"workflows_ready"}, ready
    idle = plan(filled, "idle_lanes_after", consumer=7, after="", count=500)
    assert looked_up(idle, "workflows") <= {"workflows_lanes", "workflows_ready"}, idle
    lanes = [(7, f"/{number}") for number in range(BATCH)]
    text = plan(filled, "open_pushed_lanes", lanes)
    assert looked_up(text, "workflows") == {"workflows_lanes"}, text
    assert "lane = " in text, text


@pytest.mark.parametrize("filled", [25_000], indirect=True)
def test_what_is_due_is_searched_by_time(filled: SqlStorage) -> None:
    for name in ("take_due", "requeue_due", "ready_due_lanes"):
        assert "Index Cond: (wake_at <=" in plan(filled, name, **PARTIAL[name][1])


@pytest.mark.parametrize("filled", [0, 600], indirect=True)
def test_on_a_small_table_no_batch_reads_all_that_its_executor_owns(filled: SqlStorage) -> None:
    """To read all of a few pages is as good as the primary key."""
    for name in ("insert_checkpoints", "update_outcomes", "update_parks"):
        table, rows, parameters = BATCHES[name]
        text = plan(filled, name, rows, **parameters)
        assert looked_up(text, table) in ({"workflows_pkey"}, {"Seq Scan"}), text


def rows_read(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """How many workflows this connection has read one after the other, and through indexes, since it last told."""
    [row] = connection.execute(
        "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'workflows'"
    ).fetchall()
    return row


def arrays(*columns: str) -> str:
    """A row for each of IDS, as arrays; `id` stands for the workflow's."""
    quoted = ", ".join(f"'{id_}'" for id_ in IDS)
    return ", ".join(
        f"ARRAY[{quoted}]" if column == "id" else f"array_fill({column}, ARRAY[{BATCH}])"
        for column in columns
    )


@pytest.mark.parametrize("filled", [25_000], indirect=True)
def test_a_function_whose_plans_were_made_on_empty_tables_reads_what_it_writes_and_no_more(
    filled: SqlStorage, postgres_url: str
) -> None:
    nothing, some, time = "NULL::text", "'2'::text", "1::bigint"
    checkpoints = arrays(
        *("id", "1", "0", "2", some, some, "1", nothing, nothing, nothing, nothing, nothing),
        *(time, time, time),
    )
    outcomes = arrays("id", "1", "'SUCCESS'::text", "true", nothing)
    called = functions()["write_batch"].called
    call = f"SELECT {SCHEMA}.{called}(NULL, 1, 0, {checkpoints}, {outcomes}, '{{}}', '{{}}', '{{}}', '{{}}')"
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"CREATE TABLE kept AS SELECT * FROM {SCHEMA}.workflows")
        connection.execute(f"TRUNCATE {SCHEMA}.workflows")
        connection.commit()
        with pytest.raises(psycopg.Error, match="a checkpoint was not written"):
            connection.execute(call)
        connection.rollback()
        connection.execute(f"INSERT INTO {SCHEMA}.workflows SELECT * FROM kept")
        connection.execute(f"UPDATE {SCHEMA}.workflows SET owner = 1, status = 'PENDING', take = 1")
        connection.commit()
        before = rows_read(connection)
        connection.execute(call)
        after = rows_read(connection)
    assert after[0] == before[0]
    assert after[1] - before[1] <= 4 * BATCH


@pytest.mark.parametrize("filled", [600], indirect=True)
def test_looking_for_work_of_the_dead_does_not_read_what_is_parked(
    filled: SqlStorage, postgres_url: str
) -> None:
    """Nobody owns what is parked, and it may be hundreds of thousands."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute(FILL_HELD)
    text = plan(filled, "adopt_from_dead", **PARTIAL["adopt_from_dead"][1])
    assert re.search(r"Index Cond: \(+owner (IS NOT NULL|= )", text), text
