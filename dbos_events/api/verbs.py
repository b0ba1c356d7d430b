"""The verbs: start, wait, ask, change. Each is one flow, driven in the colour of its caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dbos_events.api.decorators import call_step, check_step_options, named
from dbos_events.api.filters import workflow_filter
from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.pausing import Pausing
from dbos_events.api.reading import cancel_flow, find_flow, list_flow, resume_flow, status_flow, steps_flow
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.api.starting import prepare
from dbos_events.engine.context import CURRENT, Scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.sleep import sleep as sleep_flow
from dbos_events.engine.shapes import is_async
from dbos_events.errors import DBOSException, RegistrationError
from dbos_events.model.workflow import StepInfo, StepOptions, WorkflowStatus

if TYPE_CHECKING:
    from dbos_events.engine.operations.start import Started

P = ParamSpec("P")
R = TypeVar("R")


class Changing(Session):
    """The verbs that change other workflows."""

    def cancel_workflow(self, workflow_id: str, *, cancel_children: bool = False) -> None:
        """Cancel a workflow that has not ended; it learns it at its next durable operation.

        Args:
            workflow_id: Which one.
            cancel_children: Cancel all that it has started as well, and what that has, in the same transaction.

        Raises:
            DBOSNonExistentWorkflowError: There is none with that id.
        """
        self.cancel_workflows([workflow_id], cancel_children=cancel_children)

    async def cancel_workflow_async(self, workflow_id: str, *, cancel_children: bool = False) -> None:
        """As `cancel_workflow`, without blocking the loop."""
        await self.cancel_workflows_async([workflow_id], cancel_children=cancel_children)

    def cancel_workflows(self, workflow_ids: Sequence[str], *, cancel_children: bool = False) -> None:
        """Cancel several workflows in one transaction."""
        refuse_on_loop("cancel_workflows")
        drive(cancel_flow(self, list(workflow_ids), children=cancel_children))

    async def cancel_workflows_async(
        self, workflow_ids: Sequence[str], *, cancel_children: bool = False
    ) -> None:
        """As `cancel_workflows`, without blocking the loop."""
        await drive_async(cancel_flow(self, list(workflow_ids), children=cancel_children))

    def resume_workflow(self, workflow_id: str) -> WorkflowHandle[Any]:
        """Let a cancelled, crashed-out or unfinished workflow go on where its history ends."""
        self.resume_workflows([workflow_id])
        return WorkflowHandle(self, workflow_id)

    async def resume_workflow_async(self, workflow_id: str) -> WorkflowHandleAsync[Any]:
        """As `resume_workflow`, without blocking the loop."""
        await self.resume_workflows_async([workflow_id])
        return WorkflowHandleAsync(self, workflow_id)

    def resume_workflows(self, workflow_ids: Sequence[str]) -> list[WorkflowHandle[Any]]:
        """Resume several workflows in one transaction; gives a handle on each, in the order of the ids."""
        refuse_on_loop("resume_workflows")
        ids = list(workflow_ids)
        drive(resume_flow(self, ids))
        return [WorkflowHandle(self, workflow_id) for workflow_id in ids]

    async def resume_workflows_async(self, workflow_ids: Sequence[str]) -> list[WorkflowHandleAsync[Any]]:
        """As `resume_workflows`, without blocking the loop."""
        ids = list(workflow_ids)
        await drive_async(resume_flow(self, ids))
        return [WorkflowHandleAsync(self, workflow_id) for workflow_id in ids]


class Verbs(Changing, Pausing):
    """What an App can be asked to do; within a workflow each verb is recorded and replayed."""

    # -- starting -----------------------------------------------------------------------------

    def start_workflow(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a workflow in the background; it is durable when this returns, at most one per id."""
        refuse_on_loop("start_workflow")
        return self._handle(drive(prepare(self, func, args, kwargs).flow()))

    async def start_workflow_async(
        self, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandleAsync[R]:
        """As `start_workflow`, without blocking the loop.

        An async workflow runs on the caller's loop, and begins with the caller's context. When the loop ends before it
        has ended, it goes on from its history elsewhere.
        """
        started = await drive_async(prepare(self, func, args, kwargs).flow())
        if started.run is not None:
            self.core.runner.start(started.run)
        started.pass_on_cancellation()
        return WorkflowHandleAsync(self, started.workflow_id, started.run)

    def _handle(self, started: Started) -> WorkflowHandle[Any]:
        if started.run is not None:
            self.core.runner.submit([started.run])
        return WorkflowHandle(self, started.workflow_id, started.run)

    def run_step(
        self,
        options: StepOptions | Mapping[str, Any] | None,
        func: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run any function as a step of the calling workflow; a plain call outside of workflows."""
        name, checked = _step_options(options, func)
        if is_async(func):
            raise RegistrationError(f"Step {name} is async. Use `await DBOS.run_step_async(...)` for it.")
        return call_step(name, checked, func, args, kwargs, is_async=False)  # type: ignore[no-any-return]

    async def run_step_async(
        self,
        options: StepOptions | Mapping[str, Any] | None,
        func: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """As `run_step`, for an `async def` function."""
        name, checked = _step_options(options, func)
        return await call_step(name, checked, func, args, kwargs, is_async=True)  # type: ignore[no-any-return]

    # -- waiting ------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Sleep durably: the time of waking is recorded, a crash does not prolong it.

        A long sleep gives its thread up and costs a row. Outside of workflows it is a plain sleep.
        """
        refuse_on_loop("sleep")
        scope = _branch("sleep")
        _check_seconds(seconds)
        if scope is None:
            time.sleep(max(0, seconds))
        else:
            drive(sleep_flow(scope.run, scope.run.locate(scope), seconds))

    def sleep_async(self, seconds: float) -> Coroutine[Any, Any, None]:
        """As `sleep`, for workflows on an event loop."""
        scope = _branch("sleep_async")
        _check_seconds(seconds)
        if scope is None:
            return asyncio.sleep(seconds)
        return named(drive_async(sleep_flow(scope.run, scope.run.locate(scope), seconds)), "DBOS.sleep_async")

    def get_result(self, workflow_id: str) -> Any:
        """Wait for a workflow; gives what it returned, or raises what it raised."""
        return self.retrieve_workflow(workflow_id, existing_workflow=False).get_result()

    async def get_result_async(self, workflow_id: str) -> Any:
        """As `get_result`, without blocking the loop."""
        handle: WorkflowHandleAsync[Any] = WorkflowHandleAsync(self, workflow_id)
        return await handle.get_result()

    # -- asking -------------------------------------------------------------------------------

    def retrieve_workflow(self, workflow_id: str, existing_workflow: bool = True) -> WorkflowHandle[Any]:
        """A handle on a workflow by id.

        Raises:
            DBOSNonExistentWorkflowError: There is none, unless `existing_workflow` is False.
        """
        refuse_on_loop("retrieve_workflow")
        if existing_workflow:
            drive(status_flow(self, workflow_id))
        return WorkflowHandle(self, workflow_id)

    async def retrieve_workflow_async(
        self, workflow_id: str, existing_workflow: bool = True
    ) -> WorkflowHandleAsync[Any]:
        """As `retrieve_workflow`, without blocking the loop."""
        if existing_workflow:
            await drive_async(status_flow(self, workflow_id))
        return WorkflowHandleAsync(self, workflow_id)

    def get_workflow_status(self, workflow_id: str) -> WorkflowStatus | None:
        """How a workflow stands; None when there is none with that id."""
        refuse_on_loop("get_workflow_status")
        return drive(find_flow(self, workflow_id))

    async def get_workflow_status_async(self, workflow_id: str) -> WorkflowStatus | None:
        """As `get_workflow_status`, without blocking the loop."""
        return await drive_async(find_flow(self, workflow_id))

    def list_workflows(self, **filters: Any) -> list[WorkflowStatus]:
        """Workflows that fit, oldest first; the filters are those of `dbos_events.api.filters`."""
        refuse_on_loop("list_workflows")
        return drive(list_flow(self, workflow_filter(**filters)))

    async def list_workflows_async(self, **filters: Any) -> list[WorkflowStatus]:
        """As `list_workflows`, without blocking the loop."""
        return await drive_async(list_flow(self, workflow_filter(**filters)))

    def list_queued_workflows(self, **filters: Any) -> list[WorkflowStatus]:
        """Workflows that wait or run on a queue."""
        return self.list_workflows(queues_only=True, **filters)

    async def list_queued_workflows_async(self, **filters: Any) -> list[WorkflowStatus]:
        """As `list_queued_workflows`, without blocking the loop."""
        return await self.list_workflows_async(queues_only=True, **filters)

    def list_workflow_steps(
        self,
        workflow_id: str,
        *,
        load_output: bool = True,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[StepInfo]:
        """The steps of a workflow that have completed, by number; none where there is no such workflow.

        The time limit of a `recv` or a `get_event` is a step of its own behind it, as in DBOS Transact: `DBOS.sleep`,
        whose output is the end of the wait in milliseconds since 1970, or None where the call had not to wait.

        Args:
            workflow_id: Of which workflow.
            load_output: Whether to load what they returned or raised; else `output` and `error` are None.
            limit: At most so many.
            offset: Leave out so many from the beginning.
        """
        refuse_on_loop("list_workflow_steps")
        return drive(steps_flow(self, workflow_id, load_output, limit, offset))

    async def list_workflow_steps_async(
        self,
        workflow_id: str,
        *,
        load_output: bool = True,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[StepInfo]:
        """As `list_workflow_steps`, without blocking the loop."""
        return await drive_async(steps_flow(self, workflow_id, load_output, limit, offset))


def _check_seconds(seconds: Any) -> None:
    """Refuse what is not a number of seconds, of whatever type, before anything is recorded."""
    if not hasattr(seconds, "__float__") or isnan(min(seconds, 1)):
        raise DBOSException(f"DBOS.sleep: seconds must be a number, not {seconds!r}.")


def _branch(verb: str) -> Scope | None:
    """The calling workflow's scope; None outside of workflows."""
    scope = CURRENT.get()
    if scope is not None and scope.step is not None:
        raise DBOSException(f"DBOS.{verb} was called within a step. Call it from the workflow.")
    return scope


def _step_options(
    options: StepOptions | Mapping[str, Any] | None, function: Callable[..., Any]
) -> tuple[str, StepOptions]:
    if not isinstance(options, StepOptions):
        options = StepOptions(**(options or {}))
    name: str = str(options.name or getattr(function, "__qualname__", type(function).__name__))
    check_step_options(name, options, is_async=is_async(function))
    return name, options
