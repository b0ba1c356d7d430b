"""The circuit breaker's logic: when to open, what a trial has shown, how long to pause."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from dbos_events.model.event import Breaker
from dbos_events.model.workflow import FINISHED, SUCCESS
from dbos_events.storage.standing import Trial

MOST_RECENT = 1000
"""So many events count as recent at most, whatever the window's length: memory is bounded."""

Verdict = Literal["passed", "failed", "running", "unsettled"]


class RecentEvents:
    """How the events that ended here of late have ended, each by its last attempt.

    An event that is tried again and again counts once, so a poison event among good ones is one failure.
    May be told by any thread.
    """

    def __init__(self, options: Breaker, now: Callable[[], float]) -> None:
        self._options = options
        self._now = now
        self._lock = threading.Lock()
        self._ended: dict[str, tuple[float, bool]] = {}
        self._failed = 0
        self._row: set[str] = set()

    def ended(self, workflow_id: str, *, failed: bool) -> str | None:
        """Count one attempt of an event; gives why the breaker should open, None when it should not."""
        with self._lock:
            now = self._now()
            if workflow_id in self._ended:
                self._forget(workflow_id)
            self._ended[workflow_id] = (now, failed)
            self._failed += failed
            self._expire(now)
            if failed:
                self._row.add(workflow_id)
                return self._reason()
            self._row.clear()
            return None

    def clear(self) -> None:
        """Begin anew: what was before says nothing about what comes."""
        with self._lock:
            self._ended.clear()
            self._row.clear()
            self._failed = 0

    def _forget(self, workflow_id: str) -> None:
        _, failed = self._ended.pop(workflow_id)
        self._failed -= failed

    def _expire(self, now: float) -> None:
        oldest = now - self._options.window_seconds
        while True:
            first = next(iter(self._ended))
            if self._ended[first][0] >= oldest and len(self._ended) <= MOST_RECENT:
                return
            self._forget(first)

    def _reason(self) -> str | None:
        options = self._options
        limit = options.consecutive_failures
        if limit is not None and len(self._row) >= limit:
            return f"{len(self._row)} events failed one after the other"
        recent = len(self._ended)
        if recent >= options.min_events and self._failed >= options.failure_share * recent:
            return f"{self._failed} of the last {recent} events failed"
        return None


def pause_ms(options: Breaker, openings: int) -> int:
    """How long a breaker stays open that was opened `openings` times before without closing."""
    seconds = options.open_seconds
    for _ in range(openings):
        if seconds >= options.max_open_seconds:
            break
        seconds *= 2
    return round(min(seconds, options.max_open_seconds) * 1000)


def verdict_on(trial: Trial) -> Verdict:
    """What the trial's workflow shows.

    One that waits for long has got that far without failing, and passes; one whose first attempt failed
    has failed, whatever its retries will do. `unsettled` is one that nobody runs: it waits for its turn.
    """
    if trial.status == SUCCESS:
        return "passed"
    if trial.status in FINISHED or trial.attempt > 0:
        return "failed"
    if trial.owned:
        return "running"
    return "passed" if trial.waits else "unsettled"
