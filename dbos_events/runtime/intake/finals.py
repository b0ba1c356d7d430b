"""Log lines for events that have failed for good: each with all that is known of it, so many at most, the rest counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from dbos_events.engine.failures import reason_of
from dbos_events.engine.run import Run
from dbos_events.model.naming import parts_of_event_id
from dbos_events.serialization.raised import text_of
from dbos_events.telemetry.log import logger, redact

LINES = 10
"""So many of one consumer's failures are logged in full within a window; those after them are counted."""
WINDOW_SECONDS = 10.0
MESSAGE_LIMIT = 1_000
"""So much of an error's text goes into its line; all of it stands in the database."""


class FinalFailure(NamedTuple):
    """An event that will not be tried again. What is not known of it is None."""

    consumer: str
    topic: str | None
    partition: int | None
    offset: int | None
    workflow_id: str
    reason: str
    quarantined: bool
    error: BaseException


def final_failure(consumer: str, run: Run, error: BaseException) -> FinalFailure:
    """What is told of an event whose run has ended with this error."""
    parts = parts_of_event_id(run.id)
    return FinalFailure(
        consumer,
        None if parts is None else parts["topic"],
        None if parts is None else parts["partition"],
        None if parts is None else parts["offset"],
        run.id,
        reason_of(run, error) if isinstance(error, Exception) else "handler-failed",
        run.origin is not None and run.origin.quarantines,
        error,
    )


class FinalFailures:
    """Logs each final failure at ERROR, bounded by rate for each consumer.

    Any thread may tell. `look` is called now and then, to say how many were only counted.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    def tell(self, failure: FinalFailure) -> None:
        """An event has failed for good."""
        with self._lock:
            now = self._now()
            window = self._windows.get(failure.consumer)
            if window is None or now >= window.end:
                if window is not None:
                    _say_rest(failure.consumer, window)
                window = self._windows[failure.consumer] = _Window(now + WINDOW_SECONDS)
            window.said += 1
            if window.said > LINES:
                window.unsaid[failure.reason] += 1
                return
        _say(failure)

    def look(self, *, at_end: bool = False) -> None:
        """Say how many were only counted in windows that are over; `at_end`, in all."""
        if not self._windows:
            return
        with self._lock:
            now = self._now()
            for consumer in [name for name, one in self._windows.items() if at_end or now >= one.end]:
                _say_rest(consumer, self._windows.pop(consumer))


class _Window:
    def __init__(self, end: float) -> None:
        self.end = end
        self.said = 0
        self.unsaid: Counter[str] = Counter()


def _say(failure: FinalFailure) -> None:
    name, text = type(failure.error).__name__, redact(text_of(failure.error))[:MESSAGE_LIMIT]
    where = (
        ""
        if failure.topic is None
        else f"{failure.topic}, partition {failure.partition}, offset {failure.offset}, "
    )
    logger.error(
        "%s: an event has failed for good (%s)%s: %s%s: %s: %s",
        failure.consumer,
        failure.reason,
        " and is in quarantine" if failure.quarantined else "",
        where,
        failure.workflow_id,
        name,
        text.partition("\n")[0],
        extra={
            "consumer": failure.consumer,
            "topic": failure.topic,
            "partition": failure.partition,
            "offset": failure.offset,
            "workflow_id": failure.workflow_id,
            "reason": failure.reason,
            "quarantined": failure.quarantined,
            "error_type": name,
            "error": text,
        },
    )


def _say_rest(consumer: str, window: _Window) -> None:
    count = window.unsaid.total()
    if not count:
        return
    reasons = ", ".join(f"{reason} {number}" for reason, number in window.unsaid.most_common())
    logger.error(
        "%s: %d more events have failed for good within %g s (%s). `dbos-events quarantine list` has those in quarantine.",
        consumer,
        count,
        WINDOW_SECONDS,
        reasons,
        extra={"consumer": consumer, "count": count, "reasons": dict(window.unsaid)},
    )
