"""Start or enqueue a workflow: from outside, or as a child in one write with its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import TASK_CANCELLED, Flow, Query, Recorded
from dbos_events.engine.operations.common import operation
from dbos_events.errors import DBOSConflictingWorkflowError, SerializationError
from dbos_events.model.queue import channel_of
from dbos_events.model.workflow import PENDING
from dbos_events.serialization import fingerprint, not_storable
from dbos_events.storage.writes import Checkpoint, Existing, Fenced, NewWorkflow, Refused, Result, Write

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.registry import Registered
    from dbos_events.engine.run import Place, Run
    from dbos_events.serialization import Codec


@dataclass(slots=True)
class Start:
    """A workflow to start: on a queue, or here when `queue` is None.

    `key_prefix` begins the idempotency keys of its steps, where that is not its id.
    """

    function: Registered
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    workflow_id: str
    queue: str | None = None
    priority: int = 0
    key_prefix: str | None = None


@dataclass(slots=True)
class Started:
    """`run` is set when the new workflow runs in this process and was not there before.

    `cancelled` says that the caller, outside of workflows, was cancelled while the start was being written.
    """

    workflow_id: str
    run: Run | None = None
    cancelled: bool = False

    def pass_on_cancellation(self) -> None:
        """To be called once the start is seen to: whoever cancelled the caller shall not wait for ever.

        Raises:
            asyncio.CancelledError: The caller was cancelled meanwhile.
        """
        if self.cancelled:
            raise TASK_CANCELLED


def start(core: Core, request: Start) -> Flow[Started]:
    """Start a workflow from outside of any; durable when it returns, at most one per id."""
    cancelled = False
    while True:
        starting = core.starts.begin()
        recorded = Recorded(core, Write(change=_new(core, request, parent=None)))
        try:
            result = yield recorded
            cancelled = cancelled or recorded.cancelled
            if not isinstance(result, Fenced):
                started = _started(core, request, result, parent=None)
                started.cancelled = cancelled
                return started
        finally:
            core.starts.end(starting)
        core.refuse_when_stopped()
        # This process was declared dead; it is about to register anew. What was written all the same is found then.
        yield Query(core, lambda: core.stopped.wait(0.1))


def start_child(core: Core, run: Run, place: Place, request: Start) -> Flow[Started]:
    """Start a workflow from within another; one write with the parent's checkpoint."""
    arguments = fingerprint(request.args, request.kwargs)

    def fresh() -> Flow[Started]:
        now = core.clock.now_ms()
        write = run.checkpoint(
            place,
            request.function.name,
            arguments=arguments,
            child_id=request.workflow_id,
            started_at=now,
            completed_at=now,
        )
        write.change = _new(core, request, parent=run)
        starting = core.starts.begin()
        try:
            result = yield Recorded(core, write, run)
            return _started(core, request, result, parent=run)
        finally:
            core.starts.end(starting)

    def again(_: Run, entry: Checkpoint) -> Started:
        return Started(entry.child_id or request.workflow_id)

    return operation(run, place, request.function.name, arguments, fresh, again)


def _encoded(codec: Codec, request: Start, stored: dict[str, Any]) -> str:
    try:
        return codec.encode(stored)
    except SerializationError as error:
        what = f"What the workflow {request.function.name} ({request.workflow_id}) was called with"
        raise not_storable(what, error) from error.__cause__


def _new(core: Core, request: Start, parent: Run | None) -> NewWorkflow:
    codec = core.codecs.default
    stored: dict[str, Any] = {"args": list(request.args), "kwargs": request.kwargs}
    if request.key_prefix is not None:
        stored["keys"] = request.key_prefix
    return NewWorkflow(
        id=request.workflow_id,
        name=request.function.name,
        application=core.application,
        start_id=core.next_start_id(),
        status=PENDING if request.queue is None else "ENQUEUED",
        version=core.version,
        codec=codec.name,
        input=_encoded(codec, request, stored),
        class_name=request.function.class_name,
        queue=request.queue,
        priority=request.priority,
        parent_id=parent.id if parent else None,
        root_id=(parent.root_id or parent.id) if parent else None,
    )


def _started(core: Core, request: Start, result: Result, parent: Run | None) -> Started:
    if isinstance(result, Refused):
        raise result.error
    if isinstance(result, Fenced) and parent is not None:
        parent.is_settled()  # raises what stopped the parent
    if isinstance(result, Existing):
        _same_function(request, result)
        return Started(result.workflow_id)
    if request.queue is not None:
        core.signal(channel_of(request.queue))
        return Started(request.workflow_id)
    run = core.new_run(
        request.workflow_id,
        request.function,
        request.args,
        request.kwargs,
        parent_id=parent.id if parent else None,
        root_id=(parent.root_id or parent.id) if parent else None,
        key_prefix=request.key_prefix,
    )
    core.runner.expect(run)
    return Started(request.workflow_id, run)


def _same_function(request: Start, existing: Existing) -> None:
    if existing.name != request.function.name:
        raise DBOSConflictingWorkflowError(
            request.workflow_id,
            f"The workflow id {request.workflow_id!r} belongs to a workflow of {existing.name!r}, so it cannot "
            f"be used for {request.function.name!r}. Use another id.",
        )
