"""What is started for an event that is too late: the workflow that its consumer's `on_expired` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.engine.operations.start import Start, new_workflow
from dbos_events.engine.runvalues import Ending
from dbos_events.errors import DBOSWorkflowExpiredError
from dbos_events.model.dataclass import dataclass, replace
from dbos_events.model.workflow import ENQUEUED, EXPIRED
from dbos_events.storage.writes import NewWorkflow, Outcome, Write

if TYPE_CHECKING:
    from dbos_events.engine.payload import Late
    from dbos_events.engine.run import Engine, Run


def expired(run: Run) -> Write:
    """The write that ends the run of an event that is too late: it frees its lane, and starts what is to be done instead.

    Raises:
        UndecodablePayload: The value is not what `on_expired` takes.
        SerializationError: What it takes cannot be stored.
    """
    late = None if run.function.binding is None else run.function.binding.late
    follows = None if late is None else _follows(run, late)
    if follows is not None:
        run.when_ended(_Told(run.core))
    run.proposed = Ending("ended", error=DBOSWorkflowExpiredError(run.id))
    return Write(
        run.id, run.take, run.generation, change=Outcome(EXPIRED, parent_id=run.parent_id, follows=follows)
    )


def _follows(run: Run, late: Late) -> NewWorkflow:
    """Without an owner, so any process runs it that has the function; its id is that of the event, so there is one."""
    (message,) = run.args
    value = message if late.decode is None else late.decode(message)
    function = run.core.registry.workflows[late.name]
    request = Start(function, (value,), {}, f"{run.id}/expired", any_version=True)
    return replace(new_workflow(run.core, request, parent=run), status=ENQUEUED)


@dataclass(frozen=True, slots=True)
class _Told:
    """Tells those who take work up, once it is durable."""

    core: Engine

    def wake(self) -> None:
        self.core.signal("queues")
