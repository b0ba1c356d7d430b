"""What the engine's parts share: one object per launched App."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dbos_events.clock import Clock, elapsed
from dbos_events.engine.committer import Committer
from dbos_events.engine.homes import Homes
from dbos_events.engine.loopcommitter import LoopCommitter
from dbos_events.engine.loopline import OPEN_AGAIN
from dbos_events.engine.mailboxes import Mailboxes
from dbos_events.engine.numbers import Numbers
from dbos_events.engine.pool import Pool
from dbos_events.engine.readers import Readers
from dbos_events.engine.run import Run
from dbos_events.engine.runner import Runner
from dbos_events.engine.runvalues import Ending
from dbos_events.engine.takings import OpenTakings
from dbos_events.errors import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    DBOSException,
    DBOSWorkflowExpiredError,
    SerializationError,
    StorageUnavailable,
)
from dbos_events.model.event import HeldQuotas
from dbos_events.model.workflow import (
    CANCELLED,
    CANCELLED_SIGNAL,
    EXPIRED,
    FINISHED,
    MAX_RECOVERY_ATTEMPTS_EXCEEDED,
)
from dbos_events.serialization import with_stored_traceback
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.telemetry.log import Recurring
from dbos_events.telemetry.outages import Outages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbos_events.engine.registry import Registered, Registry
    from dbos_events.engine.waking import Hub, LoopInbox
    from dbos_events.model.event import Retry
    from dbos_events.serialization import Codecs
    from dbos_events.storage.protocol import Storage
    from dbos_events.storage.writes import Result, Write

R = TypeVar("R")
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 2.0
"""Seconds before a question is asked again: at first, and in the end."""


class Terms(NamedTuple):
    """For whom an engine works, and within which bounds.

    `park_after` are the seconds after which a wait gives its place up for a row. `quotas` says how many events may wait
    behind others of their lane before intake waits. `waits_for_version` says that started work of a version that no
    live process has is left waiting instead of replayed.
    """

    application: str
    version: str
    threads: int
    park_after: float
    quotas: HeldQuotas = HeldQuotas()
    waits_for_version: bool = False


class Listeners(NamedTuple):
    """Who is told of what happens in an engine. All are quick, and never fail.

    `fenced`: this process turns out to be dead for the others. `announce`: something changed on a channel, which other
    processes may wait for. `event_ended`: a run of an event leaves this process, however it came here.
    """

    fenced: Callable[[], object]
    announce: Callable[[str], object]
    event_ended: Callable[[Run], object] = lambda _run: None


class Driving(NamedTuple):
    """What a test moves instead of the machine.

    `stepper` does what is due next, for a caller who waits on these channels; None: it happens by itself. `chance` is
    where jitter comes from: 0 to 1.
    """

    stepper: Callable[[Sequence[str]], object] | None = None
    chance: Callable[[], float] = random.random


BY_ITSELF = Driving()


class Core:
    """The engine of one App in this process.

    Args:
        hub: Wakes those who wait in this process.
        open_loop: Starts a loop of our own, for when the launch's does not run; None where nothing runs here.
    """

    registrations = 0
    """How often this process has registered; numbers of executors come again in a database that was restored."""

    def __init__(  # noqa: PLR0913 - what the composition root has to say
        self,
        *,
        storage: Storage,
        registry: Registry,
        codecs: Codecs,
        clock: Clock,
        hub: Hub,
        terms: Terms,
        listeners: Listeners,
        driving: Driving = BY_ITSELF,
        open_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self.storage = storage
        self.registry = registry
        self.codecs = codecs
        self.clock = clock
        self.hub = hub
        self.application, self.version = terms.application, terms.version
        self.park_after, self.quotas = terms.park_after, terms.quotas
        self.waits_for_version = terms.waits_for_version
        self.announce, self.event_ended = listeners.announce, listeners.event_ended
        self.stepper, self.chance = driving.stepper, driving.chance
        self.stopped = threading.Event()
        self.pool = Pool(terms.threads)
        self.readers = Readers(4)
        self.mailboxes = Mailboxes()
        self.outages = Outages()
        self.runner = Runner(self)
        self.committer = Committer(
            self._write_batch, listeners.fenced, self.runner.start_following, self.outages
        )
        self.homes = Homes(self, self._new_loop_committer, open_loop)
        self._numbers = Numbers()
        self._outage = Recurring()
        # What follows changes while the engine runs.
        self.executor = 0
        """This process start's number in the database, once it is registered."""
        self.lease_end: float | None = None
        """Until when, by `elapsed`, nobody can have declared this process dead; None: no end."""
        self.retries: dict[int, Retry | None] = {}
        """By the consumer's number: how often its handler is run again."""
        self.starts = OpenTakings()
        """Those of callers, as long as they are under way."""

    def use_loop(self, loop: asyncio.AbstractEventLoop, *, ours: bool) -> None:
        """Run async workflows on `loop`, unless another running loop starts them; `ours` where our thread runs it."""
        self.homes.use(loop, ours=ours)

    def _new_loop_committer(self, loop: asyncio.AbstractEventLoop, is_launch: bool) -> LoopCommitter:
        return LoopCommitter(
            loop,
            self.committer,
            self.readers,
            open_line=self.storage.open_line,
            send=lambda line, writes: self.storage.send_batch(line, self.executor, writes),
            after_batch=self.runner.start_following,
            open_after=0.0 if is_launch else OPEN_AGAIN,
        )

    @property
    def loop_inbox(self) -> LoopInbox:
        """The inbox of the loop that runs what no other loop has started."""
        return self.homes.default.inbox

    def inbox(self) -> LoopInbox:
        """The inbox of the running loop."""
        return self.homes.of(asyncio.get_running_loop()).inbox

    @property
    def holds_lease(self) -> bool:
        """Whether this process may start work: it renewed its lease in time."""
        return self.lease_end is None or elapsed() < self.lease_end

    def next_write_id(self) -> int:
        """A number that this executor never uses twice."""
        return next(self._numbers.of_writes)

    def next_start_id(self) -> int:
        """A number that no start, and no message, of any process has; those of one process grow.

        A UUID would be read from the system, for which a thread gives Python's lock away, and waits for it again.
        """
        return next(self._numbers.of_starts)

    def new_run(
        self,
        workflow_id: str,
        function: Registered,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        **more: Any,
    ) -> Run:
        """The first run of a workflow that this process has just inserted."""
        return Run(self, workflow_id, function, args, kwargs, **more)

    def ask(self, work: Callable[[], R], patience: float | None = None) -> R:
        """Give what `work` gives; again with back-off while the database gives no answer that is about it.

        Raises:
            StorageUnavailable: It has given none for `patience` seconds.
        """
        try:
            return work()
        except StorageUnavailable as error:
            return self._ask_again(work, error, None if patience is None else time.monotonic() + patience)

    def _ask_again(self, work: Callable[[], R], error: StorageUnavailable, until: float | None) -> R:
        pause = FIRST_PAUSE
        asked = object()
        try:
            while True:
                if error.away:
                    self.outages.away(asked, error)
                else:
                    self._outage.say("What needs an answer of the database waits: %s", error)
                self.outages.waits(asked, "what needs an answer of the database waits", error)
                if self.stopped.wait(pause):
                    self.refuse_when_stopped()
                pause = min(pause * 2, LONGEST_PAUSE)
                try:
                    answer = work()
                except StorageUnavailable as again:
                    if until is not None and time.monotonic() > until:
                        raise
                    error = again
                else:
                    self.outages.back(asked)
                    return answer
        finally:
            self.outages.over(asked)
            self.outages.forget(asked)

    def signal(self, channel: str) -> None:
        """Wake who waits on `channel`, here and in other processes."""
        self.hub.signal(channel)
        self.announce(channel)

    def tell_cancelled(self, workflow_ids: Sequence[str]) -> None:
        """These were cancelled: stop those that run here, and tell the other processes and whoever waits for them."""
        for workflow_id in workflow_ids:
            run = self.runner.active.get(workflow_id)
            if run is not None and run.proposed is None:
                run.stop(run.cancellation())
            self.signal(f"workflow:{workflow_id}")
        if workflow_ids:
            self.announce(CANCELLED_SIGNAL)
            self.signal("timers")

    def refuse_when_stopped(self) -> None:
        if self.stopped.is_set():
            raise DBOSException(
                "DBOS is shutting down; workflows go on when a process of the application runs."
            )

    def stored_ending(self, workflow_id: str) -> Ending | None:
        """How a workflow has ended by the database; None while it has not."""
        stored = self.storage.workflows.read_ending(workflow_id)
        if stored is None or stored.status not in FINISHED:
            return None
        if stored.status == CANCELLED:
            return Ending("ended", error=DBOSAwaitedWorkflowCancelledError(workflow_id))
        if stored.status == MAX_RECOVERY_ATTEMPTS_EXCEEDED:
            return Ending("ended", error=DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded(workflow_id))
        if stored.status == EXPIRED:
            return Ending("ended", error=DBOSWorkflowExpiredError(workflow_id))
        try:
            codec = self.codecs.get(stored.codec or "json")
            if stored.error is not None:
                return Ending(
                    "ended", error=with_stored_traceback(codec.decode_error(stored.error), stored.error)
                )
            return Ending("ended", value=None if stored.output is None else codec.decode(stored.output))
        except BaseException as why:
            if is_interrupt(why):
                raise
            raise SerializationError(
                f"The stored result of workflow {workflow_id} cannot be read: {text_of(why)}"
            ) from why

    def _write_batch(self, writes: Sequence[Write]) -> Sequence[Result]:
        return self.storage.write_batch(self.executor, writes)
