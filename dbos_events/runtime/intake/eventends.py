"""How the events of this process's consumers end: counted for their breakers, and told where an end is final."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from dbos_events.engine.core import Core
from dbos_events.engine.run import Run
from dbos_events.errors import DBOSWorkflowExpiredError
from dbos_events.model.event import Breaker
from dbos_events.runtime.intake.breaker import RecentEvents
from dbos_events.runtime.intake.finals import FinalFailures, final_failure
from dbos_events.runtime.intake.gate import Gate


class Standstill(NamedTuple):
    """Why a consumer takes nothing in: `wanted` by an operator, or its breaker, which is open (`opened`) or tried.

    Only an open breaker makes a process unready: one that is tried waits for the next event, however long that takes.
    """

    text: str
    wanted: bool
    opened: bool = False


class StandingOptions(Protocol):
    """What the options of a consumer say about standing still."""

    @property
    def name(self) -> str | None: ...

    @property
    def breaker(self) -> Breaker | None: ...


class Watched:
    """One consumer of this process."""

    def __init__(self, number: int, options: StandingOptions, gate: Gate, left: str, core: Core) -> None:
        self.number = number
        self.left = left
        self.name = options.name or ""
        self.gate = gate
        self.breaker = options.breaker
        self.recent = RecentEvents(options.breaker, core.clock.monotonic) if options.breaker else None
        self.tripped: str | None = None
        self.trial: str | None = None
        self.redriven = False
        self.epoch: int | None = None
        self.standstill: Standstill | None = None

    def ended(self, run: Run) -> bool:
        """Count how an event's run has left; True when the service should look."""
        ending = run.ending
        if self.recent is None or ending is None or ending.kind in ("parked", "lost"):
            return run.id == self.trial
        error = ending.error
        if error is not None and isinstance(error, DBOSWorkflowExpiredError):  # its handler was not called
            return run.id == self.trial
        if error is None and run.generation > 0 and run.attempt == 0 and self.standstill is not None:
            self.redriven = True
            return True
        reason = self.recent.ended(run.id, failed=error is not None)
        if reason is not None and self.tripped is None:
            self.tripped = reason
            return True
        return run.id == self.trial


class EventEnds:
    """Told of each run of an event that leaves this process.

    Args:
        on_change: Called when something is to be decided about a consumer; quick, and never fails.
    """

    def __init__(self, on_change: Callable[[], object]) -> None:
        self._on_change = on_change
        self.watched: dict[int, Watched] = {}
        """By the consumer's number."""
        self.finals = FinalFailures()

    def ended(self, run: Run) -> None:
        """A run of an event has left this process; quick, since it is called by the committer."""
        if run.origin is None:
            return
        watched = self.watched.get(run.origin.consumer)
        ending = run.ending
        if ending is not None and ending.error is None:
            if watched is not None and watched.ended(run):
                self._on_change()
            return
        error = ending.error if ending is not None and ending.kind == "ended" else None
        if error is not None and not isinstance(
            error, DBOSWorkflowExpiredError
        ):  # that is counted, and no failure
            self.finals.tell(
                final_failure(run.function.name if watched is None else watched.name, run, error)
            )
        if watched is not None and watched.ended(run):
            self._on_change()
