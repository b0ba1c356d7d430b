"""The keyword filters of `list_workflows` as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dbos_events.errors import DBOSException
from dbos_events.model.attributes import attributes_text
from dbos_events.model.workflow import DELAYED, ENQUEUED, PENDING, WorkflowFilter

Texts = str | Sequence[str] | None

ON_QUEUES = (ENQUEUED, DELAYED, PENDING)
"""How workflows stand that wait or run on a queue."""


def workflow_filter(  # noqa: PLR0913 - one argument per filter, as callers know them
    *,
    workflow_ids: Texts = None,
    workflow_id_prefix: Texts = None,
    status: Texts = None,
    name: Texts = None,
    application_name: Texts = None,
    app_version: Texts = None,
    queue_name: Texts = None,
    executor_id: Texts = None,
    parent_workflow_id: Texts = None,
    start_time: str | None = None,
    end_time: str | None = None,
    completed_after: str | None = None,
    completed_before: str | None = None,
    queues_only: bool = False,
    has_parent: bool | None = None,
    attributes: Mapping[str, Any] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    sort_desc: bool = False,
    load_input: bool = True,
    load_output: bool = True,
) -> WorkflowFilter:
    """A filter from the arguments of `list_workflows`: texts may be one or several, times are ISO 8601.

    `queues_only` is for what waits or runs on a queue, unless `status` says something else.
    """
    check_bounds(limit, offset)
    return WorkflowFilter(
        workflow_ids=texts_of(workflow_ids),
        id_prefix=texts_of(workflow_id_prefix),
        statuses=ON_QUEUES if queues_only and status is None else texts_of(status),
        names=texts_of(name),
        applications=texts_of(application_name),
        versions=texts_of(app_version),
        queues=texts_of(queue_name),
        executors=texts_of(executor_id),
        parents=texts_of(parent_workflow_id),
        created_from=milliseconds_of(start_time),
        created_until=milliseconds_of(end_time),
        completed_from=milliseconds_of(completed_after),
        completed_until=milliseconds_of(completed_before),
        on_a_queue=queues_only,
        has_parent=has_parent,
        attributes=None if attributes is None else attributes_text(attributes),
        limit=limit,
        offset=offset,
        descending=sort_desc,
        with_input=load_input,
        with_output=load_output,
    )


def check_bounds(limit: int | None, offset: int | None) -> None:
    """Refuse bounds of a listing that are below 0."""
    for bound, number in (("limit", limit), ("offset", offset)):
        if number is not None and number < 0:
            raise DBOSException(f"{bound} must be 0 or more, or None, not {number!r}.")


def texts_of(value: Texts) -> tuple[str, ...]:
    """One or several, as a tuple."""
    if value is None:
        return ()
    return (str(value),) if isinstance(value, str) else tuple(str(one) for one in value)


def milliseconds_of(text: str | None) -> int | None:
    """ISO 8601 to milliseconds since 1970; a time without a zone is local, as it is written."""
    if text is None:
        return None
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError as error:
        raise DBOSException(f"{text!r} is no time in ISO 8601, such as 2026-11-22T10:00:00+00:00.") from error
