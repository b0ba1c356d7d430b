"""Threads are started here, and where the system has none to give, that is said, and tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dbos_events.telemetry.log import Recurring

LONGEST_PAUSE = 2.0


class Shortage:
    """Says that the system refuses threads, and that it gives them again."""

    def __init__(self) -> None:
        self._said = Recurring()

    @property
    def problems(self) -> list[str]:
        return ["no further thread can be started: work waits for one"] if self._said.active else []

    def noted(self, error: BaseException) -> None:
        """The system has refused a thread; the caller tries again."""
        self._said.say(
            "No further thread can be started, so work waits for one: %s. Raise the limits of this process (ulimit -u, "
            "the container's limit of pids, memory), or lower max_executor_threads.",
            error,
        )

    def over(self) -> None:
        """It has given one."""
        if self._said.active:
            self._said.over("Threads can be started again.")


def start_thread(
    work: Callable[[], object], name: str, *, unless: Callable[[], bool] = lambda: False
) -> threading.Thread:
    """Start a daemon thread; where the system has none to give, wait and try again, until `unless` says no.

    Gives the thread; it was not started when `unless` said no.
    """
    pause = 0.05
    shortage = Shortage()
    while True:
        thread = threading.Thread(target=work, name=name, daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            shortage.noted(error)
        else:
            shortage.over()
            return thread
        if unless():
            return thread
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
