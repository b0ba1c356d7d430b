"""The end within a bound: what can only wait for a database that says nothing is not waited for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from dbos_events.runtime.service import Service
from dbos_events.telemetry.log import logger

LEAST = 0.5
"""Seconds that each part gets at least, also when those before it took all the time."""

AFTER_SECONDS = 1.0
"""So long after the bound connections may still be used: runs may take all of the time, and the lease is given back then."""


class Bound:
    """A time to be ready by."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; never less than none."""
        return max(0.0, self._end - time.monotonic())

    def at_most(self, seconds: float) -> float:
        """So many seconds, or what is left of the time."""
        return max(LEAST, min(seconds, self.left))

    def call_at_end(self, work: Callable[[], object]) -> threading.Timer:
        """Have `work` done shortly after the bound, unless that is cancelled before."""
        timer = threading.Timer(self.left + AFTER_SECONDS, work)
        timer.daemon = True
        with contextlib.suppress(RuntimeError):  # without a thread the driver's own bounds must do
            timer.start()
        return timer

    def do(self, work: Callable[[], object], *, name: str) -> None:
        """Do `work` on a thread of its own, and do not wait longer for it than is left."""
        thread = threading.Thread(target=work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread to be had
            work()
            return
        thread.join(self.left + AFTER_SECONDS)
        if thread.is_alive():
            logger.warning("The database does not answer, so the process stops without it (%s).", name)


def stop_together(services: Sequence[Service], seconds: float) -> None:
    """Stop services at once; waits for all of them so long in all."""
    for service in services:
        service.let_go()
    end = time.monotonic() + seconds
    for service in services:
        service.stop(max(0.0, end - time.monotonic()))
