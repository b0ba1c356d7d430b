"""Debouncers: many calls of a workflow within a short time become one run."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from dbos_events.api.enqueueing import EnqueueSettings, check_text
from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.queues import Queue, check_name
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.api.starting import child_id, registered
from dbos_events.engine.context import CURRENT, NEXT_ATTRIBUTES, NEXT_ENQUEUE, Scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.debounce import Bouncing, bounce
from dbos_events.engine.operations.start import Start, Started
from dbos_events.errors import DBOSException
from dbos_events.model.dataclass import dataclass
from dbos_events.model.queue import LONGEST_DELAY_SECONDS

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow
    from dbos_events.engine.registry import Registered
    from dbos_events.storage.writes.debounce import Keep

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Debouncing:
    """How the calls of one function are debounced; see `Debouncer`."""

    entry: Registered
    queue: str | None
    limit_ms: int | None
    keep: Keep

    @classmethod
    def checked(
        cls,
        entry: Registered,
        debounce_timeout_sec: float | None,
        queue: Queue | str | None,
        keep: Keep,
    ) -> Debouncing:
        """What the arguments of a debouncer say.

        Raises:
            DBOSException: One of them is wrong.
        """
        if keep not in ("first", "last", "all"):
            raise DBOSException(f"keep must be 'first', 'last' or 'all', not {keep!r}.")
        limit = None if debounce_timeout_sec is None else _ms("debounce_timeout_sec", debounce_timeout_sec)
        name = queue.name if isinstance(queue, Queue) else None if queue is None else check_name(queue)
        return cls(entry, name, limit, keep)

    def call(self, key: str, period: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bouncing:
        """One call; the run has a random id, if it opens one."""
        check_text("debounce_key", key)
        if key is None:
            raise DBOSException("A debounce_key must be a text that is not blank, not None.")
        period_ms = _ms("debounce_period_sec", period)
        if self.keep == "all" and (len(args) != 1 or kwargs):
            raise DBOSException(
                f"{self.entry.name} gets a list of what the calls gave (keep='all'), so each call gives one argument."
            )
        attributes = NEXT_ATTRIBUTES.get()
        start = Start(self.entry, args, kwargs, str(uuid.uuid4()), self.queue, attributes=attributes)
        return Bouncing(start, key, period_ms, self.limit_ms, self.keep)


class Debouncer(Generic[P, R]):
    """Puts a workflow off while it is called again: it runs once, when `period_sec` have passed without a call.

    Args:
        workflow: The workflow (or step) that runs in the end.
        debounce_timeout_sec: How long it can be put off at most, counted from the first call; None: for ever.
        queue: The queue on which it runs then; without one it runs in any process.
        application_name: Accepted where it is this application.
        keep: With what it runs: "last" (the default) or "first", the arguments of that call; "all": its single argument is a
            list with what each call gave, in order, so each call gives one argument.

    Every call belongs to exactly one run, also while processes crash: it joins the run that is put off, or, where that
    has begun or its time has come, it opens the next one. From within a workflow a call is recorded in one write.
    """

    def __init__(
        self,
        workflow: Callable[P, Any],
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
        application_name: str | None = None,
        keep: Keep = "last",
    ) -> None:
        session: Session | None = getattr(workflow, "__dbos_session__", None)
        if session is None:
            registered(_NOBODY, workflow)  # raises what it is not
            raise DBOSException(f"{workflow!r} is not a workflow.")
        self._session = session
        self._debouncing = Debouncing.checked(
            registered(session, workflow), debounce_timeout_sec, queue, keep
        )
        self._application = application_name

    @classmethod
    def create(
        cls,
        workflow: Callable[P, R],
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
        application_name: str | None = None,
        keep: Keep = "last",
    ) -> Debouncer[P, R]:
        """A debouncer of a workflow; for the arguments see the class."""
        return Debouncer(
            workflow,
            debounce_timeout_sec=debounce_timeout_sec,
            queue=queue,
            application_name=application_name,
            keep=keep,
        )

    @classmethod
    def create_async(
        cls,
        workflow: Callable[P, Coroutine[Any, Any, R]],
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
        application_name: str | None = None,
        keep: Keep = "last",
    ) -> Debouncer[P, R]:
        """As `create`, of an async workflow."""
        return Debouncer(
            workflow,
            debounce_timeout_sec=debounce_timeout_sec,
            queue=queue,
            application_name=application_name,
            keep=keep,
        )

    def debounce(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[R]:
        """Call the workflow, put off by the period; gives a handle on the run that the call belongs to.

        Durable when it returns. Calls with different keys have nothing to do with each other.
        """
        refuse_on_loop("debounce", hint="await debouncer.debounce_async(...)")
        started = drive(self._flow(debounce_key, debounce_period_sec, args, kwargs))
        return WorkflowHandle(self._session, started.workflow_id)

    async def debounce_async(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> WorkflowHandleAsync[R]:
        """As `debounce`, without blocking the loop."""
        started = await drive_async(self._flow(debounce_key, debounce_period_sec, args, kwargs))
        return WorkflowHandleAsync(self._session, started.workflow_id)

    def _flow(self, key: str, period: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Started]:
        call = self._debouncing.call(key, period, args, kwargs)
        self._refuse_options()
        core = self._session.core
        if self._application not in (None, core.application):
            raise DBOSException(
                f"This program belongs to the application {core.application!r}, not {self._application!r}."
            )
        scope = _scope(self._debouncing.entry.name)
        place = scope.run.locate(scope) if scope is not None else None
        if scope is not None and place is not None:
            call.start.workflow_id = child_id(scope, place)
        return bounce(core, None if scope is None else scope.run, place, call)

    def _refuse_options(self) -> None:
        block = NEXT_ENQUEUE.get()
        option = block.needs_queue if isinstance(block, EnqueueSettings) else None
        if option is not None:
            raise DBOSException(
                f"{option} says nothing to a debounced call. Leave it out of the block around it."
            )
        queue = self._debouncing.queue
        limits = self._session.registry.limits_of(queue or "")
        if limits is not None and limits.partitioned:
            raise DBOSException(
                f"Queue {queue!r} has partitions, and a debounced run belongs to none. Give it another queue."
            )


class _Nobody:
    """A session that no function belongs to, for the error that says so."""


_NOBODY: Any = _Nobody()


def _scope(name: str) -> Scope | None:
    scope = CURRENT.get()
    if scope is not None and scope.step is not None:
        raise DBOSException(
            f"{name}: a call cannot be debounced from within a step, since the step may run more than once. Do it in the "
            "workflow."
        )
    return scope


def _ms(what: str, seconds: object) -> int:
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or not 0 <= seconds <= LONGEST_DELAY_SECONDS:  # type: ignore[arg-type, operator]
        raise DBOSException(f"{what} must be a number of seconds from 0 on, not {seconds!r}.")
    return round(seconds * 1000)  # type: ignore[operator]
