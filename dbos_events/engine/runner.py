"""Starts runs on threads and loops, sees them to their end, and accounts for who is here."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import weakref
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from dbos_events.engine.cancelled import Cancelled
from dbos_events.engine.context import CURRENT, forget_caller
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.execution import execute, failure
from dbos_events.engine.run import Engine, Run
from dbos_events.engine.runvalues import LOST, PARKED, Ending
from dbos_events.engine.tasks import know_runs
from dbos_events.engine.tasktree import TaskTree
from dbos_events.errors import (
    DBOSException,
    DBOSWorkflowConflictIDError,
)
from dbos_events.serialization.raised import text_of
from dbos_events.storage.writes import (
    WRITTEN,
    Fenced,
    Outcome,
    Park,
    Refused,
    Result,
    Write,
)
from dbos_events.telemetry.log import Recurring, logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbos_events.engine.homes import Home, Homes, RunToBegin
    from dbos_events.engine.run import StepUnderWay


class Launch(Engine, Protocol):
    """The engine, with what only the runner uses of it."""

    homes: Homes
    event_ended: Callable[[Run], object]


class Runner:
    """The runs of this process."""

    def __init__(self, core: Launch) -> None:
        self._core = core
        self._context = contextvars.copy_context()
        self._context.run(forget_caller)
        self.active: dict[str, Run] = {}
        self._unstarted: dict[str, weakref.ref[Run]] = {}
        self._following: deque[Run] = deque()
        self._signals: deque[str] = deque()
        self._giving = threading.Lock()
        self._cancelled = Cancelled()
        self.past_the_factory = Recurring()
        self.under_way: dict[StepUnderWay, int] = {}  # steps that run here, and since when

    # -- starting -----------------------------------------------------------------------------

    def submit(self, runs: Sequence[Run]) -> None:
        """Start `runs` in the background: sync ones on the pool, async ones on the loop."""
        for run in runs:
            self.active[run.id] = run
            if self._unstarted:
                self._unstarted.pop(run.id, None)
        blocking = [run for run in runs if not run.function.is_async]
        if blocking:
            self._core.pool.submit(
                [functools.partial(self.context_of(run).run, self.run_here, run) for run in blocking]
            )
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
        self._unstarted.pop(run.id, None)
        context = self.context_of(run)
        if not function.is_async:  # it may run its async part by itself, which cannot be done on a loop
            self._core.pool.submit([functools.partial(context.run, self.run_here, run, home)])
            return
        self._start_task(run, loop, context, drive_async(execute(run)))
        if run.tasks is not None:
            run.tasks.main.add_done_callback(functools.partial(self._left_by_task, run))

    def begin(self, home: Home, begins: Sequence[RunToBegin]) -> None:
        """Start runs on a loop; should it end before, they are started elsewhere."""
        home.starting.extend(begins)
        home.inbox.post(functools.partial(self._start_tasks, home))

    def submit_following(self, runs: Sequence[Run]) -> None:
        """Start runs that others have made way for: all that one commit has freed at once, after it."""
        if self._core.committer.is_telling:
            self._following.extend(runs)
        else:
            self.submit(runs)

    def signal_following(self, channel: str) -> None:
        """Signal a channel once, when all answers of the commit have been told, that one of them concerns."""
        if self._core.committer.is_telling:
            self._signals.append(channel)
        else:
            self._core.signal(channel)

    def start_following(self) -> None:
        """All answers of a commit have been told; called where they were."""
        channels: set[str] = set()
        with suppress(IndexError):
            while self._signals:
                channels.add(self._signals.popleft())
        for channel in channels:
            self._core.signal(channel)
        runs: list[Run] = []
        with suppress(IndexError):
            while self._following:
                runs.append(self._following.popleft())  # answers may be told on two threads at once
        if runs:
            self.submit(runs)

    def expect(self, run: Run) -> None:
        """A caller is about to start the run, in the context that it has now."""
        run.context = contextvars.copy_context()
        run.context.run(forget_caller)
        self._unstarted[run.id] = weakref.ref(run)

    @property
    def here(self) -> dict[str, int]:
        """The takes of all workflows that run in this process, or are about to.

        A run that nobody holds any more will not be started: its caller was interrupted.
        """
        for id_, reference in tuple(self._unstarted.items()):
            if reference() is None:
                self._unstarted.pop(id_, None)
        unstarted = [reference() for reference in tuple(self._unstarted.values())]
        waiting = [run for run in (*unstarted, *tuple(self._following)) if run is not None]
        return {run.id: run.take for run in (*waiting, *tuple(self.active.values()))}

    def context_of(self, run: Run) -> contextvars.Context:
        """A context of the run's own: a copy of its caller's, or of that of the launch."""
        context, run.context = run.context, None
        return self._context.copy() if context is None else context

    def run_here(self, run: Run, home: Home | None = None) -> None:
        """Run a sync workflow on the calling thread; returns when its outcome is handed over.

        To be called within the context of the run. Should it give something to be awaited, that is done on `home`, else
        on the caller's loop or the launch's.
        """
        self.active[run.id] = run
        self._unstarted.pop(run.id, None)
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
            self.context_of(run).run(self.run_here, run)

    def _start_tasks(self, home: Home) -> None:
        loop = asyncio.get_running_loop()
        know_runs(loop)
        starting = home.starting
        while starting:
            try:
                run, rest, context = starting.popleft()
            except IndexError:  # taken by whoever saw the loop stand still
                return
            self._start_task(run, loop, context or self.context_of(run), rest or drive_async(execute(run)))

    def _start_task(
        self,
        run: Run,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        body: Coroutine[Any, Any, object],
    ) -> None:
        run.thread = threading.get_ident()
        try:
            task = asyncio.Task(body, loop=loop, context=context)
        except Exception:  # noqa: BLE001 - the loop is closed
            body.close()
            logger.exception("Workflow %s cannot be started on its event loop; it is given back.", run.id)
            self.leave(run, LOST)
        else:
            run.tasks = TaskTree(run, task)

    # -- ending -------------------------------------------------------------------------------

    def closed(self, run: Run, write: Write, result: Result) -> None:
        """The outcome, or the parking, of `run` has met its fate; called by the committer."""
        if result is not WRITTEN:
            if isinstance(result, Refused):
                self._record_refusal(run, result.error)
                return
            if isinstance(result, Fenced):
                self.leave(run, Ending("lost", error=run.verdict))
                return
        self.leave(run, run.proposed or LOST)
        change = write.change
        # A parent that is here is not parked; should it be parking now, its own parking is going to say so.
        has_parent_elsewhere = run.parent_id is not None and run.parent_id not in self.active
        if has_parent_elsewhere or not isinstance(change, Outcome):
            self._core.hub.signal("timers")
        elif change.woke:
            self._core.signal("timers")

    def leave(self, run: Run, ending: Ending) -> None:
        """Forget `run` and tell all who wait for it; once, whoever says it first."""
        if self.active.get(run.id) is run:
            del self.active[run.id]
        if not run.end(ending):
            return
        if self._cancelled.times and ending.kind == "ended":
            self._cancelled.forget(run)
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
        error = self._cancelled.once_more(run)
        if error is not None:
            return failure(run, error)
        run.drop_deferred()
        run.proposed = PARKED
        return Write(run.id, run.take, run.generation, change=Park(self._core.clock.now_ms()))

    def _record_refusal(self, run: Run, error: Exception) -> None:
        """The database refused what the run wrote: the workflow fails with that error."""
        if run.proposed is not None and run.proposed.error is error:  # even the error cannot be written
            logger.error("Workflow %s: its failure cannot be recorded: %s", run.id, error)
            self.leave(run, Ending("lost", error=error))
            return
        run.proposed = Ending("ended", error=error)
        self._core.committer.submit(failure(run, DBOSException(text_of(error))), run, final=True)

    # -- stopping -----------------------------------------------------------------------------

    def stop_all(self, error: BaseException | None = None) -> None:
        """Make every run stop at its next operation; recovery goes on with them elsewhere."""
        for run in tuple(self.active.values()):
            run.stop(error or DBOSWorkflowConflictIDError(run.id))
