"""Commits that wait until the test lets them pass."""

import threading
from collections.abc import Sequence

from dbos_events.engine.core import Core
from dbos_events.storage.writes import Result, Write

PATIENCE = 10.0


class Gate:
    """Stands before the database: `held` writes wait for `open`, or are answered by `fail`."""

    def __init__(self, core: Core) -> None:
        self._write_batch = core.committer._write_batch
        self._arrived = threading.Semaphore(0)
        self._open = threading.Event()
        self._errors: list[Exception] = []
        self.held: list[Sequence[Write]] = []
        self.attempts = 0
        core.committer._write_batch = self

    def __call__(self, writes: Sequence[Write]) -> Sequence[Result]:
        self.attempts += 1
        if self._errors:
            raise self._errors.pop(0)
        if not self._open.is_set():
            self.held.append(writes)
            self._arrived.release()
            assert self._open.wait(PATIENCE), "the test never opened the gate"
        return self._write_batch(writes)

    def await_write(self) -> Sequence[Write]:
        """Wait until a batch has come, and give it."""
        assert self._arrived.acquire(timeout=PATIENCE), "no write came"
        return self.held[-1]

    def open(self) -> None:
        """Let everything pass from now on."""
        self._open.set()

    def lose_answer(self, error: Exception) -> None:
        """Write the next batch, and then say that it is not known whether it was written."""
        inner = self._write_batch

        def once(writes: Sequence[Write]) -> Sequence[Result]:
            self._write_batch = inner
            inner(writes)
            raise error

        self._write_batch = once

    def fail(self, *errors: Exception) -> None:
        """Answer the next attempts with these errors."""
        self._errors += errors
