"""`DBOSClient`: what a program asks of an application whose functions it does not have."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from dbos_events.api.surface import Surface
from dbos_events.client import enqueueing, scheduling, sending, within
from dbos_events.client.verbs import awaited, blocking, iterated, iterated_async, loosely
from dbos_events.config import DEFAULT_SCHEMA
from dbos_events.engine.forked import refuse_after_fork
from dbos_events.errors import DBOSException

if TYPE_CHECKING:
    from dbos_events.client.session import Connected

_WITHOUT_EFFECT = (
    "application_database_url", "system_database_polling_concurrency", "observability_query_timeout_sec",
    "sys_db_idle_transaction_timeout_sec", "sharding",
)  # fmt: skip


class DBOSClient:
    """Asks, starts and changes workflows of an application from a program that runs none of them.

    It has no functions, no executor and no lease; it never migrates. Its verbs are those of `DBOS` (and mean the same),
    with a twin for event loops each. What it does is durable when a verb returns, and no part of any workflow, also where it
    is called in one: there a replay does it again. Use it as `with DBOSClient(...) as client:`, or call `destroy`.

    Args:
        database_url: The database, where `system_database_url` is not given.
        system_database_url: As in `DBOSConfig`; by default that of the environment or the settings file.
        dbos_system_schema: The schema of the tables on PostgreSQL.
        serializer: As in `DBOSConfig`; the same as that of the application.
        application_name: The application that it works for; by default the one that the environment names, or the only one
            that the database has. Verbs that name a workflow by its id need none.
        use_listen_notify: Hear of results, events and stream entries at once, on a connection of its own (PostgreSQL);
            without it they are looked for once a second, and queues are not told of what is enqueued.
        lazy: Connect at the first use, and not now.
        retry_connection_errors: Wait for a database that does not answer; False: raise StorageUnavailable.
        system_database_pool_size: Connections at most.
        system_database_engine: A SQLAlchemy engine whose URL is taken.

    Raises:
        ConfigurationError: A value is not usable, or the SQLite file is missing.
        MigrationRequired: The schema is missing, too old or too new for this release.
        StorageUnavailable: The database does not answer.
    """

    def __init__(  # noqa: PLR0913 - how one client connects
        self,
        database_url: str | None = None,
        *,
        system_database_url: str | None = None,
        system_database_engine: Any = None,
        dbos_system_schema: str | None = None,
        serializer: Any = None,
        application_name: str | None = None,
        use_listen_notify: bool = True,
        lazy: bool = False,
        retry_connection_errors: bool = True,
        system_database_pool_size: int | None = None,
        **others: Any,
    ) -> None:
        _tell_others(others)
        if system_database_engine is not None and system_database_url is None:
            system_database_url = system_database_engine.url.render_as_string(hide_password=False)
        self._config = {
            "system_database_url": system_database_url or database_url,
            "dbos_system_schema": dbos_system_schema or DEFAULT_SCHEMA,
            "serializer": serializer,
            "name": application_name,
            "use_listen_notify": use_listen_notify,
            "sys_db_pool_size": max(4, system_database_pool_size or 5),
        }
        self._retries = retry_connection_errors
        self._lock = threading.Lock()
        self._session: Connected | None = None
        self._destroyed = False
        self._forked_from: int | None = None
        _clients.add(self)
        if not lazy:
            self.connected()

    # -- life ---------------------------------------------------------------------------------

    def connected(self) -> Connected:
        """The verbs over the database; connects at the first use.

        Raises:
            DBOSException: The client was destroyed.
        """
        session = self._session
        return session if session is not None else self._connect()

    async def connected_async(self) -> Connected:
        """As `connected`, without blocking the loop."""
        session = self._session
        if session is None:
            session = await asyncio.to_thread(self._connect)
        if not session.core.names_application:
            await asyncio.to_thread(session.core.look_for_application)
        return session

    def _connect(self) -> Connected:
        from dbos_events.client.session import Connected, Connecting  # brings SQLAlchemy and pydantic with it
        from dbos_events.settings import read_settings

        with self._lock:
            if self._forked_from is not None:
                refuse_after_fork(self._forked_from)
            if self._destroyed:
                raise DBOSException("This DBOSClient was destroyed. Make another one.")
            if self._session is None:
                settings = read_settings(self._config)
                named = settings.name if "name" in settings.model_fields_set else None
                self._session = Connected(Connecting(settings, named, self._retries))
            return self._session

    def check_connection(self) -> None:
        """Ask the database for something; connects where it is not yet.

        Raises:
            StorageUnavailable: It does not answer.
        """
        self.connected().check()

    async def check_connection_async(self) -> None:
        """As `check_connection`, without blocking the loop."""
        await asyncio.to_thread(self.check_connection)

    def destroy(self) -> None:
        """Close the connections; verbs that wait raise DBOSException. To be called again does no harm."""
        with self._lock:
            session, self._session, self._destroyed = self._session, None, True
        if session is not None:
            session.close()

    async def destroy_async(self) -> None:
        """As `destroy`, without blocking the loop."""
        await asyncio.to_thread(self.destroy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    async def __aenter__(self) -> Self:
        await self.connected_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.destroy_async()

    def _leave_to_parent(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        session, self._session = self._session, None
        if session is not None:
            self._forked_from = os.getppid()
            session.leave_to_parent()

    # -- starting -----------------------------------------------------------------------------

    enqueue = blocking(enqueueing.enqueue)
    enqueue_async = awaited(enqueueing.enqueue_async)
    enqueue_in_transaction = blocking(within.enqueue_in_transaction)
    set_workflow_delay = blocking(Surface.set_workflow_delay)
    set_workflow_delay_async = awaited(Surface.set_workflow_delay_async)

    # -- talking ------------------------------------------------------------------------------

    send = blocking(sending.send)
    send_async = awaited(sending.send_async)
    send_bulk = blocking(Surface.send_bulk)
    send_bulk_async = awaited(Surface.send_bulk_async)
    send_in_transaction = blocking(within.send_in_transaction)
    send_bulk_in_transaction = blocking(within.send_bulk_in_transaction)
    publish = blocking(Surface.publish)
    publish_async = awaited(Surface.publish_async)
    get_event = blocking(Surface.get_event)
    get_event_async = awaited(Surface.get_event_async)
    get_all_events = blocking(Surface.get_all_events)
    get_all_events_async = awaited(Surface.get_all_events_async)
    read_stream = iterated(Surface.read_stream)
    read_stream_async = iterated_async(Surface.read_stream_async)
    read_stream_offset = blocking(Surface.read_stream_offset)
    read_stream_offset_async = awaited(Surface.read_stream_offset_async)

    # -- workflows ----------------------------------------------------------------------------

    retrieve_workflow = blocking(Surface.retrieve_workflow)
    retrieve_workflow_async = awaited(Surface.retrieve_workflow_async)
    get_workflow_status = blocking(Surface.get_workflow_status)
    get_workflow_status_async = awaited(Surface.get_workflow_status_async)
    get_result = blocking(Surface.get_result)
    get_result_async = awaited(Surface.get_result_async)
    wait_first = blocking(Surface.wait_first)
    wait_first_async = awaited(Surface.wait_first_async)
    list_workflows = blocking(loosely(Surface.list_workflows))
    list_workflows_async = awaited(loosely(Surface.list_workflows_async))
    list_queued_workflows = blocking(loosely(Surface.list_queued_workflows))
    list_queued_workflows_async = awaited(loosely(Surface.list_queued_workflows_async))
    list_workflow_steps = blocking(Surface.list_workflow_steps)
    list_workflow_steps_async = awaited(Surface.list_workflow_steps_async)
    cancel_workflow = blocking(Surface.cancel_workflow)
    cancel_workflow_async = awaited(Surface.cancel_workflow_async)
    cancel_workflows = blocking(Surface.cancel_workflows)
    cancel_workflows_async = awaited(Surface.cancel_workflows_async)
    resume_workflow = blocking(Surface.resume_workflow)
    resume_workflow_async = awaited(Surface.resume_workflow_async)
    resume_workflows = blocking(Surface.resume_workflows)
    resume_workflows_async = awaited(Surface.resume_workflows_async)
    update_workflow_attributes = blocking(Surface.update_workflow_attributes)
    update_workflow_attributes_async = awaited(Surface.update_workflow_attributes_async)

    # -- queues -------------------------------------------------------------------------------

    register_queue = blocking(loosely(enqueueing.register_queue))
    register_queue_async = awaited(loosely(enqueueing.register_queue_async))
    retrieve_queue = blocking(Surface.retrieve_queue)
    retrieve_queue_async = awaited(Surface.retrieve_queue_async)
    list_queues = blocking(Surface.list_queues)
    list_queues_async = awaited(Surface.list_queues_async)
    delete_queue = blocking(Surface.delete_queue)
    delete_queue_async = awaited(Surface.delete_queue_async)

    # -- schedules ----------------------------------------------------------------------------

    create_schedule = blocking(scheduling.create_schedule)
    create_schedule_async = awaited(scheduling.create_schedule_async)
    apply_schedules = blocking(scheduling.apply_schedules)
    apply_schedules_async = awaited(scheduling.apply_schedules_async)
    list_schedules = blocking(Surface.list_schedules)
    list_schedules_async = awaited(Surface.list_schedules_async)
    get_schedule = blocking(Surface.get_schedule)
    get_schedule_async = awaited(Surface.get_schedule_async)
    delete_schedule = blocking(Surface.delete_schedule)
    delete_schedule_async = awaited(Surface.delete_schedule_async)
    pause_schedule = blocking(Surface.pause_schedule)
    pause_schedule_async = awaited(Surface.pause_schedule_async)
    resume_schedule = blocking(Surface.resume_schedule)
    resume_schedule_async = awaited(Surface.resume_schedule_async)
    trigger_schedule = blocking(Surface.trigger_schedule)
    trigger_schedule_async = awaited(Surface.trigger_schedule_async)
    backfill_schedule = blocking(Surface.backfill_schedule)
    backfill_schedule_async = awaited(Surface.backfill_schedule_async)


def _tell_others(others: Mapping[str, Any]) -> None:
    unknown = sorted(set(others) - set(_WITHOUT_EFFECT))
    if unknown:
        raise TypeError(f"DBOSClient does not know {', '.join(unknown)}.")
    for name in sorted(name for name, value in others.items() if value):
        warnings.warn(f"{name!r} has no effect in dbos_events.", stacklevel=3)


# The clients of this process. A forked one has none of their threads, but their connections.
_clients: weakref.WeakSet[DBOSClient] = weakref.WeakSet()


def _after_fork() -> None:
    for client in tuple(_clients):
        client._leave_to_parent()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
