"""The one query that is composed, because its filters are optional."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from dbos_events.model.workflow import WorkflowFilter

_COLUMNS = (
    "id", "status", "name", "class_name", "config_name", "application", "owner", "take", "crashes", "generation",
    "version", "created_at", "updated_at", "started_at", "completed_at", "wake_at", "queue", "priority",
    "deduplication_id", "queue_partition_key", "attributes", "delay_until", "timeout_ms", "deadline", "parent_id",
    "forked_from", "schedule_name", "end_reason",
)  # fmt: skip


def listing(criteria: WorkflowFilter, schema: str | None, *, postgres: bool) -> sa.Select[Any]:
    """Workflows that fit, with their executor's label and, if asked for, input and result."""
    workflows = sa.table("workflows", *(sa.column(name) for name in (*_COLUMNS, "start_id")), schema=schema)
    executors = sa.table("executors", sa.column("id"), sa.column("label"), schema=schema)
    payloads = sa.table("payloads", *map(sa.column, ("workflow_id", "codec", "input")), schema=schema)
    results = sa.table("results", *map(sa.column, ("workflow_id", "codec", "output", "error")), schema=schema)

    shown: list[sa.ColumnElement[Any]] = [workflows.c[name] for name in _COLUMNS]
    source: sa.FromClause = workflows.outerjoin(executors, executors.c.id == workflows.c.owner)
    shown.append(executors.c.label.label("executor_label"))
    if criteria.with_input:
        source = source.outerjoin(payloads, payloads.c.workflow_id == workflows.c.id)
        shown += [payloads.c.codec.label("input_codec"), payloads.c.input]
    if criteria.with_output:
        source = source.outerjoin(results, results.c.workflow_id == workflows.c.id)
        shown += [results.c.codec.label("result_codec"), results.c.output, results.c.error]

    conditions = _conditions(criteria, workflows, executors)
    if criteria.attributes is not None:
        conditions += _contains(workflows.c.attributes, criteria.attributes, postgres=postgres)
    query = sa.select(*shown).select_from(source).where(*conditions)
    order = (workflows.c.created_at, workflows.c.start_id, workflows.c.id)
    query = query.order_by(*(column.desc() for column in order) if criteria.descending else order)
    return query.limit(criteria.limit).offset(criteria.offset)


def _conditions(
    criteria: WorkflowFilter, workflows: sa.TableClause, executors: sa.TableClause
) -> list[sa.ColumnElement[bool]]:
    columns = workflows.c
    any_of = (
        (columns.id, criteria.workflow_ids),
        (columns.status, criteria.statuses),
        (columns.name, criteria.names),
        (columns.application, criteria.applications),
        (columns.version, criteria.versions),
        (columns.queue, criteria.queues),
        (executors.c.label, criteria.executors),
        (columns.parent_id, criteria.parents),
    )
    conditions: list[sa.ColumnElement[bool]] = [column.in_(values) for column, values in any_of if values]
    if criteria.id_prefix:
        conditions.append(
            sa.or_(*(columns.id.startswith(text, autoescape=True) for text in criteria.id_prefix))
        )
    bounds = (
        (columns.created_at, criteria.created_from, criteria.created_until),
        (columns.completed_at, criteria.completed_from, criteria.completed_until),
    )
    for column, first, last in bounds:
        if first is not None:
            conditions.append(column >= first)
        if last is not None:
            conditions.append(column <= last)
    if criteria.on_a_queue:
        conditions.append(columns.queue.is_not(None))
    if criteria.has_parent is not None:
        conditions.append(
            columns.parent_id.is_not(None) if criteria.has_parent else columns.parent_id.is_(None)
        )
    return conditions


def _contains(column: sa.ColumnElement[Any], wanted: str, *, postgres: bool) -> list[sa.ColumnElement[bool]]:
    """That the attributes hold all of `wanted`, a JSON object; what is nested in objects is compared one by one."""
    there = column.is_not(None)
    if postgres:
        from sqlalchemy.dialects.postgresql import JSONB  # loads all drivers of the dialect

        return [there, sa.cast(column, JSONB).op("@>")(sa.cast(sa.literal(wanted), JSONB))]
    conditions: list[sa.ColumnElement[bool]] = [there]
    for path, value in _leaves(json.loads(wanted), "$"):
        # Both sides as JSON: `true` is 1 and a text may look like a number, once they are taken out of it.
        found = sa.func.json_extract(column, path)
        kind = sa.func.json_type(column, path)
        conditions.append(kind.in_(_kinds(value)))
        if isinstance(value, (list, dict)):
            conditions.append(found == json.dumps(value, separators=(",", ":"), ensure_ascii=False))
        elif value is not None and not isinstance(value, bool):
            conditions.append(found == sa.literal(value))
    return conditions


def _leaves(wanted: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in wanted.items():
        here = f"{path}.{json.dumps(name, ensure_ascii=False)}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def _kinds(value: object) -> tuple[str, ...]:
    """What SQLite calls the type of such a value."""
    if isinstance(value, bool):
        return ("true",) if value else ("false",)
    if isinstance(value, (int, float)):
        return ("integer", "real")
    if value is None:
        return ("null",)
    return ("text",) if isinstance(value, str) else ("array",) if isinstance(value, list) else ("object",)
