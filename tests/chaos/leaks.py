"""Leaks that are put in on purpose, to see that a soak finds them, and where a process's memory was allocated."""

import os
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

LEAK_EACH = 10
"""Each of so many events leaves something behind that is never let go."""
MEMORY_BYTES = 1 << 20
TOLD = 25


class Leaks:
    """Keeps what it is asked to keep, more of it with each event."""

    def __init__(self, names: Sequence[str], database: str) -> None:
        self._kept: list[object] = []
        self._count = 0
        self._database = database
        self._keep = [LEAKS[name] for name in names]
        self._lock = threading.Lock()

    def grow(self) -> None:
        """An event more."""
        if not self._keep:
            return
        with self._lock:
            self._count += 1
            if self._count % LEAK_EACH == 0:
                self._kept += [keep(self._database) for keep in self._keep]


def _thread(_database: str) -> object:
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    return thread


LEAKS: dict[str, Callable[[str], object]] = {
    "memory": lambda _database: os.urandom(MEMORY_BYTES),
    "threads": _thread,
    "descriptors": lambda _database: os.open(os.devnull, os.O_RDONLY),
    "connections": psycopg.connect,
}


def trace_allocations(path: Path, seconds: float) -> None:
    """From now on write down every so many seconds which lines of code hold most memory, and how much more than before."""
    tracemalloc.start()

    def trace() -> None:
        before = tracemalloc.take_snapshot()
        while True:
            pause.wait(seconds)
            now = tracemalloc.take_snapshot()
            with path.open("a") as file:
                held = sum(statistic.size for statistic in now.statistics("filename"))
                file.write(f"--- {held / 1e6:.1f} MB held by Python; lines that have grown most\n")
                file.writelines(f"{line}\n" for line in now.compare_to(before, "lineno")[:TOLD])

    pause = threading.Event()
    threading.Thread(target=trace, name="allocations", daemon=True).start()
