"""What fails of several things that are done in turn, so that it keeps the others from nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dbos_events.errors import DBOSException, ExecutorFenced
from dbos_events.serialization.raised import text_of

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0


@contextmanager
def noted(errors: list[DBOSException]) -> Iterator[None]:
    """Go on after what the block raises, and keep it; that this process was declared dead goes through."""
    try:
        yield
    except ExecutorFenced:
        raise
    except DBOSException as error:
        errors.append(error)


class Failing:
    """Remembers by name what failed: it comes after the others, and after a second failure less and less often."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._reasons: dict[str, str] = {}

    @property
    def problems(self) -> list[tuple[str, str]]:
        """The names of what failed more than once in a row, with the last reason; for any thread."""
        return [(name, why) for name, why in tuple(self._reasons.items()) if self._times.get(name, 0) > 1]

    def in_order(self, names: Sequence[str]) -> list[str]:
        """What is to be tried now, what failed last."""
        now = time.monotonic()
        due = [name for name in names if self._not_before.get(name, 0.0) <= now]
        return sorted(due, key=lambda name: self._times.get(name, 0))

    def failed(self, name: str, error: Exception) -> None:
        times = self._times[name] = self._times.get(name, 0) + 1
        pause = 0.0 if times == 1 else min(FIRST_PAUSE * 2.0 ** min(times, 10), LONGEST_PAUSE)
        self._not_before[name] = time.monotonic() + pause
        self._reasons[name] = text_of(error)

    def try_soon(self, names: Sequence[str]) -> None:
        """What they fail of is not their own, so none of them waits longer once it is over."""
        for name in names:
            self._not_before[name] = 0.0

    def worked(self, name: str) -> None:
        if self._times and name in self._times:
            del self._times[name], self._not_before[name], self._reasons[name]
