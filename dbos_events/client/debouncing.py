"""Debouncers of a client: of a workflow by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos_events.api.debouncing import Debouncing
from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.queueing import EnqueueOptions
from dbos_events.api.queues import Queue
from dbos_events.api.session import Session
from dbos_events.client.client import DBOSClient
from dbos_events.client.enqueueing import application_of, starting_of
from dbos_events.client.handles import ClientHandle, ClientHandleAsync
from dbos_events.client.verbs import refuse_to_block
from dbos_events.engine.context import without_caller
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.effects import Flow
from dbos_events.engine.operations.debounce import bounce
from dbos_events.engine.operations.start import Started
from dbos_events.errors import DBOSException
from dbos_events.storage.writes.debounce import Keep

_SAYS_NOTHING = (
    "workflow_id", "workflow_id_reuse_policy", "deduplication_id", "duplication_policy", "priority", "queue_partition_key",
    "delay_seconds", "queue_timeout_seconds",
)  # fmt: skip
_OF_PEER = "_dbos_internal_queue"
"""What programs for DBOS Transact name where the workflow is for any process."""


class DebouncerClient:
    """As `Debouncer`, of a workflow by its name: every call belongs to exactly one run.

    Args:
        client: The client.
        workflow_options: `workflow_name`, and perhaps `queue_name`, `app_version`, `attributes`, `workflow_timeout`,
            `class_name`, `application_name`.
        debounce_timeout_sec: How long the run can be put off at most, counted from the first call; None: for ever.
        queue: The queue on which it runs; by default `queue_name` of the options, and without that any process runs it.
        application_name: The application; by default that of the options, or the client's.
        keep: With what it runs: see `Debouncer`.

    Raises:
        DBOSException: An option is missing, unknown or wrong, or says nothing to a debounced call.
    """

    def __init__(
        self,
        client: DBOSClient,
        workflow_options: EnqueueOptions | Mapping[str, Any],
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
        application_name: str | None = None,
        keep: Keep = "last",
    ) -> None:
        options = {key: value for key, value in dict(workflow_options).items() if value is not None}
        if application_name is not None:
            options["application_name"] = application_name
        named = next((name for name in _SAYS_NOTHING if name in options), None)
        if named is not None:
            raise DBOSException(f"{named} says nothing to a debounced call. Leave it out of the options.")
        if options.get("queue_name") == _OF_PEER:
            del options["queue_name"]
        self._client = client
        self._options = options
        self._timeout = debounce_timeout_sec
        self._queue = options.get("queue_name") if queue is None else queue
        self._keep: Keep = keep
        Debouncing.checked(_NOBODY, debounce_timeout_sec, self._queue, keep)

    def debounce(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """Call the workflow, put off by the period; gives a handle on the run that the call belongs to.

        Durable when it returns. Calls with different keys have nothing to do with each other.
        """
        refuse_to_block("debounce")
        session = self._client.connected()
        with without_caller():
            started = drive(self._flow(session, debounce_key, debounce_period_sec, args, kwargs))
        return ClientHandle(session, started.workflow_id)

    async def debounce_async(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> WorkflowHandleAsync[Any]:
        """As `debounce`, without blocking the loop."""
        session = await self._client.connected_async()
        with without_caller():
            started = await drive_async(self._flow(session, debounce_key, debounce_period_sec, args, kwargs))
        return ClientHandleAsync(session, started.workflow_id)

    def _flow(
        self, session: Session, key: str, period: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Flow[Started]:
        # The queue is the debouncer's; what else the options say is checked and read as of an enqueue.
        model = starting_of(session, {**self._options, "queue_name": "any"}, args, kwargs).request
        call = Debouncing.checked(model.function, self._timeout, self._queue, self._keep).call(
            key, period, args, kwargs
        )
        call.start.application = application_of(session, self._options)
        call.start.any_version, call.start.app_version = model.any_version, model.app_version
        call.start.attributes, call.start.limits = model.attributes, model.limits
        return bounce(session.core, None, None, call)


class _Nobody:
    """Stands for the function while only the other arguments are checked."""


_NOBODY: Any = _Nobody()
