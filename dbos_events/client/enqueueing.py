"""Enqueues of a client: by the workflow's name, also within the caller's own transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.queueing import EnqueueOptions, Queueing, by_options
from dbos_events.api.queues import Queue
from dbos_events.api.session import Session
from dbos_events.api.starting import Starting
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.errors import DBOSException
from dbos_events.model.queue import OnConflict

WITHOUT_EFFECT = ("serialization_type", "max_recovery_attempts")
"""Options of the peer that are taken and say nothing here: the client's serializer and the function's own limit count."""


def starting_of(
    session: Session, options: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Starting:
    """A start by the name of the workflow, for the application that the options name, or else the client's.

    Raises:
        DBOSException: An option is missing, unknown or wrong.
    """
    if not isinstance(options, Mapping):
        raise DBOSException(f"EnqueueOptions are a mapping, not {options!r}.")
    kept = {key: value for key, value in options.items() if key not in (*WITHOUT_EFFECT, "application_name")}
    starting = by_options(session, kept, args, kwargs)
    starting.request.application = application_of(session, options)
    return starting


def application_of(session: Session, options: Mapping[str, Any]) -> str:
    """Whose workflow it is."""
    named = options.get("application_name")
    if named is None:
        return session.core.application
    if not isinstance(named, str) or not named.strip():
        raise DBOSException(f"application_name must be a text that is not blank, not {named!r}.")
    return named


def enqueue(session: Session, options: EnqueueOptions, /, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
    """Enqueue a workflow by its name; durable when this returns, at most one per id.

    The options are those of `DBOS.enqueue_workflow_with_options`, and `application_name`: any process of that application
    that has the function runs it, of whichever version, unless `app_version` says one. Function and queue need not exist
    yet: the workflow waits for them.

    Raises:
        DBOSException: An option is missing, unknown or wrong.
        DBOSQueueDeduplicatedError: An unfinished workflow of the queue has the deduplication id.
    """
    started = drive(starting_of(session, options, args, kwargs).flow())
    return WorkflowHandle(session, started.workflow_id)


async def enqueue_async(
    session: Session, options: EnqueueOptions, /, *args: Any, **kwargs: Any
) -> WorkflowHandleAsync[Any]:
    """As `enqueue`, without blocking the loop."""
    started = await drive_async(starting_of(session, options, args, kwargs).flow())
    started.pass_on_cancellation()
    return WorkflowHandleAsync(session, started.workflow_id)


def register_queue(
    session: Queueing, name: str, *, on_conflict: OnConflict = "always_update", **settings: Any
) -> Queue:
    """Store a queue in the database; every process of the application serves it from now on.

    The settings are those of `DBOS.register_queue`. A client has no version, so by default it changes a queue that is
    there.
    """
    return session.register_queue(name, on_conflict=on_conflict, **settings)


async def register_queue_async(
    session: Queueing, name: str, *, on_conflict: OnConflict = "always_update", **settings: Any
) -> Queue:
    """As `register_queue`, without blocking the loop."""
    return await session.register_queue_async(name, on_conflict=on_conflict, **settings)
