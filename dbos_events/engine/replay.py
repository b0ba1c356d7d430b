"""Replay: what a workflow's history holds, and handing it out in the recorded order.

A call is found by its name within the run (branch and position), so concurrent branches
cannot swap results. Values are handed out in the order in which the calls completed in the
first run, each only after the run has gone quiet, so a race has the same winner again. The
experiments behind both choices stand in docs/replay.md.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from dbos_events.engine.keys import arguments_in
from dbos_events.engine.shield import CLEANUP
from dbos_events.engine.waking import ENGINE
from dbos_events.errors import DBOSUnexpectedStepError
from dbos_events.storage.writes import CANCELLED_CALL, Checkpoint

QUIET_TURNS = 10
"""Loop turns without a durable call after which the run counts as quiet: a result passes
through a task, a gather and its awaiter in four."""

STALL_SECONDS = 1.0
"""How long a recorded result waits for an earlier one whose caller does not come."""


NOTE = "~"
"""Ends the name of what is noted beside a call while it is under way; nobody waits for the turn of a note."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class _Versioned(Protocol):
    @property
    def version(self) -> str: ...


class Replayed(Protocol):
    """Whose history it is: what an error says of a run that has made another call."""

    @property
    def id(self) -> str: ...

    @property
    def function(self) -> _Named: ...

    @property
    def core(self) -> _Versioned: ...


class History:
    """The checkpoints of one workflow, as its latest run may use them.

    `diverged` tells by generation from which completion on the next one may differ, since a call before it
    was done anew. What was recorded in that generation or earlier, and completed later, need not fit any more.
    """

    def __init__(self, checkpoints: Iterable[Checkpoint], diverged: Mapping[int, int] | None = None) -> None:
        self.steps = sorted(checkpoints, key=lambda entry: entry.step)
        self.by_call: dict[str, Checkpoint] = {}
        for entry in sorted(self.steps, key=lambda entry: entry.completion_order):
            self.by_call[entry.call] = entry  # the later one was recorded in place of one that did not fit
        self.numbers = frozenset(entry.step for entry in self.steps)
        self.last_order = max((entry.completion_order for entry in self.steps), default=0)
        self.turns = Turns(
            entry.completion_order
            for entry in self.by_call.values()
            if entry.codec != CANCELLED_CALL
            and not entry.call.endswith(NOTE)
            and not entry.call.startswith(CLEANUP)
        )
        self._diverged = diverged or {}
        self.dropped: list[Checkpoint] = []
        """What was recorded and is done anew, since it does not fit what the calls before it give now."""

    def take_dropped(self, *names: str) -> list[int]:
        """The steps of these names that are done anew; told once."""
        taken = [one for one in self.dropped if one.name in names]
        self.dropped = [one for one in self.dropped if one.name not in names]
        return [one.step for one in taken]

    def find(self, run: Replayed, call: str, name: str, arguments: str | None) -> Checkpoint | None:
        """The recorded outcome of this call, or None when it has none that may still be used.

        Raises:
            DBOSUnexpectedStepError: The history holds another step, or other arguments, at this
                place; the message shows both histories.
        """
        entry = self.by_call.get(call)
        if entry is None:
            return None
        known = arguments_in(entry.arguments)
        same_arguments = arguments is None or known is None or known == arguments
        if entry.name != name or not same_arguments:
            if self._may_differ(entry):
                del self.by_call[call]
                self.dropped.append(entry)
                self.turns.pass_by(entry.completion_order)
                return None
            raise self._mismatch(run, entry, name, same_name=entry.name == name)
        return entry

    def _may_differ(self, entry: Checkpoint) -> bool:
        """Whether something that completed before `entry` was done anew since it was recorded."""
        if entry.recorded_in is None:
            return False
        since = [order for generation, order in self._diverged.items() if generation >= entry.recorded_in]
        return min(since, default=entry.completion_order) < entry.completion_order

    def _mismatch(
        self, run: Replayed, entry: Checkpoint, name: str, *, same_name: bool
    ) -> DBOSUnexpectedStepError:
        asked = f"{name} with other arguments" if same_name else name
        recorded = "\n".join(f"  {step.call}: {step.name}" for step in self.steps)
        replayed = "\n".join(
            f"  {step.call}: {step.name}" for step in sorted(self.steps, key=lambda s: s.completion_order)
            if step.completion_order < entry.completion_order
        )  # fmt: skip
        other = entry.version is not None and entry.version != run.core.version
        cause = (
            f"The history was written by application version {entry.version}, this process runs "
            f"{run.core.version}: keep a process of the old version until its workflows have ended, or start this one anew."
            if other
            else "A workflow must make the same calls with the same arguments each time it runs: put "
            "whatever may differ (time, random numbers, requests) into a step."
        )
        return DBOSUnexpectedStepError(
            run.id,
            f"Workflow {run.id} ({run.function.name}) is not deterministic: call {entry.call} was "
            f"{entry.name!r} and is now {asked!r}.\nRecorded history:\n{recorded}\n"
            f"This run:\n{replayed}\n  {entry.call}: {asked}\n{cause}",
            version_mismatch=other,
        )


class Turns:
    """Whose turn it is when several branches of a run are replayed at once.

    A run with one branch takes every result at once. Belongs to one event loop.
    """

    def __init__(self, orders: Iterable[int]) -> None:
        self._remaining = set(orders)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._fresh: list[asyncio.Future[None]] = []
        self._quiet_for = 0
        self._ticking = False
        self._stall: asyncio.TimerHandle | None = None
        self._owed: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def pass_by(self, order: int) -> None:
        """Note that this result was handed out without waiting."""
        self._remaining.discard(order)

    async def recorded(self, order: int, may_go_on: Callable[[], bool]) -> None:
        """Return when it is this recorded call's turn to complete, as it did in the first run.

        A cancellation that comes meanwhile, as by a timeout for which the replay is too slow, is owed to the task's
        next call that was cancelled, or was not made.
        """
        try:
            while True:
                self._waiting[order] = future = asyncio.get_running_loop().create_future()
                try:
                    await self._queue(future)
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if task is None or not may_go_on():
                        raise
                    self._owed.add(task)
                else:
                    return
        finally:
            self._waiting.pop(order, None)
            self._remaining.discard(order)

    def pay(self) -> None:
        """Raise the cancellation that is owed to the running task, unless the block that it came from is over."""
        task = asyncio.current_task() if self._owed else None
        if task is not None and task in self._owed:
            self._owed.discard(task)
            if task.cancelling():
                raise asyncio.CancelledError

    async def fresh(self) -> None:
        """Return when all recorded results that can be handed out have been."""
        if not self._remaining:
            return
        future = asyncio.get_running_loop().create_future()
        self._fresh.append(future)
        try:
            await self._queue(future)
        finally:
            if future in self._fresh:
                self._fresh.remove(future)

    async def _queue(self, future: asyncio.Future[None]) -> None:
        self._quiet_for = 0
        if not self._ticking:
            self._ticking = True
            future.get_loop().call_soon(self._tick, future.get_loop())
        await future

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._quiet_for += 1
        if self._quiet_for < QUIET_TURNS:
            loop.call_soon(self._tick, loop)
            return
        self._quiet_for = 0
        if self._release_next():
            loop.call_soon(self._tick, loop)
            return
        self._ticking = False
        if self._waiting and self._stall is None:
            self._stall = loop.call_later(STALL_SECONDS, self._release_stalled, context=ENGINE)

    def _release_next(self) -> bool:
        following = min(self._remaining, default=None)
        if following is not None and following in self._waiting:
            self._remaining.discard(following)
            _resolve(self._waiting[following])
            return True
        if self._fresh:
            _resolve(self._fresh.pop(0))
            return True
        return False

    def _release_stalled(self) -> None:
        self._stall = None
        if self._waiting:
            order = min(self._waiting)
            self._remaining.discard(order)
            _resolve(self._waiting[order])


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
