"""The circuit breaker's logic: when to open, what a trial has shown, how long to pause."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from dbos_events.model.consumer import Trial
from dbos_events.model.event import Breaker
from dbos_events.model.workflow import EXPIRED, FINISHED, SUCCESS

MOST_RECENT = 1000
"""So many attempts count as recent at most, whatever the window's length: memory is bounded."""

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
        self._attempts: deque[tuple[float, str | None]] = deque()
        self._failing: dict[str, tuple[float, str | None]] = {}
        self._outdated = 0
        self._row: set[str] = set()

    def ended(self, workflow_id: str, *, failed: bool) -> str | None:
        """Count one attempt of an event; gives why the breaker should open, None when it should not."""
        with self._lock:
            now = self._now()
            if self._failing and self._failing.pop(workflow_id, None) is not None:
                self._outdated += 1  # what was said of this event before does not count any more
            attempt = (now, workflow_id if failed else None)
            self._attempts.append(attempt)
            if len(self._attempts) > MOST_RECENT:
                self._forget_oldest()
            if not failed:
                if self._row:
                    self._row.clear()
                return None
            self._failing[workflow_id] = attempt
            while self._attempts[0][0] < now - self._options.window_seconds:
                self._forget_oldest()
            return self._reason(workflow_id)

    def clear(self) -> None:
        """Begin anew: what was before says nothing about what comes."""
        with self._lock:
            self._attempts.clear()
            self._failing.clear()
            self._row.clear()
            self._outdated = 0

    def _forget_oldest(self) -> None:
        attempt = self._attempts.popleft()
        workflow_id = attempt[1]
        if workflow_id is None:
            return
        if self._failing.get(workflow_id) is attempt:
            del self._failing[workflow_id]
        else:
            self._outdated -= 1

    def _reason(self, workflow_id: str) -> str | None:
        options = self._options
        limit = options.consecutive_failures
        if limit is not None and len(self._row) < limit:
            self._row.add(workflow_id)
        if limit is not None and len(self._row) >= limit:
            return f"{limit} events failed one after the other"
        recent, failing = len(self._attempts) - self._outdated, len(self._failing)
        if recent >= options.min_events and failing >= options.failure_share * recent:
            return f"{failing} of the last {recent} events failed"
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
    if trial.status == EXPIRED:  # its handler was not called
        return "unsettled"
    if trial.status in FINISHED or trial.attempt > 0:
        return "failed"
    if trial.owned:
        return "running"
    return "passed" if trial.waits else "unsettled"
