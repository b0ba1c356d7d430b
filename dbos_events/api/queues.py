"""Durable queues."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.api.starting import prepare
from dbos_events.api.wording import unknown
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.errors import RegistrationError
from dbos_events.model.queue import QueueLimits, QueueRateLimit

P = ParamSpec("P")
R = TypeVar("R")


class QueueHost(Session, Protocol):
    """An App that queues can be declared on."""

    def add_queue(self, name: str, limits: QueueLimits) -> None: ...


class Queue:
    """A durable queue: workflows wait in the database until a process of the application has room.

    Args:
        name: The queue's name; processes that declare it serve it.
        concurrency: How many of its workflows run at once, over all processes.
        limiter: `{"limit": n, "period": seconds}`: at most n starts within any period, over all
            processes.
        worker_concurrency: How many run at once in one process.
        app: The App that it belongs to.

    Workflows start by priority, then in the order in which they were enqueued. Limits are exact,
    also while processes come and go.
    """

    def __init__(
        self,
        name: str,
        concurrency: int | None = None,
        limiter: QueueRateLimit | None = None,
        *,
        worker_concurrency: int | None = None,
        app: QueueHost,
    ) -> None:
        self.name = name
        self.limits = _checked(name, QueueLimits(concurrency, worker_concurrency, limiter))
        self._app = app
        app.add_queue(name, self.limits)

    @property
    def concurrency(self) -> int | None:
        return self.limits.concurrency

    @property
    def worker_concurrency(self) -> int | None:
        return self.limits.worker_concurrency

    @property
    def limiter(self) -> QueueRateLimit | None:
        return self.limits.limiter

    def enqueue(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Put a workflow (or a step, as a workflow of one step) on the queue; durable when it returns."""
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


def _check_limiter(name: str, limiter: object) -> None:
    wanted = ("limit", "period")
    shape = 'A limiter is {"limit": n, "period": seconds}'
    if not isinstance(limiter, dict):
        raise RegistrationError(f"Queue {name!r}: {shape}, not {limiter!r}.")
    for key in limiter:
        if key not in wanted:
            raise RegistrationError(
                f"{unknown(f'Queue {name!r}: its limiter', 'key', str(key), wanted)} {shape}."
            )
    for key in wanted:
        if key not in limiter:
            raise RegistrationError(f"Queue {name!r}: its limiter has no {key!r}. {shape}.")
        if isinstance(limiter[key], bool) or not isinstance(limiter[key], (int, float)):
            raise RegistrationError(
                f"Queue {name!r}: the {key} of its limiter is {limiter[key]!r}, and has to be a number. {shape}."
            )


def _checked(name: str, limits: QueueLimits) -> QueueLimits:
    for what, limit in (
        ("concurrency", limits.concurrency),
        ("worker_concurrency", limits.worker_concurrency),
    ):
        if limit is not None and limit < 1:
            raise RegistrationError(f"Queue {name!r}: {what} must be at least 1, or None for no limit.")
    if None not in (limits.concurrency, limits.worker_concurrency) and (
        (limits.worker_concurrency or 0) > (limits.concurrency or 0)
    ):
        raise RegistrationError(f"Queue {name!r}: worker_concurrency cannot be above concurrency.")
    limiter = limits.limiter
    if limiter is not None:
        _check_limiter(name, limiter)
    if limiter is not None and (limiter["limit"] < 1 or limiter["period"] <= 0):
        raise RegistrationError(
            f"Queue {name!r}: the limiter needs a limit of at least 1 and a period above 0."
        )
    return limits
