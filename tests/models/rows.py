"""The tables as the database holds them, and as the model has them, in one shape to compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from dbos_events.storage.database import Tx
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes.waiting import SEVERAL
from tests.models.events import Model
from tests.models.state import Workflow

WORKFLOW = tuple(one.name for one in fields(Workflow))
FLAGS = ("lane_open", "held")
Tables = dict[str, Any]
R = TypeVar("R")

TABLES = (
    "executors", "workflows", "payloads", "results", "checkpoints", "queues", "queue_starts", "consumers",
    "incarnations", "watermarks", "gaps", "events", "quarantine", "lanes", "generations", "decisions",
    "edited_values", "subscriptions", "source_states", "parked_keys", "published_values", "stream_entries",
    "messages", "anchors", "publications", "waits",
)  # fmt: skip


def empty(storage: SqlStorage) -> None:
    """As a fresh database, but for the numbers that it issues."""
    _with_driver(storage, lambda ask: [ask(f"DELETE FROM {{schema}}.{table}") for table in TABLES])


def stored(storage: SqlStorage) -> Tables:
    """Everything that the database holds, read in one transaction."""
    return _with_driver(
        storage, lambda ask: {name: form(ask(query).fetchall()) for name, (query, form) in _QUERIES.items()}
    )


def _with_driver(storage: SqlStorage, work: Callable[[Callable[[str], Any]], R]) -> R:
    """Work in one transaction that speaks to the driver: it is done after each step, so it must be quick."""
    schema = f'"{storage.database.schema or "main"}"'

    def within(tx: Tx) -> R:
        driver: Any = tx.connection.connection.driver_connection
        return work(lambda query: driver.execute(query.replace("{schema}", schema)))

    return storage.database.transact(within)


def modelled(model: Model) -> Tables:
    """The same of the model."""
    return {
        "executors": {
            key: (one.application, one.version, one.alive, one.heartbeat, one.lease_until)
            for key, one in model.executors.items()
        },
        "workflows": {key: _of_model(row) for key, row in model.workflows.items()},
        "checkpoints": {
            key: tuple(asdict(one).values()) for key, one in sorted(model.checkpoints.items())
        },
        "results": model.results,
        "quarantine": {key: tuple(asdict(one).values()) for key, one in model.quarantine.items()},
        "generations": model.generations,
        "edited values": model.edited,
        "decisions": sorted(model.decisions),
        "starts": sorted(model.starts),
        "watermarks": {key: (one.next_offset, one.epoch, one.holder) for key, one in model.watermarks.items()},
        "gaps": sorted(model.gaps, key=repr),
        "lanes": {key: (one.next_sequence, one.epoch, one.holder) for key, one in model.lanes.items()},
        "events": model.fingerprints,
        "parked keys": sorted((row.id, key) for row in model.workflows.values() if len(row.awaits) > 1
                              for key in row.awaits),
    }  # fmt: skip


def _of_model(row: Workflow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in WORKFLOW}
    values["awaits"] = None if not row.awaits else next(iter(row.awaits)) if len(row.awaits) == 1 else SEVERAL
    return values


def difference(found: Tables, expected: Tables) -> str:
    """What the database has otherwise than the model, empty when nothing."""
    lines = []
    for table, rows in expected.items():
        if found[table] == rows:
            continue
        if not isinstance(rows, dict):
            lines.append(f"{table}: {found[table]}, by the model {rows}")
            continue
        for key in sorted({*rows, *found[table]}, key=repr):
            was, should = found[table].get(key), rows.get(key)
            if was != should:
                lines.append(f"{table} {key}: {_short(was, should)}")
    return "\n".join(lines)


def _short(was: Any, should: Any) -> str:
    if isinstance(was, dict) and isinstance(should, dict):
        return ", ".join(
            f"{name} is {was[name]!r}, by the model {should[name]!r}"
            for name in was
            if was[name] != should[name]
        )
    return f"{was}, by the model {should}"


def _workflow(row: Any) -> dict[str, Any]:
    values = dict(zip(WORKFLOW, row, strict=True))
    for flag in FLAGS:
        values[flag] = None if values[flag] is None else bool(values[flag])
    return values


def _by(length: int) -> Callable[[Sequence[Any]], dict[Any, Any]]:
    """Rows by their first column, or by several of them."""

    def form(rows: Sequence[Any]) -> dict[Any, Any]:
        pairs = ((tuple(row[:length]), tuple(row[length:])) for row in rows)
        return {key if length > 1 else key[0]: value for key, value in pairs}

    return form


def _quarantine(rows: Sequence[Any]) -> dict[str, tuple[Any, ...]]:
    return {
        row[0]: (*row[1:4], None if row[4] is None else tuple(json.loads(row[4])), *row[5:]) for row in rows
    }


def _executors(rows: Sequence[Any]) -> dict[int, tuple[Any, ...]]:
    return {row[0]: (*row[1:3], bool(row[3]), *row[4:]) for row in rows}


_QUERIES: dict[str, tuple[str, Callable[[Sequence[Any]], Any]]] = {
    "executors": (
        "SELECT id, application, version, alive, heartbeat, lease_until FROM {schema}.executors",
        _executors,
    ),
    "workflows": (
        f"SELECT {', '.join(WORKFLOW)} FROM {{schema}}.workflows",
        lambda rows: {row[0]: _workflow(row) for row in rows},
    ),
    "checkpoints": (
        (
            "SELECT workflow_id, generation, step, completion_order, output, error, codec, child_id, writer, write_id, "
            "recorded_in FROM {schema}.steps"
        ),
        _by(3),
    ),
    "results": ("SELECT workflow_id, output, error FROM {schema}.results", _by(1)),
    "quarantine": (
        (
            "SELECT workflow_id, consumer, reason, attempts, failed_steps, quarantined_at, released_as "
            "FROM {schema}.quarantine"
        ),
        _quarantine,
    ),
    "generations": (
        "SELECT workflow_id, generation, attempt, ended_as, reason, diverged_at, next_at FROM {schema}.generations",
        _by(2),
    ),
    "edited values": (
        "SELECT workflow_id, generation, value FROM {schema}.edited_values",
        lambda rows: {(row[0], row[1]): bytes(row[2]) for row in rows},
    ),
    "decisions": (
        "SELECT workflow_id, generation, decision FROM {schema}.decisions",
        lambda rows: sorted(map(tuple, rows)),
    ),
    "starts": (
        "SELECT queue, started_at FROM {schema}.queue_starts",
        lambda rows: sorted(map(tuple, rows)),
    ),
    "watermarks": (
        "SELECT consumer, incarnation, partition, next_offset, epoch, holder FROM {schema}.watermarks",
        _by(3),
    ),
    "gaps": (
        "SELECT partition, first_offset, next_offset, reason, records FROM {schema}.gaps",
        lambda rows: sorted(map(tuple, rows), key=repr),
    ),
    "lanes": ("SELECT consumer, incarnation, lane, next_sequence, epoch, holder FROM {schema}.lanes", _by(3)),
    "events": (
        "SELECT workflow_id, fingerprint FROM {schema}.events",
        lambda rows: {row[0]: row[1] for row in rows},
    ),
    "parked keys": (
        (
            "SELECT k.workflow_id, k.key FROM {schema}.parked_keys AS k "
            "JOIN {schema}.workflows AS w ON w.id = k.workflow_id AND w.take = k.take AND w.awaits = '*'"
        ),
        lambda rows: sorted(map(tuple, rows)),
    ),
}
