"""How far a command is that takes long: on standard error, so that what it prints stays as it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

FIRST_SECONDS = 1.0
"""What takes no longer says nothing."""
EVERY_SECONDS = 10.0
"""Between two lines where nobody watches; a terminal is told at each step, in one line."""


class Progress:
    """Called with how much is done, and how much there is.

    Args:
        what: What is done to each, as in "400 of 9000 redriven".
    """

    def __init__(self, what: str, now: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._now = now
        self._began = now()
        self._next = self._began + FIRST_SECONDS
        self._open = False

    def __call__(self, done: int, total: int) -> None:
        now = self._now()
        if now < self._next:
            return
        terminal = sys.stderr.isatty()
        self._next = now + (0.2 if terminal else EVERY_SECONDS)
        rate = done / (now - self._began)
        left = f", {_minutes((total - done) / rate)} left" if rate and done < total else ""
        line = f"{done} of {total} {self._what}, {rate:.0f}/s{left}"
        if terminal:
            self._open = True
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def over(self) -> None:
        """Leave the line."""
        if self._open:
            self._open = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
