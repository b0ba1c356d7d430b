"""Where the running code stands: which run, which branch of it, inside which step."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from dbos_events.engine.keys import StepKey, part
from dbos_events.engine.shield import SHIELD
from dbos_events.engine.timelimits import NEXT_TIME_LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbos_events.engine.run import Run
    from dbos_events.model.workflow import StepStatus


class Keyed(Protocol):
    """A call of a step, which has an idempotency key."""

    @property
    def key(self) -> StepKey: ...


class Scope:
    """One branch of a run, or a step in it.

    A branch is the workflow function itself or one asyncio task that it started. Calls are
    named by branch and by order within the branch, so that the name of a call does not
    depend on which of two concurrent branches was faster (see docs/replay.md).
    """

    __slots__ = ("_keyed", "_names", "calls", "key_path", "path", "run", "spawned", "step", "task")

    def __init__(
        self,
        run: Run,
        path: str = "",
        step: StepStatus | None = None,
        keyed: Keyed | None = None,
        key_path: str = "",
    ) -> None:
        self.run = run
        self.path = path
        self.calls = 0
        self.spawned = 0
        self.step = step
        self._keyed = keyed
        self.key_path = key_path
        self._names: dict[object, int] | None = None
        self.task = 0

    def next_call(self) -> str:
        """Name the next durable call of this branch: `3`, or `2.1` for the second task's first."""
        self.calls += 1
        return f"{self.path}{self.calls}"

    def own(self, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> Scope:
        """This branch, for the task that runs on `loop`, unless another living task makes its calls as this one, too.

        To be asked where the branch does not know the task, which is so at its first call.
        Such a task was made past the task factory: on a loop that a sync workflow runs by itself, or as `asyncio.Task(...)`.
        It gets a branch of its own now; those get them in the order of their first calls.
        """
        scope = self
        if scope.task and any(id(other) == scope.task for other in asyncio.all_tasks(loop)):
            scope = scope.branch(name_of_task(task.get_coro()))
            CURRENT.set(scope)
            if scope.run.tasks is not None:
                scope.run.tasks.add(task)
                scope.run.core.runner.past_the_factory.say(
                    "Workflow %s (%s): a task was made past the task factory of its event loop, so its place in the "
                    "history is the order of first calls. Make tasks with asyncio.create_task.",
                    scope.run.id,
                    scope.run.function.name,
                )
        scope.task = id(task)
        return scope

    def branch(self, name: str) -> Scope:
        """The scope of one more task that this branch starts, to run the coroutine function `name`."""
        self.spawned += 1
        key_path = f"{self.key_path}~{part(name, self.count(('task', name)))}/"
        return Scope(self.run, f"{self.path}{self.spawned}.", key_path=key_path)

    @property
    def key(self) -> StepKey | None:
        """The idempotency key of the step that this is the scope of."""
        return None if self._keyed is None else self._keyed.key

    def key_of(self, name: str, occurrence: int) -> StepKey:
        """The idempotency key of a call of the step `name` in this branch, which `count` has told the number of."""
        return StepKey(self.run.key_prefix, self.key_path, name, occurrence)

    def child_prefix(self, name: str) -> str:
        """What the keys in the next child workflow of the function `name` begin with."""
        return f"{self.run.key_prefix}{self.key_path}{part(name, self.count(('child', name)))}/"

    def count(self, what: object) -> int:
        """Count what has one name and kind in this branch, whatever stands between."""
        counts = self._names
        if counts is None:
            counts = self._names = {}
        counts[what] = occurrence = counts.get(what, 0) + 1
        return occurrence


def name_of_task(coro: object) -> str:
    """What the task that runs `coro` is called in idempotency keys."""
    name: str = getattr(coro, "__qualname__", type(coro).__qualname__)
    return name


CURRENT: ContextVar[Scope | None] = ContextVar("dbos_events_scope", default=None)

NEXT_WORKFLOW_ID: ContextVar[list[str] | None] = ContextVar("dbos_events_next_workflow_id", default=None)
"""What the block around a start says of the next one; no run inherits it."""


NEXT_REUSE: ContextVar[str | None] = ContextVar("dbos_events_next_reuse", default=None)
"""What becomes of a start whose id is taken: see `WorkflowIDReusePolicy`."""

NEXT_ENQUEUE: ContextVar[object | None] = ContextVar("dbos_events_next_enqueue", default=None)
"""What the block around a start says of enqueues (`dbos_events.api.enqueueing`)."""

NEXT_ATTRIBUTES: ContextVar[str | None] = ContextVar("dbos_events_next_attributes", default=None)
"""The attributes of workflows that the block starts, as JSON."""


def forget_caller() -> None:
    """Nothing runs here yet: for the context of a new run, which is a copy of its caller's."""
    for variable in _OF_CALLER:
        if variable.get() is not None:  # each one that is set makes the context of each run larger
            variable.set(None)


_OF_CALLER: tuple[ContextVar[Any], ...] = (
    CURRENT, NEXT_WORKFLOW_ID, NEXT_TIME_LIMITS, SHIELD, NEXT_REUSE, NEXT_ENQUEUE, NEXT_ATTRIBUTES,
)  # fmt: skip


@contextmanager
def without_caller() -> Iterator[None]:
    """Within the block it is as if no workflow ran here, and nothing was said of the next one."""
    tokens = [(variable, variable.set(None)) for variable in _OF_CALLER]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def workflow_scope() -> Scope | None:
    """The scope when called from workflow code; None inside a step and outside of workflows."""
    scope = CURRENT.get()
    return scope if scope is not None and scope.step is None else None
