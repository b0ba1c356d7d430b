"""How long a workflow may take, as the block around its start says it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from dbos_events.engine.shield import shield_over
from dbos_events.model.dataclass import dataclass

if TYPE_CHECKING:
    from dbos_events.engine.run import Engine, Run

DEADLINES = "deadlines"
"""Hub channel: something that is here has a deadline which may be the next."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """From start to end, and from enqueueing to the start.

    `inherits` says that a child gets its parent's deadline where that is the earlier one.
    """

    timeout_ms: int | None = None
    queue_timeout_ms: int | None = None
    inherits: bool = True


NO_TIME_LIMITS = TimeLimits()

NEXT_TIME_LIMITS: ContextVar[TimeLimits | None] = ContextVar("dbos_events_next_limits", default=None)
"""What the block around a start says; no run inherits it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one start, as its row holds them; times are milliseconds since 1970."""

    timeout_ms: int | None = None
    deadline: int | None = None
    start_by: int | None = None


UNBOUND = Bounds()


def bounds_of(
    core: Engine, limits: TimeLimits | None, parent: Run | None, *, queued: bool, delay_ms: int = 0
) -> Bounds:
    """The bounds of a workflow that is started now.

    One that waits on a queue gets the deadline of its timeout when it is claimed. Where it is delayed, the time to be
    claimed counts from the end of that.
    """
    inherited = None if parent is None else inherited_deadline(parent)
    if limits is None:
        return UNBOUND if inherited is None else Bounds(deadline=inherited)
    now = core.clock.now_ms()
    deadlines = [inherited] if inherited is not None and limits.inherits else []
    if limits.timeout_ms is not None and not queued:
        deadlines.append(now + limits.timeout_ms)
    start_by = None
    if queued and limits.queue_timeout_ms is not None:
        start_by = now + delay_ms + limits.queue_timeout_ms
    return Bounds(limits.timeout_ms, min(deadlines, default=None), start_by)


def inherited_deadline(parent: Run) -> int | None:
    """The deadline that a child has from its parent: in a shield that of the shield, for the parent's may have passed."""
    shield = shield_over(parent) if parent.shields else None
    return parent.deadline if shield is None else shield.until
