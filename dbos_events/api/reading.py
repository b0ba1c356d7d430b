"""Verbs that ask or change by id: a recorded operation within a workflow, a plain query elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from dbos_events.api.filters import check_bounds
from dbos_events.control.workflows import WorkflowControl
from dbos_events.engine.context import workflow_scope
from dbos_events.engine.effects import Flow, Query
from dbos_events.engine.operations.query import recorded_query
from dbos_events.errors import DBOSNonExistentWorkflowError

if TYPE_CHECKING:
    from dbos_events.api.session import Session
    from dbos_events.engine.core import Core
    from dbos_events.model.workflow import StepInfo, WorkflowFilter, WorkflowStatus

R = TypeVar("R")


def asked(core: Core, name: str, work: Callable[[], R]) -> Flow[R]:
    """Do `work`; from within a workflow it is recorded under `name`, and a replay gets it again."""
    scope = workflow_scope()
    if scope is None:
        return _query(core, work)
    return cast("Flow[R]", recorded_query(core, scope.run, scope.run.locate(scope), name, work))


def _query(core: Core, work: Callable[[], R]) -> Flow[R]:
    return cast("R", (yield Query(core, work)))


def control_of(core: Core) -> WorkflowControl:
    """Listing and changing over the engine's own storage."""
    return WorkflowControl(core.storage, core.codecs)


def find_flow(session: Session, workflow_id: str) -> Flow[WorkflowStatus | None]:
    """How a workflow stands, or None."""
    core = session.core
    return asked(core, "DBOS.getStatus", lambda: control_of(core).get(workflow_id))


def status_flow(session: Session, workflow_id: str) -> Flow[WorkflowStatus]:
    """How a workflow stands; raises `DBOSNonExistentWorkflowError` when there is none."""
    found = yield from find_flow(session, workflow_id)
    if found is None:
        raise DBOSNonExistentWorkflowError(workflow_id)
    return found


def list_flow(session: Session, criteria: WorkflowFilter) -> Flow[list[WorkflowStatus]]:
    """The workflows that fit."""
    core = session.core
    return asked(core, "DBOS.listWorkflows", lambda: control_of(core).find(criteria))


def steps_flow(
    session: Session, workflow_id: str, load_output: bool, limit: int | None, offset: int | None
) -> Flow[list[StepInfo]]:
    """The completed steps of a workflow, or some of them."""
    core = session.core
    check_bounds(limit, offset)
    first = offset or 0
    last = None if limit is None else first + limit

    def work() -> list[StepInfo]:
        return control_of(core).steps(workflow_id, with_output=load_output)[first:last]

    return asked(core, "DBOS.listWorkflowSteps", work)


def cancel_flow(session: Session, workflow_ids: list[str], *, children: bool = False) -> Flow[None]:
    """Cancel what has not ended; runs in this process learn it at once."""
    core = session.core

    def work() -> None:
        core.tell_cancelled(control_of(core).cancel(workflow_ids, children=children))

    return asked(core, "DBOS.cancelWorkflow", work)


def resume_flow(session: Session, workflow_ids: list[str]) -> Flow[None]:
    """Let workflows go on, in whichever process has room."""
    core = session.core

    def work() -> None:
        control_of(core).resume(workflow_ids)
        core.signal("queues")

    return asked(core, "DBOS.resumeWorkflow", work)
