"""The verbs around queues: enqueue by function or by name, register queues, move delays, change attributes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NoReturn, ParamSpec, TypedDict, TypeVar

from dbos_events.api.contexts import (
    POLICIES,
    SetWorkflowID,
    SetWorkflowTimeout,
    WorkflowIDReusePolicy,
    check_policy,
)
from dbos_events.api.enqueueing import EnqueueSettings, SetWorkflowAttributes
from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.queues import Queue, check_name, checked
from dbos_events.api.reading import asked
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.api.starting import Starting, prepare
from dbos_events.control.queues import QueueControl
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.effects import Flow, Query
from dbos_events.engine.registry import Registered
from dbos_events.errors import DBOSException, DBOSInitializationError
from dbos_events.model.dataclass import dataclass
from dbos_events.model.queue import QUEUES_CHANGED, DuplicationPolicy, OnConflict, QueueLimits, QueueRateLimit

P = ParamSpec("P")
R = TypeVar("R")


class _Target(TypedDict):
    workflow_name: str
    queue_name: str


class EnqueueOptions(_Target, total=False):
    """What is enqueued by name, and how; `workflow_name` and `queue_name` are required.

    The function may live in another program: any process of the application that has it runs the workflow, whichever its
    version, unless `app_version` says one.
    """

    workflow_id: str
    workflow_id_reuse_policy: WorkflowIDReusePolicy
    app_version: str
    delay_seconds: float
    deduplication_id: str
    duplication_policy: DuplicationPolicy
    priority: int
    queue_partition_key: str
    class_name: str
    attributes: Mapping[str, Any]
    application_name: str
    workflow_timeout: float
    queue_timeout_seconds: float


_SETTINGS = (
    "deduplication_id", "priority", "app_version", "queue_partition_key", "delay_seconds", "duplication_policy",
)  # fmt: skip
_TIMEOUTS = ("workflow_timeout", "queue_timeout_seconds")
_OTHERS = (
    "workflow_name", "queue_name", "workflow_id", "workflow_id_reuse_policy", "class_name", "attributes",
    "application_name", "workflow_timeout", "queue_timeout_seconds",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Settings:
    """The arguments of `register_queue`."""

    name: str
    limits: QueueLimits
    on_conflict: OnConflict


class Queueing(Session):
    """Verbs around queues."""

    def enqueue_workflow(
        self, queue_name: str, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]:
        """Put a workflow (or a step, as a workflow of one step) on a queue; durable when this returns.

        The queue need not exist: the workflow waits until one of the name does.

        Raises:
            DBOSQueueDeduplicatedError: An unfinished workflow of the queue has the deduplication id.
        """
        refuse_on_loop("enqueue_workflow")
        started = drive(prepare(self, func, args, kwargs, queue=check_name(queue_name)).flow())
        return WorkflowHandle(self, started.workflow_id)

    async def enqueue_workflow_async(
        self, queue_name: str, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandleAsync[R]:
        """As `enqueue_workflow`, without blocking the loop."""
        started = await drive_async(prepare(self, func, args, kwargs, queue=check_name(queue_name)).flow())
        started.pass_on_cancellation()
        return WorkflowHandleAsync(self, started.workflow_id)

    def enqueue_workflow_with_options(
        self, options: EnqueueOptions, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """Enqueue by the workflow's name, which need not be registered in this process."""
        refuse_on_loop("enqueue_workflow_with_options")
        started = drive(by_options(self, options, args, kwargs).flow())
        return WorkflowHandle(self, started.workflow_id)

    async def enqueue_workflow_with_options_async(
        self, options: EnqueueOptions, *args: Any, **kwargs: Any
    ) -> WorkflowHandleAsync[Any]:
        """As `enqueue_workflow_with_options`, without blocking the loop."""
        started = await drive_async(by_options(self, options, args, kwargs).flow())
        started.pass_on_cancellation()
        return WorkflowHandleAsync(self, started.workflow_id)

    # -- queues -------------------------------------------------------------------------------

    def register_queue(self, name: str, **settings: Any) -> Queue:
        """Store a queue in the database; every process of the application serves it from now on.

        Args:
            name: The queue's name.
            settings: `worker_concurrency`, `global_concurrency` (or `concurrency`), `limiter`, `partition_concurrency`,
                `partition_worker_concurrency`, `partition_limiter`, `polling_interval_sec` (1.0), `priority_ages`, and
                `on_conflict`: what becomes of a queue that is there already: "update_if_latest_version" (the default:
                only the version of the application that came last changes it), "always_update", "never_update".

        Raises:
            RegistrationError: A setting is wrong.
        """
        refuse_on_loop("register_queue")
        return drive(register_flow(self, _settings(name, **settings)))

    async def register_queue_async(self, name: str, **settings: Any) -> Queue:
        """As `register_queue`, without blocking the loop."""
        return await drive_async(register_flow(self, _settings(name, **settings)))

    def retrieve_queue(self, name: str) -> Queue | None:
        """A queue by name; None when the database has none."""
        refuse_on_loop("retrieve_queue")
        return drive(retrieve_flow(self, name))

    async def retrieve_queue_async(self, name: str) -> Queue | None:
        """As `retrieve_queue`, without blocking the loop."""
        return await drive_async(retrieve_flow(self, name))

    def list_queues(self, *, application_name: str | None = None) -> list[Queue]:
        """The queues of an application, of this one by default, by name."""
        refuse_on_loop("list_queues")
        return drive(queues_flow(self, application_name))

    async def list_queues_async(self, *, application_name: str | None = None) -> list[Queue]:
        """As `list_queues`, without blocking the loop."""
        return await drive_async(queues_flow(self, application_name))

    def delete_queue(self, name: str) -> None:
        """Forget a queue: nobody serves it any more. What waits on it stays, until there is a queue of the name again."""
        refuse_on_loop("delete_queue")
        drive(delete_flow(self, name))

    async def delete_queue_async(self, name: str) -> None:
        """As `delete_queue`, without blocking the loop."""
        await drive_async(delete_flow(self, name))

    def listen_queues(self, queues: Sequence[Queue | str]) -> None:
        """Serve only these queues in this process; to be called before `launch`.

        Raises:
            DBOSInitializationError: The App is launched already.
        """
        if getattr(self, "is_launched", False):
            raise DBOSInitializationError(
                "listen_queues was called after launch. Call it before DBOS.launch()."
            )
        names = [queue if isinstance(queue, str) else queue.name for queue in queues]
        self.registry.listens_to = frozenset(check_name(name) for name in names)

    # -- one workflow -------------------------------------------------------------------------

    def set_workflow_delay(
        self, workflow_id: str, *, delay_seconds: float | None = None, delay_until_epoch_ms: int | None = None
    ) -> bool:
        """Move the time of a workflow that is DELAYED: so long from now, or to a point in time; exactly one of them.

        Gives whether it was delayed still; otherwise nothing is changed.

        Raises:
            DBOSNonExistentWorkflowError: There is none with that id.
        """
        refuse_on_loop("set_workflow_delay")
        return drive(delay_flow(self, workflow_id, delay_seconds, delay_until_epoch_ms))

    async def set_workflow_delay_async(
        self, workflow_id: str, *, delay_seconds: float | None = None, delay_until_epoch_ms: int | None = None
    ) -> bool:
        """As `set_workflow_delay`, without blocking the loop."""
        return await drive_async(delay_flow(self, workflow_id, delay_seconds, delay_until_epoch_ms))

    def update_workflow_attributes(
        self, workflow_id: str, attributes: Mapping[str, Any] | None, *, merge: bool = False
    ) -> None:
        """Give a workflow other attributes, in place of those that it has, or with `merge` beside them.

        Raises:
            DBOSNonExistentWorkflowError: There is none with that id.
        """
        refuse_on_loop("update_workflow_attributes")
        drive(attributes_flow(self, workflow_id, attributes, merge=merge))

    async def update_workflow_attributes_async(
        self, workflow_id: str, attributes: Mapping[str, Any] | None, *, merge: bool = False
    ) -> None:
        """As `update_workflow_attributes`, without blocking the loop."""
        await drive_async(attributes_flow(self, workflow_id, attributes, merge=merge))


# -- flows ----------------------------------------------------------------------------------------


def by_options(
    session: Session, options: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Starting:
    """A start by the name of the workflow.

    Raises:
        DBOSException: An option is missing, unknown or wrong.
    """
    name, queue = _checked_options(session, options)
    known = session.registry.workflows.get(name)
    entry = known or Registered(name, _elsewhere, is_async=False, class_name=options.get("class_name"))
    settings = EnqueueSettings(**{key: options[key] for key in _SETTINGS if options.get(key) is not None})
    starting = _within_blocks(session, options, entry, args, kwargs, queue, settings)
    starting.request.any_version = options.get("app_version") is None
    return starting


def _within_blocks(
    session: Session,
    options: Mapping[str, Any],
    entry: Registered,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    queue: str,
    settings: EnqueueSettings,
) -> Starting:
    """What the options say of id and attributes, as the blocks for them say it."""
    if options.get("attributes") is not None:
        with SetWorkflowAttributes(options["attributes"]):
            rest = {key: value for key, value in options.items() if key != "attributes"}
            return _within_blocks(session, rest, entry, args, kwargs, queue, settings)
    timeouts = {key: options[key] for key in _TIMEOUTS if options.get(key) is not None}
    if timeouts:
        rest = {key: value for key, value in options.items() if key not in _TIMEOUTS}
        block = SetWorkflowTimeout(
            timeouts.get("workflow_timeout", "inherit"),
            queue_timeout_seconds=timeouts.get("queue_timeout_seconds"),
        )
        with block:
            return _within_blocks(session, rest, entry, args, kwargs, queue, settings)
    policy = options.get("workflow_id_reuse_policy")
    check_policy("workflow_id_reuse_policy", policy)
    if options.get("workflow_id") is not None:
        with SetWorkflowID(options["workflow_id"], workflow_id_reuse_policy=policy):
            return prepare(session, entry, args, kwargs, queue=queue, settings=settings)
    return prepare(session, entry, args, kwargs, queue=queue, settings=settings)


def _checked_options(session: Session, options: Mapping[str, Any]) -> tuple[str, str]:
    if not isinstance(options, Mapping):
        raise DBOSException(f"EnqueueOptions are a mapping, not {options!r}.")
    for required in ("workflow_name", "queue_name"):
        value = options.get(required)
        if not isinstance(value, str) or not value.strip():
            raise DBOSException(f"EnqueueOptions need {required}, a text that is not blank; not {value!r}.")
    unknown = sorted(set(options) - {*_SETTINGS, *_OTHERS})
    unknown = [name for name in unknown if options[name] is not None]
    if unknown:
        raise DBOSException(
            f"EnqueueOptions know no {', '.join(map(repr, unknown))}. They know {', '.join((*_OTHERS, *_SETTINGS))}."
        )
    application = options.get("application_name")
    if application is not None and application != session.core.application:
        raise DBOSException(
            f"This program belongs to the application {session.core.application!r}, so it cannot enqueue for "
            f"{application!r}."
        )
    return options["workflow_name"], check_name(options["queue_name"])


def _elsewhere(*_: Any, **__: Any) -> NoReturn:
    raise DBOSException("This function is registered in another program.")


def _settings(
    name: str,
    *,
    on_conflict: OnConflict = "update_if_latest_version",
    global_concurrency: int | None = None,
    concurrency: int | None = None,
    priority_enabled: bool = True,
    **settings: Any,
) -> _Settings:
    del priority_enabled  # priorities count on every queue
    if on_conflict not in ("update_if_latest_version", "always_update", "never_update"):
        raise DBOSException(
            "on_conflict must be 'update_if_latest_version', 'always_update' or 'never_update', not "
            f"{on_conflict!r}."
        )
    both = global_concurrency if global_concurrency is not None else concurrency
    return _Settings(check_name(name), checked(name, QueueLimits(concurrency=both, **settings)), on_conflict)


def register_flow(session: Session, settings: _Settings) -> Flow[Queue]:
    """Store a queue; repeating it does no harm, so nothing is recorded of it within a workflow."""
    core = session.core
    state = yield Query(
        core,
        lambda: core.storage.queues.register(
            core.application, settings.name, settings.limits, core.version, settings.on_conflict
        ),
    )
    core.signal(QUEUES_CHANGED)
    return Queue.stored(session, state.name, state.limits)


def retrieve_flow(session: Session, name: str) -> Flow[Queue | None]:
    core = session.core
    state = yield Query(core, lambda: core.storage.queues.get(core.application, name))
    return None if state is None else Queue.stored(session, state.name, state.limits)


def queues_flow(session: Session, application: str | None) -> Flow[list[Queue]]:
    core = session.core
    states = yield Query(core, lambda: core.storage.queues.read(application or core.application))
    return [Queue.stored(session, state.name, state.limits) for state in states]


def delete_flow(session: Session, name: str) -> Flow[None]:
    core = session.core
    yield Query(core, lambda: core.storage.queues.delete(core.application, name))
    core.signal(QUEUES_CHANGED)


def delay_flow(
    session: Session, workflow_id: str, delay_seconds: float | None, until: int | None
) -> Flow[bool]:
    core = session.core

    def work() -> bool:
        return _control(session).set_delay(workflow_id, delay_seconds=delay_seconds, until=until)

    return asked(core, "DBOS.setWorkflowDelay", work)


def attributes_flow(
    session: Session, workflow_id: str, attributes: Mapping[str, Any] | None, *, merge: bool
) -> Flow[None]:
    core = session.core

    def work() -> None:
        _control(session).set_attributes(workflow_id, attributes, merge=merge)

    return asked(core, "DBOS.updateWorkflowAttributes", work)


def _control(session: Session) -> QueueControl:
    core = session.core

    def tell(channels: Sequence[str]) -> None:
        for channel in channels:
            core.signal(channel)

    return QueueControl(core.storage, tell=tell)


__all__ = ["POLICIES", "EnqueueOptions", "QueueRateLimit", "Queueing"]
