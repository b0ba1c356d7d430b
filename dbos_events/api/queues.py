"""Durable queues."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Protocol, Self, TypeVar

from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.api.starting import prepare
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.effects import Flow, Query
from dbos_events.errors import DBOSException, RegistrationError
from dbos_events.model.queue import QUEUES_CHANGED, QueueLimits, QueueRateLimit

P = ParamSpec("P")
R = TypeVar("R")


class QueueHost(Session, Protocol):
    """An App that queues can be declared on."""

    def add_queue(self, name: str, limits: QueueLimits) -> None: ...


class Queue:
    """A durable queue: workflows wait in the database until a process of the application has room.

    `Queue(...)` declares it in code; processes that declare it serve it. `DBOS.register_queue` and
    `DBOS.retrieve_queue` give one whose settings are in the database only: every process of the application serves it,
    and its settings can be changed while it is served.

    Args:
        name: The queue's name; names that start with `_dbos` are reserved.
        concurrency: How many of its workflows run at once, over all processes.
        limiter: `{"limit": n, "period": seconds}`: at most n starts within any period, over all
            processes.
        worker_concurrency: How many run at once in one process.
        priority_enabled: Accepted; priorities count on every queue.
        partition_queue: Each workflow belongs to a partition (`SetEnqueueOptions(queue_partition_key=...)`), and the limits
            above count for each partition.
        polling_interval_sec: Seconds between two looks where no signal comes; a signal comes within milliseconds.
        partition_concurrency: How many workflows of one partition run at once, over all processes. This and the
            next two give a queue partitions, beside limits for the whole of it.
        partition_worker_concurrency: The same in one process.
        partition_limiter: Starts per period within one partition.
        priority_ages: Seconds of waiting that outweigh one step of priority: an old workflow of a low priority
            overtakes in the end.
        app: The App that it belongs to.

    Workflows start by priority, then in the order in which they were enqueued; partitions take turns. Limits are
    exact, also while processes come and go. A change of settings counts at the next claim of every process.
    """

    database_backed_queue: bool = False

    def __init__(  # noqa: PLR0913 - what a queue has
        self,
        name: str,
        concurrency: int | None = None,
        limiter: QueueRateLimit | None = None,
        *,
        worker_concurrency: int | None = None,
        priority_enabled: bool = False,
        partition_queue: bool = False,
        polling_interval_sec: float = 1.0,
        partition_concurrency: int | None = None,
        partition_worker_concurrency: int | None = None,
        partition_limiter: QueueRateLimit | None = None,
        priority_ages: float | None = None,
        app: QueueHost,
    ) -> None:
        limits = QueueLimits(
            concurrency,
            worker_concurrency,
            limiter,
            partition_concurrency,
            partition_worker_concurrency,
            partition_limiter,
            priority_ages=priority_ages,
            polling_interval_sec=polling_interval_sec,
        )
        if partition_queue:
            limits = _for_each_partition(name, limits)
        self.name = check_name(name)
        self.limits = checked(name, limits)
        self.priority_enabled = priority_enabled
        self.partition_queue = self.limits.partitioned
        self._app: Session = app
        app.add_queue(name, self.limits)

    @classmethod
    def stored(cls, app: Session, name: str, limits: QueueLimits) -> Self:
        """A queue that the database tells of."""
        queue = cls.__new__(cls)
        queue.name = name
        queue.limits = limits
        queue.priority_enabled = True
        queue.partition_queue = limits.partitioned
        queue.database_backed_queue = True
        queue._app = app  # noqa: SLF001 - its own
        return queue

    @property
    def application_name(self) -> str:
        """The application that it belongs to."""
        return self._app.core.application

    def enqueue(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Put a workflow (or a step, as a workflow of one step) on the queue; durable when it returns.

        Raises:
            DBOSQueueDeduplicatedError: An unfinished workflow of the queue has the deduplication id.
        """
        refuse_on_loop("enqueue_workflow")
        starting = prepare(self._app, func, args, kwargs, queue=self.name)
        started = drive(starting.flow())
        return WorkflowHandle(self._app, started.workflow_id)

    async def enqueue_async(
        self, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandleAsync[R]:
        """As `enqueue`, without blocking the loop."""
        starting = prepare(self._app, func, args, kwargs, queue=self.name)
        started = await drive_async(starting.flow())
        started.pass_on_cancellation()
        return WorkflowHandleAsync(self._app, started.workflow_id)

    # Of each setting: a property, `get_..._async`, `set_...` and `set_..._async`; made below.
    settings: ClassVar[Mapping[str, str]] = {
        "concurrency": "concurrency",
        "global_concurrency": "concurrency",
        "worker_concurrency": "worker_concurrency",
        "limiter": "limiter",
        "partition_concurrency": "partition_concurrency",
        "partition_worker_concurrency": "partition_worker_concurrency",
        "partition_limiter": "partition_limiter",
        "polling_interval_sec": "polling_interval_sec",
        "priority_ages": "priority_ages",
    }
    """The names of the settings, with those of `QueueLimits`."""

    if TYPE_CHECKING:
        concurrency: int | None
        global_concurrency: int | None
        worker_concurrency: int | None
        limiter: QueueRateLimit | None
        partition_concurrency: int | None
        partition_worker_concurrency: int | None
        partition_limiter: QueueRateLimit | None
        polling_interval_sec: float
        priority_ages: float | None

        def __getattr__(self, name: str) -> Any: ...  # get_concurrency_async, set_concurrency, ...

    def _read(self) -> Flow[QueueLimits]:
        """What counts now."""
        if not self.database_backed_queue:
            return self.limits
        core = self._app.core
        found = yield Query(core, lambda: core.storage.queues.get(core.application, self.name))
        if found is None:
            raise DBOSException(f"There is no queue {self.name!r} (any more).")
        self.limits = found.limits
        return self.limits

    def _change(self, setting: str, value: Any) -> Flow[None]:
        if not self.database_backed_queue:
            raise DBOSException(
                f"Queue {self.name!r} is declared in code, which says its settings at each launch. Change them there, or "
                "use DBOS.register_queue for a queue whose settings change."
            )
        core = self._app.core

        def change(limits: QueueLimits) -> QueueLimits:
            return checked(self.name, replace(limits, **{setting: value}))

        change(self.limits)  # a wrong value is told before anything is asked
        found = yield Query(core, lambda: core.storage.queues.change(core.application, self.name, change))
        if found is None:
            raise DBOSException(f"There is no queue {self.name!r} (any more).")
        self.limits = found.limits
        core.signal(QUEUES_CHANGED)


def _add_setting(name: str, setting: str) -> None:
    def get(self: Queue) -> Any:
        if self.database_backed_queue:
            refuse_on_loop(f"Queue.get_{name}", hint=f"await queue.get_{name}_async()")
        return getattr(drive(self._read()), setting)

    async def get_async(self: Queue) -> Any:
        return getattr(await drive_async(self._read()), setting)

    def set_(self: Queue, value: Any) -> None:
        refuse_on_loop(f"Queue.set_{name}", hint=f"await queue.set_{name}_async(...)")
        drive(self._change(setting, value))

    async def set_async(self: Queue, value: Any) -> None:
        await drive_async(self._change(setting, value))

    for attribute, function in (
        (f"get_{name}_async", get_async),
        (f"set_{name}", set_),
        (f"set_{name}_async", set_async),
    ):
        function.__name__ = attribute
        function.__qualname__ = f"Queue.{attribute}"
        setattr(Queue, attribute, function)
    setattr(Queue, name, property(get))


for _name, _setting in Queue.settings.items():
    _add_setting(_name, _setting)


def _for_each_partition(name: str, limits: QueueLimits) -> QueueLimits:
    """The older way to say it: the plain limits are those of each partition."""
    if (limits.partition_concurrency, limits.partition_worker_concurrency, limits.partition_limiter) != (
        None,
        None,
        None,
    ):
        raise RegistrationError(
            f"Queue {name!r}: with partition_queue=True the plain limits count for each partition. Leave it out where "
            "partition_concurrency and its like are given; they have the same effect beside limits of the whole queue."
        )
    return replace(
        limits,
        concurrency=None,
        worker_concurrency=None,
        limiter=None,
        partition_concurrency=limits.concurrency,
        partition_worker_concurrency=limits.worker_concurrency,
        partition_limiter=limits.limiter,
        partitions=True,
    )


def check_name(name: object) -> str:
    """Refuse what is not the name of a queue.

    Raises:
        RegistrationError: It is blank, reserved, or cannot be stored.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise RegistrationError(f"The name of a queue must be a text that is not blank, not {name!r}.")
    if name.startswith("_dbos"):
        raise RegistrationError(f"Queue {name!r}: names that start with _dbos are reserved.")
    return name


def checked(name: str, limits: QueueLimits) -> QueueLimits:
    """The settings, when they can be kept.

    Raises:
        RegistrationError: One of them is wrong, or two do not fit together.
    """
    for field in fields(limits):
        value = getattr(limits, field.name)
        if field.name.endswith("concurrency") and value is not None:
            _check_count(name, field.name, value)
        elif field.name.endswith("limiter") and value is not None:
            _check_limiter(name, field.name, value)
    for worker, whole in (
        ("worker_concurrency", "concurrency"),
        ("partition_worker_concurrency", "partition_concurrency"),
    ):
        here, all_of_them = getattr(limits, worker), getattr(limits, whole)
        if here is not None and all_of_them is not None and here > all_of_them:
            raise RegistrationError(f"Queue {name!r}: {worker} cannot be above {whole}.")
    _check_seconds(name, "polling_interval_sec", limits.polling_interval_sec)
    if limits.priority_ages is not None:
        _check_seconds(name, "priority_ages", limits.priority_ages)
    return limits


def _check_count(name: str, what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise RegistrationError(
            f"Queue {name!r}: {what} must be at least 1, or None for no limit; not {value!r}."
        )


def _check_limiter(name: str, what: str, value: object) -> None:
    limit = value.get("limit") if isinstance(value, Mapping) else None
    period = value.get("period") if isinstance(value, Mapping) else None
    if (
        not isinstance(limit, int)
        or isinstance(limit, bool)
        or not isinstance(period, (int, float))
        or isinstance(period, bool)
        or not 1 <= limit < 2**31
        or not 0.001 <= period <= 10**9
    ):
        raise RegistrationError(
            f"Queue {name!r}: the {what} needs a limit of at least 1 and a period above 0, in seconds: "
            f'{{"limit": 10, "period": 60}}; not {value!r}.'
        )


def _check_seconds(name: str, what: str, value: object) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0.001 <= value <= 10**9:  # type: ignore[arg-type, operator]
        raise RegistrationError(f"Queue {name!r}: {what} must be a number of seconds above 0, not {value!r}.")
