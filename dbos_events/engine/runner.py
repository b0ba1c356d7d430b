"""Starts runs on threads and loops, sees them to their end, and accounts for who is here."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dbos_events.engine.context import CURRENT, NEXT_WORKFLOW_ID, Scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.effects import TASK_CANCELLED, Call, Flow, Reap
from dbos_events.engine.failures import failure_of, next_attempt, reason_of
from dbos_events.engine.run import LOST, PARKED, Ending, Run, Unwind
from dbos_events.engine.tasks import TaskTree, know_runs
from dbos_events.errors import (
    DBOSException,
    DBOSWorkflowCancelledError,
    DBOSWorkflowConflictIDError,
)
from dbos_events.model.workflow import ERROR, SUCCESS
from dbos_events.storage.writes import Fenced, Outcome, Park, QuarantineNote, Refused, Result, Write
from dbos_events.telemetry.log import Recurring, logger

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.homes import Begin, Home

CANCELLED_OFTEN = 3
"""Times that a workflow whose task was cancelled goes on elsewhere; then it seems to cancel itself, and fails."""


class Runner:
    """The runs of this process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._context = contextvars.Context()
        self.active: dict[str, Run] = {}
        self._following: deque[Run] = deque()
        self._giving = threading.Lock()
        self._cancelled: dict[str, int] = {}
        self._ended_loops = Recurring()
        self.past_the_factory = Recurring()

    # -- starting -----------------------------------------------------------------------------

    def submit(self, runs: Sequence[Run]) -> None:
        """Start `runs` in the background: sync ones on the pool, async ones on the loop."""
        for run in runs:
            self.active[run.id] = run
        blocking = [run for run in runs if not run.function.is_async]
        if blocking:
            self._core.pool.submit([functools.partial(self.run_here, run) for run in blocking])
        if len(blocking) < len(runs):
            self.begin(self._core.homes.default, [(run, None, None) for run in runs if run.function.is_async])

    def start(self, run: Run, *, awaited: bool = False) -> None:
        """Start what the caller has just begun: an async workflow on the caller's loop, with its context.

        In a test that moves the clock itself this holds for `awaited` calls only: else the caller may do so, and
        block its loop.
        """
        function = run.function
        home = self._core.homes.here() if function.is_async or function.may_await else None
        loop = None if home is None else home.loop
        if home is None or loop is None or (self._core.stepper is not None and not awaited):
            self.submit([run])
            return
        self.active[run.id] = run
        context = contextvars.copy_context()
        if (
            not function.is_async
        ):  # it may as well run its async part by itself, which cannot be done on a loop
            self._core.pool.submit([functools.partial(context.run, self.run_here, run, home)])
            return
        self._start_task(run, loop, context, drive_async(execute(run)))
        if run.tasks is not None:
            run.tasks.main.add_done_callback(functools.partial(self._left_by_task, run))

    def begin(self, home: Home, begins: Sequence[Begin]) -> None:
        """Start runs on a loop; should it end before, they are started elsewhere."""
        home.starting.extend(begins)
        home.inbox.post(functools.partial(self._start_tasks, home))

    def submit_following(self, runs: Sequence[Run]) -> None:
        """Start runs that others have made way for: all that one commit has freed at once, after it."""
        if self._core.committer.is_telling:
            self._following.extend(runs)
        else:
            self.submit(runs)

    def start_following(self) -> None:
        """All answers of a commit have been told; called where they were."""
        runs: list[Run] = []
        with suppress(IndexError):
            while self._following:
                runs.append(self._following.popleft())  # answers may be told on two threads at once
        if runs:
            self.submit(runs)

    def run_here(self, run: Run, home: Home | None = None) -> None:
        """Run a sync workflow on the calling thread; returns when its outcome is handed over.

        Should it give something to be awaited, that is done on `home`, else on the caller's loop or the launch's.
        """
        self.active[run.id] = run
        run.thread = threading.get_ident()
        token = CURRENT.set(None)
        try:
            rest: Coroutine[Any, Any, object] | None = drive(execute(run))
            if rest is not None:
                homes = self._core.homes
                there = home or homes.here() or homes.default
                self.begin(there, [(run, rest, contextvars.copy_context())])
        finally:
            CURRENT.reset(token)

    def run_for_caller(self, run: Run) -> None:
        """Run a sync workflow that was called directly, where its caller is.

        In a test that moves the clock itself, a caller outside of workflows must stay free to do so.
        """
        if self._core.stepper is not None and run.parent_id is None:
            self.submit([run])
        else:
            self.run_here(run)

    def _start_tasks(self, home: Home) -> None:
        loop = asyncio.get_running_loop()
        know_runs(loop)
        starting = home.starting
        while starting:
            try:
                run, rest, context = starting.popleft()
            except IndexError:  # taken by whoever saw the loop stand still
                return
            self._start_task(run, loop, context or self._context.copy(), rest or drive_async(execute(run)))

    def _start_task(
        self,
        run: Run,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        body: Coroutine[Any, Any, object],
    ) -> None:
        run.thread = threading.get_ident()
        if context.get(NEXT_WORKFLOW_ID) is not None:
            context.run(NEXT_WORKFLOW_ID.set, None)
        run.tasks = TaskTree(run, asyncio.Task(body, loop=loop, context=context))

    # -- ending -------------------------------------------------------------------------------

    def closed(self, run: Run, write: Write, result: Result) -> None:
        """The outcome, or the parking, of `run` has met its fate; called by the committer."""
        if isinstance(result, Refused) and write.park is None:
            self._record_refusal(run, result.error)
            return
        if isinstance(result, (Fenced, Refused)):
            self.leave(run, Ending("lost", error=run.verdict))
            return
        self.leave(run, run.proposed or LOST)
        if write.park is not None or write.retry is not None or run.parent_id is not None:
            self._core.hub.signal("timers")

    def leave(self, run: Run, ending: Ending) -> None:
        """Forget `run` and tell all who wait for it."""
        if run.ending is not None:
            return
        if self.active.get(run.id) is run:
            del self.active[run.id]
        if self._cancelled and ending.kind == "ended":
            self._cancelled.pop(run.id, None)
        run.end(ending)
        if run.origin is not None:
            self._core.event_ended(run)
        if run.host is not None:
            run.host.left(run)
        self._core.hub.signal(f"workflow:{run.id}")

    def give_back(self, run: Run) -> None:
        """Have a run whose loop will not go on with it taken up again, from its history; called on any thread."""
        with self._giving:
            if run.ending is not None or run.proposed is not None:
                return
            run.unwinding = True
            write = self.closing_of_cancelled(run)
        if write is None:
            self.leave(run, LOST)
        else:
            self._core.committer.submit(write, run)

    def _left_by_task(self, run: Run, task: asyncio.Task[Any]) -> None:
        """A task on a loop of others has ended: it may have been cancelled before it began."""
        if task.cancelled():
            self.give_back(run)

    def closing_of_cancelled(self, run: Run) -> Write | None:
        """The write that lets a run go on elsewhere whose task was cancelled, as when its loop ends."""
        if self._core.stopped.is_set() or run.verdict is not None:
            return None  # recovery takes the workflow up
        times = self._cancelled[run.id] = self._cancelled.get(run.id, 0) + 1
        if times > CANCELLED_OFTEN:
            return failure(run, _cancelled_often())
        self._ended_loops.say(
            "The task of workflow %s (%s) was cancelled, as happens when its event loop ends; it goes on from its "
            "history. Workflows that an event loop starts run on it: let it live until they have ended.",
            run.id,
            run.function.name,
        )
        run.drop_deferred()
        run.proposed = PARKED
        return Write(run.id, run.take, run.generation, park=Park(self._core.clock.now_ms()))

    def _record_refusal(self, run: Run, error: Exception) -> None:
        """The database refused what the run wrote: the workflow fails with that error."""
        if run.proposed is not None and run.proposed.error is error:  # even the error cannot be written
            logger.error("Workflow %s: its failure cannot be recorded: %s", run.id, error)
            self.leave(run, Ending("lost", error=error))
            return
        run.proposed = Ending("ended", error=error)
        self._core.committer.submit(failure(run, DBOSException(str(error))), run, final=True)

    # -- stopping -----------------------------------------------------------------------------

    def stop_all(self, error: BaseException | None = None) -> None:
        """Make every run stop at its next operation; recovery goes on with them elsewhere."""
        for run in tuple(self.active.values()):
            run.stop(error or DBOSWorkflowConflictIDError(run.id))


_LOOP_CLOSED = DBOSException("The event loop was closed.")


def _cancelled_often() -> DBOSException:
    return DBOSException(
        f"The workflow's task was cancelled {CANCELLED_OFTEN + 1} times, by its own code or by what runs beside it on its "
        "event loop. Cancel a workflow with DBOS.cancel_workflow."
    )


def _awaited_cancelled() -> DBOSException:
    return DBOSException("The workflow ended with CancelledError: it awaited a task that was cancelled.")


def execute(run: Run) -> Flow[None]:
    """Run the workflow function and hand over how it ended."""
    write = yield from _closing_write(run)
    if write is None:
        run.core.runner.leave(run, LOST if run.verdict is None else Ending("lost", error=run.verdict))
    else:
        run.core.committer.submit(write, run, final=run.verdict is not None)


def _closing_write(run: Run) -> Flow[Write | None]:
    """The write that ends this run, or None when it may not write any more."""
    try:
        args = run.args if run.function.binding is None else run.function.binding.arguments(run)
    except Exception as refusal:  # noqa: BLE001 - the event's value, or what tells whether it is to run
        return failure(run, refusal)
    if args is None:
        return _success(run, None)
    output, error = yield from _returned_or_raised(run, args)
    if error is _LOOP_CLOSED:
        return run.core.runner.closing_of_cancelled(run)
    if run.tasks is not None and not run.tasks.alone:
        yield Reap(run)
    if isinstance(run.verdict, (DBOSWorkflowConflictIDError, DBOSWorkflowCancelledError)):
        return None
    if run.unwinding:
        run.proposed = PARKED
        return Write(run.id, run.take, run.generation, park=run.park or Park(run.core.clock.now_ms()))
    if isinstance(run.verdict, Exception):
        error = run.verdict
    return failure(run, error) if error is not None else _success(run, output)


def _returned_or_raised(run: Run, args: tuple[Any, ...]) -> Flow[tuple[object, Exception | None]]:
    scope = Scope(run)
    CURRENT.set(scope)
    if run.verdict is not None:  # its input cannot be read
        return None, None
    try:
        return (yield Call(scope, run.function.function, args, run.kwargs, moves=True)), None
    except (Unwind, DBOSWorkflowConflictIDError):
        return None, None  # the run itself knows why
    except DBOSWorkflowCancelledError as unwound:
        return None, DBOSException(str(unwound))
    except TASK_CANCELLED:
        # Asked only here: a TaskGroup whose task failed leaves the mark of a cancellation behind, too.
        closed = run.tasks is not None and run.tasks.is_cancelled
        return None, _LOOP_CLOSED if closed else _awaited_cancelled()
    except Exception as error:  # noqa: BLE001 - the workflow's own error
        return None, error


def _success(run: Run, output: object) -> Write:
    codec = run.core.codecs.default
    try:
        text = None if output is None else codec.encode(output)
    except Exception as error:  # noqa: BLE001 - whatever a user's codec raises
        return failure(run, error)
    run.proposed = Ending("ended", value=output)
    outcome = Outcome(SUCCESS, None if text is None else codec.name, text, parent_id=run.parent_id)
    return Write(run.id, run.take, run.generation, outcome=outcome)


def failure(run: Run, error: Exception) -> Write:
    """The write that ends `run` with `error`, or this attempt at it.

    An event's workflow is tried again, or quarantined, where its consumer says so.
    """
    failed = failure_of(run, error)
    again = next_attempt(run, error, failed)
    if again is not None:
        run.proposed = PARKED
        return Write(run.id, run.take, run.generation, retry=again)
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
    return Write(run.id, run.take, run.generation, outcome=outcome)
