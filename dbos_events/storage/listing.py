"""The one query that is composed, because its filters are optional."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dbos_events.model.workflow import WorkflowFilter

_COLUMNS = (
    "id", "status", "name", "class_name", "config_name", "application", "owner", "take", "crashes", "generation",
    "version", "created_at", "updated_at", "started_at", "completed_at", "wake_at", "queue", "priority",
    "deduplication_id", "queue_partition_key", "delay_until", "timeout_ms", "deadline", "parent_id", "forked_from",
    "schedule_name",
)  # fmt: skip


def listing(criteria: WorkflowFilter, schema: str | None) -> sa.Select[Any]:
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

    query = sa.select(*shown).select_from(source).where(*_conditions(criteria, workflows, executors))
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
