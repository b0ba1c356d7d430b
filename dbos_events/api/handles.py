"""Handles: what a start gives back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

from dbos_events.api.reading import status_flow
from dbos_events.api.session import Session, on_loop
from dbos_events.engine.context import workflow_scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.result import child_result, result_of

if TYPE_CHECKING:
    from dbos_events.engine.effects import Flow
    from dbos_events.engine.run import Run
    from dbos_events.model.workflow import WorkflowStatus

R = TypeVar("R")


class _Handle(Generic[R]):
    """One workflow by its id, wherever it runs."""

    def __init__(self, session: Session, workflow_id: str, run: Run | None = None) -> None:
        self._session = session
        self._run = run
        self.workflow_id = workflow_id

    @property
    def run(self) -> Run | None:
        """The run that this handle's start has begun in this process."""
        return self._run

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.workflow_id!r})"

    def get_workflow_id(self) -> str:
        return self.workflow_id

    def _result(self, poll: float) -> Flow[R]:
        core = self._session.core
        scope = workflow_scope()
        if scope is None:
            return cast("Flow[R]", result_of(core, self.workflow_id, self._run, poll))
        place = scope.run.locate(scope)
        return cast("Flow[R]", child_result(core, scope.run, place, self.workflow_id, self._run, poll))


class WorkflowHandle(_Handle[R]):
    """A workflow for code that may block."""

    def get_result(self, *, polling_interval_sec: float = 1.0) -> R:
        """Wait for the workflow; gives what it returned, or raises what it raised.

        Within a workflow the result is recorded, and a long wait costs a row, not a thread.
        """
        scope = workflow_scope()
        if on_loop() and (scope is None or scope.run.function.is_async):
            raise RuntimeError(
                "get_result blocks and was called on a running event loop. Start the workflow with "
                "`await DBOS.start_workflow_async(...)` and await its handle's get_result there."
            )
        return drive(self._result(polling_interval_sec))

    def get_status(self) -> WorkflowStatus:
        """How the workflow stands; raises `DBOSNonExistentWorkflowError` when there is none."""
        return drive(status_flow(self._session, self.workflow_id))


class WorkflowHandleAsync(_Handle[R]):
    """A workflow for code on an event loop."""

    async def get_result(self, *, polling_interval_sec: float = 1.0) -> R:
        """Wait for the workflow; gives what it returned, or raises what it raised."""
        return await drive_async(self._result(polling_interval_sec))

    async def get_status(self) -> WorkflowStatus:
        """How the workflow stands; raises `DBOSNonExistentWorkflowError` when there is none."""
        return await drive_async(status_flow(self._session, self.workflow_id))
