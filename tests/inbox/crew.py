"""Worker processes of a test, and what their handlers have left."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 60.0

Order = Sequence[tuple[str, str, str, str | None]]


class Worker:
    """One process of `tests.inbox.worker`."""

    def __init__(self, database_url: str, effects: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.inbox.worker", database_url, str(effects)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self.answer() == "ready"

    def ask(self, orders: Sequence[Order]) -> None:
        """Have a thread for each order accept its events."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(orders) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.process.communicate(timeout=20)
        if self.process.poll() is None:
            self.kill()


@contextlib.contextmanager
def crew(database_url: str, effects: Path, count: int) -> Iterator[list[Worker]]:
    """So many processes, all ready. The first one makes the tables."""
    effects.touch()
    workers: list[Worker] = []
    try:
        for _ in range(count):
            workers.append(Worker(database_url, effects))
            if len(workers) == 1:
                workers[0].ready()
        for worker in workers[1:]:
            worker.ready()
        yield workers
    finally:
        for worker in workers:
            worker.close()


def left(effects: Path, what: str = "ends") -> list[str]:
    """The names of events in the order in which their steps began or ended."""
    found = (json.loads(line) for line in effects.read_text().splitlines())
    return [name for kind, name, _ in found if kind == what]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it was waited for in vain"
        time.sleep(0.02)
