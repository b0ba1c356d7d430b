"""Plans for values and streams: by their keys, with and without statistics, however much is there."""

from typing import Any

import psycopg
import pytest

from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import register
from tests.storage.conftest import SCHEMA, Open
from tests.storage.test_plans import FILL, FILL_CHECKPOINTS, looked_up, plan

BATCH = [f"w{number}" for number in range(1, 201)]

FILL_VALUES = f"""
INSERT INTO {SCHEMA}.published_values (workflow_id, key, take, number, generation, step, writer, write_id, set_at)
SELECT 'w' || n % 5000, 'k' || n % 3, 1, n, 0, n, 1, n, n FROM generate_series(1, 100000) AS n
"""
FILL_STREAMS = f"""
INSERT INTO {SCHEMA}.stream_entries
    (workflow_id, stream, position, take, generation, step, attempt, committed, ends, writer, write_id, written_at)
SELECT 'w' || n % 500, 's', n / 500, 1, 0, n, 0, true, false, 1, n, n FROM generate_series(1, 100000) AS n
"""

ROWS: dict[str, tuple[list[tuple[Any, ...]], dict[str, Any]]] = {
    "insert_values": ([(i, 1, 0, "k9", 1, 1, "json", "1", 5, False) for i in BATCH], {"executor": 1}),
    "read_written_values": ([(i, 1, "k1", 5) for i in BATCH], {"executor": 1}),
    "delete_replaced_values": ([(i, 1, "k1", 5) for i in BATCH], {}),
    "with_values_or_entries": ([(i, 0) for i in BATCH], {}),
    "insert_stream_entries": (
        [(i, 1, 0, "s", 10**6, 1, 0, True, None, False, "json", "1", 5, False) for i in BATCH],
        {"executor": 1},
    ),
    "read_written_entries": ([(i, "s", 5) for i in BATCH], {"executor": 1}),
    "settle_entries": ([(i, 1, "s", 3, 5, 1, 0, True) for i in BATCH[:20]], {}),
    "look_for_values": ([(n, "r", i, "k1", 0) for n, i in enumerate(BATCH)], {}),
    "look_for_entries": ([(n, "r", i, "s", 3) for n, i in enumerate(BATCH)], {}),
    "look_for_committed_entries": ([(n, "r", i, "s", 3) for n, i in enumerate(BATCH)], {}),
    "forget_waiters": ([(i, 1) for i in BATCH], {"executor": 1}),
}
ONE: dict[str, dict[str, Any]] = {
    "lock_writers": {"ids": BATCH[:5]},
    "lock_published": {"ids": BATCH[:5]},
    "read_marked": {"ids": BATCH[:5]},
    "wake_readers": {"first": "value:w1/", "beyond": "value:w10"},
    "cut_values": {"workflow_id": "w1", "generation": 0},
    "cut_entries": {"workflow_id": "w1", "generation": 0},
    "read_value": {"workflow_id": "w1", "key": "k1"},
    "read_values": {"workflow_id": "w1"},
    "read_entries": {"workflow_id": "w1", "stream": "s", "position": 100, "count": 16},
    "read_stream_ends": {"workflow_id": "w1", "generation": 0},
    "read_open_entries": {"workflow_id": "w1", "generation": 0, "take": 2},
}
TABLES = ("workflows", "published_values", "stream_entries", "checkpoints")


@pytest.fixture
def filled(postgres_url: str, opened: Open) -> SqlStorage:
    """A database with much in it that was never analyzed."""
    storage = opened(postgres_url, clock=SystemClock())
    migrate(storage)
    with psycopg.connect(postgres_url) as connection:
        for table in TABLES:
            connection.execute(f"ALTER TABLE {SCHEMA}.{table} SET (autovacuum_enabled = false)")
        connection.execute(FILL, [25_000])
        connection.execute(FILL_CHECKPOINTS, [25_000])
        connection.execute(FILL_VALUES)
        connection.execute(FILL_STREAMS)
    register(storage)
    return storage


def reading_all(storage: SqlStorage) -> dict[str, str]:
    """The plans that read a whole table."""
    plans = {name: plan(storage, name, rows, **parameters) for name, (rows, parameters) in ROWS.items()}
    plans |= {name: plan(storage, name, **parameters) for name, parameters in ONE.items()}
    return {
        name: text
        for name, text in plans.items()
        if any("Seq Scan" in looked_up(text, table) for table in TABLES)
    }


@pytest.mark.parametrize("analyzed", [False, True])
def test_what_is_published_is_found_by_its_key(filled: SqlStorage, postgres_url: str, analyzed: bool) -> None:
    if analyzed:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE " + ", ".join(f"{SCHEMA}.{table}" for table in TABLES))
    wrong = reading_all(filled)
    assert not wrong, "\n\n".join(f"{name}\n{text}" for name, text in wrong.items())


def test_the_latest_value_of_a_key_is_read_from_the_end(filled: SqlStorage, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"VACUUM ANALYZE {SCHEMA}.published_values")
    text = plan(filled, "read_value", workflow_id="w1", key="k1")
    assert "Backward" in text
    assert "Sort" not in text
