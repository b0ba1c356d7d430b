"""What the storage is told, and tells, about events in quarantine; and the query whose filters are optional."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dbos_events.model.quarantine import (
    QuarantineFilter,
)

if TYPE_CHECKING:
    import sqlalchemy as sa


def quarantined_query(criteria: QuarantineFilter, schema: str | None) -> sa.Select[Any]:
    """Events that fit, with the names of their consumer and topic, in the order in which they were put aside."""
    import sqlalchemy as sa

    put = _table("quarantine", schema, *_PUT)
    rows = _table("workflows", schema, *_ROWS)
    consumers = _table("consumers", schema, "id", "name")
    incarnations = _table("incarnations", schema, "id", "topic")
    source = (
        put.join(rows, rows.c.id == put.c.workflow_id)
        .outerjoin(consumers, consumers.c.id == put.c.consumer)
        .outerjoin(incarnations, incarnations.c.id == rows.c.incarnation)
    )
    lane = sa.case((rows.c.lane_open, rows.c.lane))
    shown = (
        put.c.workflow_id, rows.c.application, consumers.c.name.label("consumer"), incarnations.c.topic,
        rows.c.partition, rows.c.position.label("offset"), rows.c.status, rows.c.generation, put.c.attempts,
        put.c.reason, put.c.error_type, put.c.error_message, lane.label("lane"), put.c.quarantined_at,
        put.c.released_at, put.c.released_as,
    )  # fmt: skip
    any_of = (
        (put.c.workflow_id, criteria.workflow_ids),
        (rows.c.application, criteria.applications),
        (consumers.c.name, criteria.consumers),
        (incarnations.c.topic, criteria.topics),
        (rows.c.partition, criteria.partitions),
        (put.c.reason, criteria.reasons),
    )
    conditions: list[sa.ColumnElement[bool]] = [column.in_(values) for column, values in any_of if values]
    conditions += _bounds(criteria, rows, put) + _about_the_error(criteria, put)
    query = sa.select(*shown).select_from(source).where(*conditions)
    return query.order_by(put.c.quarantined_at, put.c.workflow_id).limit(criteria.limit)


def counts_query(criteria: QuarantineFilter, schema: str | None) -> sa.Select[Any]:
    """How many events fit, by consumer, reason and class of the error."""
    import sqlalchemy as sa

    found = quarantined_query(replace(criteria, limit=None), schema).order_by(None).subquery()
    by = (found.c.consumer, found.c.reason, found.c.error_type)
    count = sa.func.count().label("count")
    return sa.select(*by, count).group_by(*by).order_by(count.desc(), *by)


_PUT = (
    "workflow_id", "consumer", "attempts", "reason", "error_type", "error_message", "quarantined_at",
    "released_at", "released_as",
)  # fmt: skip
_ROWS = (
    "id", "application", "incarnation", "partition", "position", "status", "generation", "lane", "lane_open",
)  # fmt: skip


def _table(name: str, schema: str | None, *columns: str) -> sa.TableClause:
    import sqlalchemy as sa

    return sa.table(name, *map(sa.column, columns), schema=schema)


def _bounds(
    criteria: QuarantineFilter, rows: sa.TableClause, put: sa.TableClause
) -> list[sa.ColumnElement[bool]]:
    import sqlalchemy as sa

    conditions: list[sa.ColumnElement[bool]] = []
    if not criteria.released:
        conditions.append(put.c.released_at.is_(None))
    if criteria.after is not None:
        time, workflow_id = criteria.after
        later = sa.and_(put.c.quarantined_at == time, put.c.workflow_id > workflow_id)
        # The first one says nothing new but to the index.
        conditions += [put.c.quarantined_at >= time, sa.or_(put.c.quarantined_at > time, later)]
    between = (
        (rows.c.position, criteria.first_offset, criteria.last_offset),
        (put.c.quarantined_at, criteria.quarantined_from, criteria.quarantined_until),
    )
    for column, first, last in between:
        if first is not None:
            conditions.append(column >= first)
        if last is not None:
            conditions.append(column <= last)
    return conditions


def _about_the_error(criteria: QuarantineFilter, put: sa.TableClause) -> list[sa.ColumnElement[bool]]:
    import sqlalchemy as sa

    conditions: list[sa.ColumnElement[bool]] = []
    if criteria.error_types:
        names = [sa.func.lower(put.c.error_type) == name.lower() for name in criteria.error_types]
        names += [put.c.error_type.iendswith(f".{name}", autoescape=True) for name in criteria.error_types]
        conditions.append(sa.or_(*names))
    if criteria.error_text is not None:
        conditions.append(put.c.error_message.icontains(criteria.error_text, autoescape=True))
    return conditions
