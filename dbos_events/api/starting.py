"""How a call of a workflow becomes a start: which function, which id, from where."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbos_events.api.contexts import take_workflow_id
from dbos_events.api.enqueueing import EnqueueSettings, apply
from dbos_events.engine.context import CURRENT, NEXT_REUSE, Scope
from dbos_events.engine.effects import Flow
from dbos_events.engine.operations.start import Start, Started, start, start_child
from dbos_events.engine.registry import Registered
from dbos_events.engine.timelimits import NEXT_TIME_LIMITS
from dbos_events.errors import DBOSException, DBOSWorkflowFunctionNotFoundError
from dbos_events.model.dataclass import dataclass

if TYPE_CHECKING:
    from dbos_events.api.session import Session
    from dbos_events.engine.core import Core
    from dbos_events.engine.effects import Flow
    from dbos_events.engine.runvalues import Place


@dataclass(slots=True)
class Starting:
    """A start whose place in the calling workflow, if there is one, has been taken."""

    core: Core
    request: Start
    scope: Scope | None
    place: Place | None

    def flow(self) -> Flow[Started]:
        if self.scope is not None and self.place is not None:
            return start_child(self.core, self.scope.run, self.place, self.request)
        return start(self.core, self.request)


def prepare(
    session: Session,
    function: Callable[..., Any] | Registered,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    queue: str | None = None,
    settings: EnqueueSettings | None = None,
) -> Starting:
    """Take the start's number and id now, before anything waits, so that gathers are deterministic."""
    core = session.core
    entry = function if isinstance(function, Registered) else registered(session, function)
    scope = CURRENT.get()
    if scope is not None and scope.step is not None:
        raise DBOSException(
            f"{entry.name}: a workflow cannot be started from within a step, since the step may run more "
            "than once. Start it from the workflow."
        )
    request = apply(Start(entry, args, kwargs, "", queue), session.registry, settings)
    place = scope.run.locate(scope) if scope is not None else None
    workflow_id, key_prefix = take_workflow_id(), None
    request.rejects_existing = workflow_id is not None and NEXT_REUSE.get() == "reject"
    if workflow_id is None and scope is not None and place is not None:
        # Its id moves with the calls before it, and with the generation; the keys of its steps must not.
        workflow_id, key_prefix = child_id(scope, place), scope.child_prefix(entry.name)
    elif workflow_id is None:
        workflow_id = str(uuid.uuid4())
    request.workflow_id, request.key_prefix = workflow_id, key_prefix
    request.limits = NEXT_TIME_LIMITS.get()
    return Starting(core, request, scope, place)


def child_id(scope: Scope, place: Place) -> str:
    """`parent-3` for the parent's third call; a later generation of the parent has children of its own."""
    generation = scope.run.generation
    name = place.call if "." in place.call else str(place.number)
    return f"{scope.run.id}-{name}" if generation == 0 else f"{scope.run.id}-g{generation}-{name}"


def registered(session: Session, function: Callable[..., Any]) -> Registered:
    """The workflow behind a decorated function.

    Raises:
        DBOSWorkflowFunctionNotFoundError: It is not decorated.
    """
    owner: Session | None = getattr(function, "__dbos_session__", None)
    name: str | None = getattr(function, "__dbos_name__", None)
    described = getattr(function, "__qualname__", repr(function))
    if name is None:
        raise DBOSWorkflowFunctionNotFoundError(
            described,
            f"{described} is not a workflow or step. Decorate it with @DBOS.workflow() or @DBOS.step().",
        )
    if owner is not session:
        raise DBOSException(
            f"{described} belongs to another App. Start it through the App that it was decorated with."
        )
    entry: Registered = session.registry.workflows[name]
    return entry
