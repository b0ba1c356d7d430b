"""Start or enqueue a workflow: from outside, or as a child in one write with its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import TASK_CANCELLED, Flow, Query, Recorded
from dbos_events.engine.operations.common import counted, deliver, follows, operation, record_cancelled
from dbos_events.engine.recall import Recall
from dbos_events.engine.runvalues import Place
from dbos_events.engine.timelimits import DEADLINES, UNBOUND, Bounds, TimeLimits, bounds_of
from dbos_events.errors import (
    DBOSConflictingWorkflowError,
    DBOSException,
    DBOSQueueDeduplicatedError,
    DBOSWorkflowIDInUseError,
    SerializationError,
)
from dbos_events.model.dataclass import dataclass
from dbos_events.model.queue import DuplicationPolicy, channel_of
from dbos_events.model.workflow import DELAYED, ENQUEUED, PENDING
from dbos_events.serialization import fingerprint, not_storable
from dbos_events.serialization.codecs import stored_error
from dbos_events.storage.writes import (
    Checkpoint,
    Deduplicated,
    Existing,
    Fenced,
    NewWorkflow,
    Refused,
    Result,
    Write,
)
from dbos_events.telemetry.log import logger

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.registry import Registered
    from dbos_events.engine.run import Engine, Run
    from dbos_events.serialization import Codec


@dataclass(slots=True)
class Start:
    """A workflow to start: on a queue, or here when `queue` is None.

    `key_prefix` begins the idempotency keys of its steps, where that is not its id. `rejects_existing` says that an id
    which is taken is an error, `duplicates` what a deduplication id is that is taken.
    """

    function: Registered
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    workflow_id: str
    queue: str | None = None
    priority: int = 0
    key_prefix: str | None = None
    deduplication_id: str | None = None
    duplicates: DuplicationPolicy = "reject"
    partition: str | None = None
    delay_ms: int | None = None
    app_version: str | None = None
    attributes: str | None = None
    rejects_existing: bool = False
    any_version: bool = False
    application: str | None = None
    """Whose workflow it is; None: this program's."""
    limits: TimeLimits | None = None
    bounds: Bounds = UNBOUND
    """Follow from the limits when it is written."""


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
        recorded = Recorded(core, Write(change=new_workflow(core, request, parent=None)))
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
        write.change = new_workflow(core, request, parent=run)
        starting = core.starts.begin()
        recorded = Recorded(core, write, run)
        try:
            result = yield recorded
            if not isinstance(result, Deduplicated) and not _in_use(request, result):
                started = _started(core, request, result, parent=run)
                started.cancelled = recorded.cancelled
                return started
        finally:
            core.starts.end(starting)
        return (yield from _record_refusal(core, run, place, request, arguments, result))

    def again(run: Run, entry: Checkpoint) -> Started:
        if entry.error is not None:
            deliver(run, entry)
        return Started(entry.child_id or request.workflow_id)

    started: Started = yield from operation(
        run, place, request.function.name, arguments, fresh, again, may_go_on=follows
    )
    yield from counted(run, _cancelled_after(run, place, request.function.name, started))
    return started


def _cancelled_after(run: Run, place: Place, name: str, started: Started) -> Flow[None]:
    """The start is recorded, and the task that waited for that was cancelled meanwhile: so it is again in a replay."""
    end = Place(f"{place.call}!", -place.number)
    if started.cancelled:
        record_cancelled(run, end, name, None, TASK_CANCELLED())
        return
    entry = run.history.by_call.get(end.call) if run.history is not None else None
    if entry is not None:
        try:
            yield Recall(run, entry)
        except TASK_CANCELLED as cancelling:
            record_cancelled(run, end, name, None, cancelling)
            raise


def _encoded(codec: Codec, request: Start, stored: dict[str, Any]) -> str:
    try:
        return codec.encode(stored)
    except SerializationError as error:
        what = f"What the workflow {request.function.name} ({request.workflow_id}) was called with"
        raise not_storable(what, error) from error.__cause__


def _record_refusal(
    core: Core, run: Run, place: Place, request: Start, arguments: str, result: Result
) -> Flow[Started]:
    """Nothing was started, and nothing recorded of it yet: record whom it met, or the error, in a write of its own."""
    now = core.clock.now_ms()
    common: dict[str, Any] = {"arguments": arguments, "started_at": now, "completed_at": now}
    if isinstance(result, Deduplicated) and request.duplicates == "return-existing":
        write = run.checkpoint(place, request.function.name, child_id=result.winner, **common)
        yield Recorded(core, write, run)
        run.is_settled()
        return Started(result.winner)
    error = _refusal(request, result)
    codec, stored = stored_error(core.codecs.default, error)
    write = run.checkpoint(place, request.function.name, codec=codec, error=stored, **common)
    yield Recorded(core, write, run)
    run.is_settled()
    run.note(error, write.checkpoint)
    raise error


def _refusal(request: Start, result: Result) -> DBOSException:
    if isinstance(result, Deduplicated):
        return DBOSQueueDeduplicatedError(
            request.workflow_id, request.queue or "", request.deduplication_id or "", result.winner
        )
    return DBOSWorkflowIDInUseError(request.workflow_id)


def _in_use(request: Start, result: Result) -> bool:
    return isinstance(result, Existing) and request.rejects_existing


def new_workflow(core: Engine, request: Start, parent: Run | None) -> NewWorkflow:
    """The row of a workflow that is started."""
    codec = core.codecs.default
    stored: dict[str, Any] = {"args": list(request.args), "kwargs": request.kwargs}
    if request.key_prefix is not None:
        stored["keys"] = request.key_prefix
    request.bounds = bounds_of(
        core, request.limits, parent, queued=request.queue is not None, delay_ms=request.delay_ms or 0
    )
    return NewWorkflow(
        id=request.workflow_id,
        name=request.function.name,
        application=request.application or core.application,
        start_id=core.next_start_id(),
        status=_status(request),
        version=None if request.any_version else request.app_version or core.version,
        codec=codec.name,
        input=_encoded(codec, request, stored),
        class_name=request.function.class_name,
        queue=request.queue,
        priority=request.priority,
        parent_id=parent.id if parent else None,
        root_id=(parent.root_id or parent.id) if parent else None,
        timeout_ms=request.bounds.timeout_ms,
        deadline=request.bounds.deadline,
        start_by=request.bounds.start_by,
        deduplication_id=request.deduplication_id,
        queue_partition_key=request.partition,
        delay_ms=request.delay_ms,
        version_pinned=True if request.app_version is not None else None,
        attributes=request.attributes,
        rejects_existing=request.rejects_existing,
    )


def _status(request: Start) -> str:
    if request.delay_ms is not None:
        return DELAYED
    return PENDING if request.queue is None else ENQUEUED


def _started(core: Core, request: Start, result: Result, parent: Run | None) -> Started:
    if isinstance(result, Refused):
        raise result.error
    if isinstance(result, Fenced) and parent is not None:
        parent.is_settled()  # raises what stopped the parent
    if isinstance(result, Deduplicated) and request.duplicates == "return-existing":
        return Started(result.winner)
    if isinstance(result, Deduplicated) or _in_use(request, result):
        raise _refusal(request, result)
    if isinstance(result, Existing):
        _same_function(request, result)
        return Started(result.workflow_id)
    if request.bounds.deadline is not None or request.bounds.start_by is not None:
        core.hub.signal(DEADLINES)
    if request.delay_ms is not None:
        core.signal("timers")
        return Started(request.workflow_id)
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
    run.deadline = request.bounds.deadline
    core.runner.expect(run)
    return Started(request.workflow_id, run)


def _same_function(request: Start, existing: Existing) -> None:
    if existing.name != request.function.name:
        raise DBOSConflictingWorkflowError(
            request.workflow_id,
            f"The workflow id {request.workflow_id!r} belongs to a workflow of {existing.name!r}, so it cannot "
            f"be used for {request.function.name!r}. Use another id.",
        )
    if request.queue is not None and existing.queue not in (None, request.queue):
        logger.warning(
            "Workflow %s was enqueued on %s before and stays there; it was asked for on %s now.",
            request.workflow_id,
            existing.queue,
            request.queue,
        )
