"""Threads are started here, and where the system has none to give, that is said, and tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dbos_events.telemetry.log import Recurring

LONGEST_PAUSE = 2.0

_shortage = Recurring()


def threads_are_short(error: BaseException) -> None:
    """Say that the system refused a thread; the caller tries again."""
    _shortage.say(
        "The system starts no further thread for this process, so work waits for one: %s. Raise its limits "
        "(ulimit -u, the container's pids limit, memory), or lower max_executor_threads.",
        error,
    )


def start_thread(
    work: Callable[[], object], name: str, *, unless: Callable[[], bool] = lambda: False
) -> threading.Thread:
    """Start a daemon thread; where the system has none to give, wait and try again, until `unless` says no.

    Gives the thread; it was not started when `unless` said no.
    """
    pause = 0.05
    while True:
        thread = threading.Thread(target=work, name=name, daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            threads_are_short(error)
        else:
            return thread
        if unless():
            return thread
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
