"""The event loops that runs live on: which one a run gets, and what becomes of it when its loop ends.

What is called or started on a running loop stays there. Everything else (recovered, woken, queued, consumed) runs on
the launch's loop, or, while that one does not run, on a loop of our own. Nothing here keeps a loop alive: each is
referred to weakly, and what belongs to it goes with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dbos_events.engine.run import Engine, Run, Runs
from dbos_events.engine.tasks import know_runs
from dbos_events.engine.waking import LoopInbox, running_loop
from dbos_events.telemetry.log import Recurring

if TYPE_CHECKING:
    from dbos_events.engine.loopcommitter import LoopCommitter

RunToBegin: TypeAlias = "tuple[Run, Coroutine[Any, Any, object] | None, contextvars.Context | None]"
"""A run to be begun on a loop; with what is left of it where a thread has begun it, and the context that it begins with."""

STANDS_STILL = 5.0
"""Seconds after which runs are taken from a loop that does not run; it may be run again, as in a program that calls
`run_until_complete` for each request."""

OTHER_LINES = 4
"""Loops besides the launch's that commit by themselves at one time; each needs a connection."""


class Home:
    """One loop that waits, or runs, of this engine are on."""

    __slots__ = ("__weakref__", "_loop", "committer", "inbox", "ours", "starting", "still_since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self.ours = False
        """Whether its thread is ours, and runs it again when something has stopped it."""
        self.inbox = LoopInbox(loop)
        self.committer: LoopCommitter | None = None
        self.starting: deque[RunToBegin] = deque()
        self.still_since: float | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop; None when nobody has it any more."""
        return self._loop()

    @property
    def runs(self) -> bool:
        """Whether the loop runs now, or will at once."""
        loop = self._loop()
        return loop is not None and (loop.is_running() or (self.ours and not loop.is_closed()))

    @property
    def ended(self) -> bool:
        loop = self._loop()
        return loop is None or loop.is_closed()


class Begins(Runs, Protocol):
    """The runs of this process, which can be begun on a loop."""

    def begin(self, home: Home, begins: Sequence[RunToBegin]) -> None:
        """Start runs on a loop."""
        ...


class Hosted(Engine, Protocol):
    """The engine whose loops these are."""

    @property
    def runner(self) -> Begins: ...


class Homes:
    """All loops of one engine.

    Args:
        core: The engine.
        new_committer: Makes the committer of a loop; told whether it is the launch's.
        open_spare: Starts a loop of our own, for when the launch's does not run; None where nothing runs.
    """

    def __init__(
        self,
        core: Hosted,
        new_committer: Callable[[asyncio.AbstractEventLoop, bool], LoopCommitter],
        open_spare: Callable[[], asyncio.AbstractEventLoop] | None,
    ) -> None:
        self._core = core
        self._new_committer = new_committer
        self._open_spare = open_spare
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._known: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Home] = weakref.WeakKeyDictionary()
        self._launch: Home | None = None
        self._spare: Home | None = None
        self._trouble = Recurring()

    # -- which loop ---------------------------------------------------------------------------

    def use(self, loop: asyncio.AbstractEventLoop, *, ours: bool) -> None:
        """Make `loop` the launch's; `ours` where a thread of ours runs it."""
        self._launch = self._with_runs(loop, is_launch=True)
        self._launch.ours = ours
        self._core.committer.near = self._launch.committer

    def of(self, loop: asyncio.AbstractEventLoop) -> Home:
        """The home on `loop`."""
        home = self._known.get(loop)
        if home is None:
            with self._lock:
                home = self._known.setdefault(loop, Home(loop))
        return home

    def here(self) -> Home | None:
        """The running loop's home, for runs; None where no loop runs."""
        loop = running_loop()
        return None if loop is None else self._with_runs(loop)

    @property
    def in_use(self) -> asyncio.AbstractEventLoop | None:
        """The loop of what no running loop has asked for; None while none runs, since that opens one when it comes."""
        for home in (self._launch, self._spare):
            if home is not None and home.runs:
                return home.loop
        return None

    @property
    def default(self) -> Home:
        """Where everything runs that no running loop has asked for."""
        home = self._launch
        assert home is not None, "the engine is not started"  # noqa: S101
        if home.runs or self._open_spare is None or self._core.stopped.is_set():
            return home
        return self._spare_home(self._open_spare)

    def _spare_home(self, open_spare: Callable[[], asyncio.AbstractEventLoop]) -> Home:
        with self._opening:
            spare = self._spare
            if spare is None or spare.ended:
                self._trouble.say(
                    "The event loop that DBOS was launched on does not run. Async workflows that are recovered, queued or "
                    "consumed run on a loop of our own meanwhile. Launch on a loop that lives as long as the process, or "
                    "before there is one."
                )
                spare = self._spare = self._with_runs(open_spare())
                spare.ours = True
            return spare

    def _with_runs(self, loop: asyncio.AbstractEventLoop, *, is_launch: bool = False) -> Home:
        """The home on `loop`, ready for runs."""
        home = self.of(loop)
        know_runs(loop)
        if home.committer is None:
            self._give_committer(home, loop, is_launch=is_launch)
        return home

    def _give_committer(self, home: Home, loop: asyncio.AbstractEventLoop, *, is_launch: bool) -> None:
        committer = self._core.committer
        with self._lock:
            if home.committer is None and (is_launch or len(committer.others) < OTHER_LINES):
                home.committer = self._new_committer(loop, is_launch)
                if not is_launch:
                    committer.add_loop(home.committer)

    # -- loops that ended ---------------------------------------------------------------------

    def look(self) -> None:
        """Let go of loops that have ended; what ran there goes on elsewhere. Called now and then, on any thread."""
        self._drop_ended()
        left: list[Run] = []
        waiting: list[RunToBegin] = []
        for home in self._standing():
            waiting += _all_of(home.starting)
            left += self._runs_on(home)
        left += [run for run in self._on_any_loop() if run.tasks is not None and run.tasks.is_left]
        if left or waiting:
            self._trouble.say(
                "%d workflows were on an event loop that ended, or stands still for more than %.0f s; they go on from "
                "their history on another one. Workflows that an event loop starts run on it: let it live until they "
                "have ended, or start them from a thread without a loop.",
                len(left) + len(waiting),
                STANDS_STILL,
            )
        for run in left:
            self._core.runner.give_back(run)
        if waiting:
            self._core.runner.begin(self.default, waiting)

    def _drop_ended(self) -> None:
        with self._lock:
            for near in self._core.committer.others:
                if near.is_over:
                    self._core.committer.drop_loop(near)

    def _standing(self) -> Iterator[Home]:
        """Loops that have ended, or have not run for a while, and hold something."""
        now, patience = time.monotonic(), 0.0 if self._core.clock.manual else STANDS_STILL
        with self._lock:
            homes = tuple(self._known.values())
        for home in homes:
            if home.runs:
                home.still_since = None
            elif home.ended:
                yield home
            else:
                home.still_since = home.still_since or now
                if now - home.still_since >= patience:
                    yield home

    def _on_any_loop(self) -> list[Run]:
        active = tuple(self._core.runner.active.values())
        return [run for run in active if run.tasks is not None and run.proposed is None]

    def _runs_on(self, home: Home) -> list[Run]:
        loop = home.loop
        runs = [(run, run.tasks) for run in self._on_any_loop()]
        return [run for run, tasks in runs if tasks is not None and tasks.main.get_loop() is loop]


def _all_of(starting: deque[RunToBegin]) -> Iterator[RunToBegin]:
    """Take what waits for its start; also while the loop, should it run again, takes it."""
    while starting:
        try:
            yield starting.popleft()
        except IndexError:
            return
