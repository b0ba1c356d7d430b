"""Cleaning up after a cancel: a block in which durable operations are still recorded, until its own deadline."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

from dbos_events.engine.waking import LoopWaker, ThreadWaker

if TYPE_CHECKING:
    from dbos_events.engine.run import Run

CLEANUP = "~"
"""What the names of calls begin with that a run makes because it was cancelled.

A resumed run does not make them, or makes them anew when it is cancelled again, so a replay never looks for them.
"""


class Shield:
    """One block. It covers the branch that opened it and the tasks that were started in it."""

    __slots__ = ("_token", "cleans_up", "run", "until")

    def __init__(self, run: Run, milliseconds: int) -> None:
        self.run = run
        self.until = run.core.clock.now_ms() + milliseconds
        # A run that knows of its end goes another way than one that does not.
        self.cleans_up = run.noticed
        self._token: Token[Shield | None] | None = None

    @property
    def left_ms(self) -> int:
        return self.until - self.run.core.clock.now_ms()

    def open(self) -> None:
        self.run.shields += 1
        self._token = SHIELD.set(self)

    def close(self) -> None:
        if self._token is not None:
            token, self._token = self._token, None
            SHIELD.reset(token)

    def next_call(self) -> str:
        """The name of the next call of a clean-up: no other one of the workflow has it."""
        self.run.cleanups += 1
        return f"{CLEANUP}{self.run.take}.{self.run.cleanups}"


SHIELD: ContextVar[Shield | None] = ContextVar("dbos_events_shield", default=None)


def shield_over(run: Run) -> Shield | None:
    """The shield that the caller's branch of `run` is under, and whose time is not over."""
    shield = SHIELD.get()
    return shield if shield is not None and shield.run is run and shield.left_ms > 0 else None


def is_shielded(run: Run) -> bool:
    """Whether what the caller's branch of `run` writes is written also after a cancel."""
    return run.shields > 0 and shield_over(run) is not None


def may_write(run: Run) -> bool:
    """Whether what the caller's branch of `run` records now counts."""
    return not run.unwinding and (run.verdict is None or run.refusal() is None)


class Answered:
    """Effect: wait until each write of the run has its answer, whatever it is."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def block(self) -> None:
        waker = ThreadWaker()
        while self.run.wake_when_settled(waker):
            self.run.core.committer.before_blocking()
            waker.wait()
            waker = ThreadWaker()

    async def suspend(self) -> None:
        waker = LoopWaker(self.run.core.inbox())
        while self.run.wake_when_settled(waker):
            await waker.wait()
            waker = LoopWaker(self.run.core.inbox())
