"""One execution of one workflow in this process."""

from __future__ import annotations

import threading
from asyncio import current_task
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dbos_events.engine.runvalues import Branch, Ending, Entries, EventOrigin, Place, Unsuccessful, Unwind
from dbos_events.engine.shield import is_shielded, shield_over
from dbos_events.engine.waking import running_loop
from dbos_events.errors import DBOSException, DBOSWorkflowCancelledError, DBOSWorkflowConflictIDError
from dbos_events.model.workflow import CANCELLED
from dbos_events.storage.writes import WRITTEN, Checkpoint, Fenced, Park, Refused, Result, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from dbos_events.clock import Clock
    from dbos_events.engine.committer import Committer
    from dbos_events.engine.keys import UsedKeys
    from dbos_events.engine.mailboxes import Mailboxes
    from dbos_events.engine.pool import Pool
    from dbos_events.engine.readers import Readers
    from dbos_events.engine.registry import Registered, Registry
    from dbos_events.engine.replay import History
    from dbos_events.engine.tasktree import TaskTree
    from dbos_events.engine.waking import Hub, LoopInbox, ThreadWaker, Waker
    from dbos_events.model.event import Retry
    from dbos_events.serialization import Codecs
    from dbos_events.storage.protocol import Storage
    from dbos_events.telemetry.log import Recurring

R = TypeVar("R")


class StepUnderWay(Protocol):
    """A call of a step that runs."""

    run: Run
    place: Place
    name: str


class Runs(Protocol):
    """The runs of this process: what a run, and what stands between it and the runner, asks of that."""

    active: dict[str, Run]
    under_way: dict[StepUnderWay, int]
    past_the_factory: Recurring

    def closed(self, run: Run, write: Write, result: Result) -> None:
        """The outcome, or the parking, of `run` has met its fate."""

    def closing_of_cancelled(self, run: Run) -> Write | None:
        """The write that lets a run go on elsewhere whose task was cancelled."""

    def give_back(self, run: Run) -> None:
        """Have a run taken up again, from its history."""

    def leave(self, run: Run, ending: Ending) -> None:
        """Forget `run` and tell all who wait for it."""

    def signal_following(self, channel: str, *, told: bool = False) -> None:
        """Signal a channel once, when all answers of the commit have been told."""

    @property
    def is_crowded(self) -> bool:
        """Whether so many runs are in memory that no further one should rest there."""
        ...


class Engine(Protocol):
    """What runs and durable operations use of the engine, which `Core` puts together above them.

    It stands beside `Run`, since each refers to the other; everything else refers to both in one direction.
    """

    application: str
    version: str
    executor: int
    park_after: float
    storage: Storage
    registry: Registry
    codecs: Codecs
    clock: Clock
    hub: Hub
    pool: Pool
    readers: Readers
    mailboxes: Mailboxes
    committer: Committer
    stopped: threading.Event
    retries: dict[int, Retry | None]
    chance: Callable[[], float]
    stepper: Callable[[Sequence[str]], object] | None

    @property
    def runner(self) -> Runs: ...

    @property
    def holds_lease(self) -> bool: ...

    def inbox(self) -> LoopInbox: ...

    def next_write_id(self) -> int: ...

    def next_start_id(self) -> int: ...

    def ask(self, work: Callable[[], R], patience: float | None = None) -> R: ...

    def signal(self, channel: str) -> None: ...

    def refuse_when_stopped(self) -> None: ...


class Host(Protocol):
    """Whoever gave a run its place (a consumer, a queue) and wants it back."""

    def left(self, run: Run) -> None:
        """The run has left this process; called by the committer, so it must be quick."""


class Run:
    """The state of one execution: its token, its numbering, and what it handed to the committer.

    Fields that the committer touches are written under `_lock`, and read without it; all others belong
    to the thread that drives the run.
    """

    __slots__ = (
        "__weakref__", "_deferred", "_durable", "_handed", "_lock", "_number", "_wakers", "args", "attempt",
        "cleanups", "context", "core", "crashes", "deadline", "ending", "function", "generation", "history", "host",
        "id", "key_prefix", "kwargs", "listeners", "noticed", "open_calls", "order", "origin", "outlet", "parent_id",
        "park", "partition", "proposed", "queue", "resting", "root_id", "shields", "take", "tasks", "thread",
        "unsuccessful", "unwinding", "used_keys", "verdict",
    )  # fmt: skip

    partition: str | None
    deadline: int | None

    def __init__(  # noqa: PLR0913 - what a row says of its run
        self,
        core: Engine,
        workflow_id: str,
        function: Registered,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        take: int = 1,
        generation: int = 0,
        crashes: int = 0,
        history: History | None = None,
        origin: EventOrigin | None = None,
        queue: str | None = None,
        parent_id: str | None = None,
        root_id: str | None = None,
        attempt: int = 0,
        key_prefix: str | None = None,
    ) -> None:
        self.core = core
        self.id = workflow_id
        self.function = function
        self.args, self.kwargs = args, kwargs
        self.take = take
        self.generation, self.crashes = generation, crashes
        self.history = history
        self.origin = origin
        self.queue, self.partition, self.deadline = queue, None, None
        self.parent_id, self.root_id = parent_id, root_id
        self.attempt = attempt
        self.key_prefix = f"{workflow_id}:" if key_prefix is None else key_prefix
        self.used_keys: UsedKeys | None = None
        self.unsuccessful: list[Unsuccessful] = []
        self.thread = self.open_calls = self.shields = self.cleanups = 0
        self._number = self._handed = self._durable = 0
        self.unwinding = self.noticed = False
        self.tasks: TaskTree | None = None
        self.outlet: Entries | None = None
        self.order = history.last_order if history else 0
        self.park: Park | None = None
        self.verdict: BaseException | None = None
        self.proposed: Ending | None = None
        self.ending: Ending | None = None
        self.host: Host | None = None
        self.context: Context | None = None
        self.listeners: list[Waker] = []
        self.resting: ThreadWaker | None = None
        self._deferred: list[Write] = []
        self._wakers: list[Waker] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.function.name}, take {self.take}>"

    # -- at each durable operation ------------------------------------------------------------

    def enter(self) -> None:
        """Refuse the operation when this run may not go on, or not from this thread."""
        if self.unwinding:
            raise Unwind
        if self.verdict is not None and (verdict := self.refusal()) is not None:
            raise verdict
        if self.thread != threading.get_ident():
            raise DBOSException(
                f"Workflow {self.id}: a durable operation was called from a thread that the engine did not "
                "start, so its place in the history is unknown. Call it from the workflow function, or "
                "from a task that the workflow started."
            )

    def refusal(self) -> BaseException | None:
        """What stopped the run, unless the caller is shielded from it; it is going to be raised."""
        verdict = self.verdict
        if self.shields and isinstance(verdict, DBOSWorkflowCancelledError) and shield_over(self) is not None:
            return None
        self.noticed = self.noticed or verdict is not None
        return verdict

    def is_clear(self) -> bool:
        """Whether a call can be done at once: no history says what came of it, and there is nothing to wait for.

        Raises what stopped the run, if something did.
        """
        # Counted before the verdict is looked at, as in `is_settled`: `settled` does it the other way round.
        clear = self.history is None and self._durable == self._handed and self.core.holds_lease
        self.enter()
        return clear

    def locate(self, scope: Branch) -> Place:
        """Name and number the next durable call of `scope`; done at the call, before anything waits.

        Raises what stopped the run, if something did.
        """
        self.enter()
        if (loop := running_loop()) is not None:
            task = current_task(loop)
            if task is not None and scope.task != id(task):
                scope = scope.own(task, loop)
        if self.history is None and not self.shields:  # so it is for most events
            return Place(scope.next_call(), self.take_number())
        shield = shield_over(self) if self.shields else None
        call = scope.next_call() if shield is None or not shield.cleans_up else shield.next_call()
        entry = self.history.by_call.get(call) if self.history is not None else None
        return Place(call, entry.step if entry is not None else self.take_number())

    def take_number(self) -> int:
        """The next step number that no recorded step has."""
        self._number += 1
        if self.history is not None:
            while self._number in self.history.numbers:
                self._number += 1
        return self._number

    def checkpoint(  # noqa: PLR0913 - what a row says of a call
        self,
        place: Place,
        name: str,
        *,
        arguments: str | None = None,
        codec: str | None = None,
        output: str | None = None,
        error: str | None = None,
        child_id: str | None = None,
        started_at: int | None = None,
        completed_at: int | None = None,
    ) -> Write:
        """A write that records one completed call of this run."""
        self.order += 1
        entry = Checkpoint(
            place.number, place.call, name, self.order, arguments, codec, output, error, child_id, started_at,
            completed_at, self.core.next_write_id(),
        )  # fmt: skip
        resets, self.crashes = self.crashes > 0, 0
        return Write(
            self.id, self.take, self.generation, entry, None, resets, self.shields > 0 and is_shielded(self)
        )

    def note(self, error: BaseException, entry: Checkpoint | None, *, cancelled: bool = False) -> None:
        """Remember which checkpoint an error was recorded in, or read from: a retry does that call anew."""
        if entry is not None and self.origin is not None:
            self.unsuccessful.append(Unsuccessful(error, entry.step, entry.completion_order, cancelled))

    def hand_over(self, write: Write, waker: Waker | None = None) -> None:
        """Give `write` to the committer and go on; the run's next operation waits for it. `waker` learns of its fate."""
        self.core.committer.submit(write, self, waker)

    def defer(self, write: Write) -> None:
        """Hand `write` over with the next one: what was cancelled is known then not to be so because the loop ends."""
        self._deferred.append(write)

    def drop_deferred(self) -> None:
        """The run ends here as if its last cancelled calls had never begun."""
        self._deferred.clear()

    def _hand_over_deferred(self) -> None:
        deferred, self._deferred = self._deferred, []
        for write in deferred:
            self.core.committer.submit(write, self)

    # -- what was handed over, and what became of it ------------------------------------------

    def handing(self) -> None:
        """Count one more write on its way; called by `submit`, on the one thread that drives the run or ends it."""
        if self._deferred:
            self._hand_over_deferred()
        self._handed += 1

    def settled(self, write: Write, result: Result) -> None:
        """Note a write's fate; called by the committer, in the order of handing over."""
        wakers: list[Waker] | None = None
        with self._lock:
            if result is not WRITTEN:
                if self.verdict is None:
                    self.verdict = self._verdict_on(result)
                elif write.shielded and isinstance(result, Fenced):  # which a cancel alone does not do
                    self.verdict = DBOSWorkflowConflictIDError(self.id)
            self._durable += 1  # after the verdict: who finds all durable, without the lock, finds that, too
            if self._wakers and self._durable == self._handed:
                wakers, self._wakers = self._wakers, []
        if wakers is not None:
            for waker in wakers:
                waker.wake()
        if write.closes:
            self.core.runner.closed(self, write, result)

    @property
    def handed(self) -> int:
        """How many writes it has handed over so far."""
        return self._handed

    @property
    def under_way(self) -> int:
        """How many of them have no answer yet."""
        return self._handed - self._durable

    def is_settled(self) -> bool:
        """Whether nothing is on its way. Raises what stopped the run, if something did."""
        settled = self._durable == self._handed
        if self.verdict is not None and (verdict := self.refusal()) is not None:
            raise verdict
        return settled

    def wake_when_settled(self, waker: Waker) -> bool:
        """Have `waker` woken once all is durable; False when it is already."""
        with self._lock:
            if self._durable == self._handed:
                return False
            self._wakers.append(waker)
            return True

    def _verdict_on(self, result: Result) -> BaseException | None:
        if isinstance(result, Refused):
            return result.error
        if isinstance(result, Fenced):
            return self.cancellation() if result.status == CANCELLED else DBOSWorkflowConflictIDError(self.id)
        return None

    def cancellation(self) -> DBOSWorkflowCancelledError:
        return DBOSWorkflowCancelledError(f"Workflow {self.id} was cancelled.")

    def stop(self, verdict: BaseException) -> None:
        """Make the run's next operation raise `verdict`; wakes it where it waits."""
        with self._lock:
            if self.verdict is None:
                self.verdict = verdict
            wakers, self._wakers = self._wakers, []
        for waker in wakers:
            waker.wake()
        self.core.hub.signal(f"run:{self.id}")

    # -- the end ------------------------------------------------------------------------------

    def when_ended(self, waker: Waker) -> bool:
        """Have `waker` woken when the run has left this process; False when it has already."""
        with self._lock:
            if self.ending is not None:
                return False
            self.listeners.append(waker)
            return True

    def end(self, ending: Ending) -> bool:
        """Tell all who wait for this run how it left the process; False when it has left already.

        A run that is left refers to nothing that refers to it, so it is freed at once.
        """
        with self._lock:
            if self.ending is not None:
                return False
            self.ending = ending
            listeners, self.listeners = self.listeners, []
        self.tasks = None
        self.unsuccessful.clear()
        for waker in listeners:
            waker.wake()
        return True
