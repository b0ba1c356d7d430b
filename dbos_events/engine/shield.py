"""Cleaning up after a cancel: a block in which durable operations are still recorded, until its own deadline."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dbos_events.clock import Clock

CLEANUP = "~"
"""What the names of calls begin with that a run makes because it was cancelled.

A resumed run does not make them, or makes them anew when it is cancelled again, so a replay never looks for them.
"""


class _Timed(Protocol):
    @property
    def clock(self) -> Clock: ...


class Shielded(Protocol):
    """A run, as far as a shield covers it."""

    take: int
    cleanups: int
    noticed: bool
    shields: int
    unwinding: bool
    verdict: BaseException | None

    @property
    def core(self) -> _Timed: ...

    def refusal(self) -> BaseException | None:
        """What stopped the run, unless the caller is shielded from it."""
        ...


class Shield:
    """One block. It covers the branch that opened it and the tasks that were started in it."""

    __slots__ = ("_token", "cleans_up", "run", "until")

    def __init__(self, run: Shielded, milliseconds: int) -> None:
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


def shield_over(run: Shielded) -> Shield | None:
    """The shield that the caller's branch of `run` is under, and whose time is not over."""
    shield = SHIELD.get()
    return shield if shield is not None and shield.run is run and shield.left_ms > 0 else None


def is_shielded(run: Shielded) -> bool:
    """Whether what the caller's branch of `run` writes is written also after a cancel."""
    return run.shields > 0 and shield_over(run) is not None


def may_write(run: Shielded) -> bool:
    """Whether what the caller's branch of `run` records now counts."""
    return not run.unwinding and (run.verdict is None or run.refusal() is None)
