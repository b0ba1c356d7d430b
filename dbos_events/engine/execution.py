"""One execution of a workflow function: its call, and the write that ends the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbos_events.engine.arguments import ExpiredEvent, arguments_of
from dbos_events.engine.context import CURRENT, Scope
from dbos_events.engine.effects import TASK_CANCELLED, Answered, Call, Flow, Reap
from dbos_events.engine.failures import failure_of, next_attempt, reason_of
from dbos_events.engine.late import expired
from dbos_events.engine.runvalues import LOST, PARKED, Ending, Unwind
from dbos_events.errors import (
    DBOSBaseException,
    DBOSException,
    DBOSWorkflowCancelledError,
    DBOSWorkflowConflictIDError,
    SerializationError,
)
from dbos_events.model.workflow import ERROR, SUCCESS
from dbos_events.serialization import encoded, not_storable
from dbos_events.serialization.raised import as_exception, is_interrupt
from dbos_events.storage.writes import Outcome, Park, QuarantineNote, Write
from dbos_events.telemetry.log import logger

if TYPE_CHECKING:
    from dbos_events.engine.run import Run

_LOOP_CLOSED = DBOSException("The event loop was closed.")

SOURCE = "The workflow"  # what an error that is not an `Exception` came from, as its stand-in says it


def execute(run: Run) -> Flow[None]:
    """Run the workflow function and hand over how it ended; whatever is raised, the run leaves this process."""
    try:
        write = yield from _closing_write(run)
    except BaseException as error:
        if isinstance(error, TASK_CANCELLED):  # while it waited for what it had left running
            run.core.runner.give_back(run)
            raise
        if isinstance(error, GeneratorExit) or is_interrupt(error):
            run.core.runner.leave(run, LOST)
            raise
        write = _unforeseen(run, error)
    if write is None:
        run.core.runner.leave(run, LOST if run.verdict is None else Ending("lost", error=run.verdict))
    else:
        run.core.committer.submit(write, run, final=run.verdict is not None)


def _unforeseen(run: Run, error: BaseException) -> Write | None:
    """The write for what came from beside the workflow function, as a codec's; None when not even that can be made."""
    try:
        return failure(run, as_exception(error, SOURCE))
    except BaseException:  # noqa: BLE001 - code of a user once more
        logger.exception("Workflow %s: its failure cannot be recorded; it is given back.", run.id)
        return None


def _closing_write(run: Run) -> Flow[Write | None]:
    """The write that ends this run, or None when it may not write any more."""
    args = _arguments(run)
    if isinstance(args, Write):
        return args
    output, error = yield from _returned_or_raised(run, args)
    if error is _LOOP_CLOSED:
        return run.core.runner.closing_of_cancelled(run)
    if run.tasks is not None and not run.tasks.alone:
        yield Reap(run)
    if isinstance(run.verdict, (DBOSWorkflowConflictIDError, DBOSWorkflowCancelledError)):
        if run.shields:
            yield Answered(run)
        return None
    if run.unwinding:
        run.proposed = PARKED
        return Write(run.id, run.take, run.generation, change=run.park or Park(run.core.clock.now_ms()))
    if isinstance(run.verdict, Exception):
        error = run.verdict
    return failure(run, error) if error is not None else _success(run, output)


def _arguments(run: Run) -> tuple[Any, ...] | Write:
    """What the function is called with; or the write that ends the run, where it is not called."""
    try:
        binding = run.function.binding
        try:
            args = run.args if binding is None else arguments_of(run, binding)
        except ExpiredEvent:
            return expired(run)
    except BaseException as refusal:  # of the event's value, or of what tells whether it is to run
        if is_interrupt(refusal):
            raise
        return failure(run, as_exception(refusal, "The decoding of the event's value"))
    return _success(run, None) if args is None else args


def _returned_or_raised(run: Run, args: tuple[Any, ...]) -> Flow[tuple[object, Exception | None]]:
    scope = Scope(run)
    CURRENT.set(scope)
    if run.verdict is not None:  # its input cannot be read
        return None, None
    try:
        return (yield Call(scope, run.function.function, args, run.kwargs, moves=True)), None
    except TASK_CANCELLED as cancelled:
        # Asked only here: a TaskGroup whose task failed leaves the mark of a cancellation behind, too.
        closed = run.tasks is not None and run.tasks.is_cancelled
        return None, _LOOP_CLOSED if closed else as_exception(cancelled, SOURCE)
    except Exception as error:  # noqa: BLE001 - the workflow's own error
        return None, error
    except (Unwind, DBOSBaseException, BaseExceptionGroup):
        return None, None  # the run itself knows why: what a user raised by hand is an Exception by now


def _success(run: Run, output: object) -> Write:
    codec = run.core.codecs.default
    try:
        text = encoded(codec, output)
    except SerializationError as error:
        what = f"What the workflow {run.function.name} ({run.id}) returned"
        return failure(run, not_storable(what, error))
    except Exception as error:  # noqa: BLE001 - whatever a user's codec raises
        return failure(run, error)
    run.proposed = Ending("ended", value=output)
    outcome = Outcome(SUCCESS, None if text is None else codec.name, text, parent_id=run.parent_id)
    return Write(run.id, run.take, run.generation, change=outcome)


def failure(run: Run, error: Exception) -> Write:
    """The write that ends `run` with `error`, or this attempt at it.

    An event's workflow is tried again, or quarantined, where its consumer says so.
    """
    failed = failure_of(run, error)
    again = next_attempt(run, error, failed)
    if again is not None:
        run.proposed = PARKED
        return Write(run.id, run.take, run.generation, change=again)
    if run.proposed is None or run.proposed.error is None:
        run.proposed = Ending("ended", error=error)
    note = None
    if run.origin is not None and run.origin.quarantines:
        note = QuarantineNote(
            run.origin.consumer, reason_of(run, error), failed.error, run.attempt + 1, failed
        )
    outcome = Outcome(
        ERROR,
        failed.codec,
        None,
        failed.error,
        parent_id=run.parent_id,
        quarantine=note,
        frees_lane=note is None,
    )
    return Write(run.id, run.take, run.generation, change=outcome)
