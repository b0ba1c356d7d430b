"""A line to the database among the sockets of an event loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbos_events.storage.line import Line

OPEN_AGAIN = 1.0
"""Seconds between two attempts to open a line."""


class LoopLine:
    """Opens the line when it is first asked for, and again some time after it broke. All but `close` belongs to the loop.

    Args:
        loop: Whose sockets it is among.
        threads: Where it is opened, since that blocks.
        open_line: Opens it; None where the database has none.
        on_answer: Told whether what was sent is written; False when it may be, or may not be.
        open_after: Seconds before it is opened for the first time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: Executor,
        open_line: Callable[[], Line | None],
        on_answer: Callable[[bool], object],
        open_after: float = 0.0,
    ) -> None:
        self._of = weakref.ref(loop)
        self._threads = threads
        self._open_line = open_line
        self._on_answer = on_answer
        self._line: Line | None = None
        self._opening = False
        self._not_before = loop.time() + open_after if open_after else 0.0
        self.usable = True
        """Whether there is, or may yet be, a line."""

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The loop, which is there for whoever is on it.

        Raises:
            RuntimeError: Nobody has it any more; the same as a closed one says.
        """
        loop = self._of()
        if loop is None:
            raise RuntimeError("Event loop is gone")
        return loop

    @property
    def free(self) -> bool:
        """Whether something can be sent; has the line opened where there is none."""
        if self._line is None:
            self._open()
            return False
        return not self._line.busy

    def send(self, begin: Callable[[Line], bool]) -> bool:
        """Have `begin` send on the line; False when it did not, or failed, and `on_answer` will not be called."""
        line = self._line
        if line is None:
            return False
        try:
            if not begin(line):
                return False
            if not line.flush():
                self._loop.add_writer(line.fileno(), self._send_rest)
        except Exception:  # noqa: BLE001 - who writes it another way meets it as well, and knows what to do
            if line.busy:
                self._drop()
            return False
        return True

    def wait(self, seconds: float) -> bool:
        """Block until `on_answer` was called; False when the time ran out, or there is nothing to wait for."""
        end = self._loop.time() + seconds
        while self._line is not None and self._line.busy:
            try:
                came = self._line.wait(end - self._loop.time())
            except Exception:  # noqa: BLE001 - as in `send`
                self._drop()
                self._on_answer(False)
                return True
            if not came:
                return False
            if self._receive():
                return True
        return False

    def close(self) -> None:
        """Open it no more; called on any thread."""
        self.usable = False
        loop = self._of()
        if loop is None or not loop.is_running():
            self._drop()
            return
        try:
            loop.call_soon_threadsafe(self._drop)
        except RuntimeError:  # it was closed meanwhile
            self._drop()

    # -- what comes and goes ------------------------------------------------------------------

    def _send_rest(self) -> None:
        """The socket takes more of what is to be sent."""
        if self._line is None:
            return
        try:
            if self._line.flush():
                self._loop.remove_writer(self._line.fileno())
        except Exception:  # noqa: BLE001 - as in `send`
            self._drop()
            self._on_answer(False)

    def _receive(self) -> bool:
        """Something has come; True when it was the answer, or the end of the line."""
        line = self._line
        if line is None:
            return False
        try:
            if not line.receive():
                return False
        except Exception:  # noqa: BLE001 - as in `send`
            if line.broken or line.busy:
                self._drop()
            self._on_answer(False)
        else:
            self._on_answer(True)
        return True

    # -- opening and closing ------------------------------------------------------------------

    def _open(self) -> None:
        if self.usable and not self._opening and self._loop.time() >= self._not_before:
            self._opening = True
            try:
                self._threads.submit(self._connect)
            except RuntimeError:  # the interpreter ends
                self.usable = False

    def _connect(self) -> None:
        """Open a line, on a thread that may wait for it."""
        line: Line | None = None
        try:
            line = self._open_line()
            if line is None:
                self.usable = False
        except Exception:  # noqa: BLE001, S110 - who writes another way finds out what is wrong, and says it
            pass
        try:
            self._loop.call_soon_threadsafe(self._opened, line)
        except RuntimeError:  # the loop is closed
            if line is not None:
                line.close()

    def _opened(self, line: Line | None) -> None:
        self._opening = False
        self._not_before = self._loop.time() + OPEN_AGAIN
        if line is None:
            return
        try:
            self._loop.add_reader(line.fileno(), self._receive)
        except NotImplementedError:  # a loop that watches no sockets (on Windows)
            self.usable = False
        if self.usable:
            self._line = line
        else:
            self._close(line)

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            self._close(line)

    def _close(self, line: Line) -> None:
        loop = self._of()
        if loop is not None and not loop.is_closed():
            self._not_before = loop.time() + OPEN_AGAIN
            with suppress(NotImplementedError):
                loop.remove_reader(line.fileno())
                loop.remove_writer(line.fileno())
        line.close()
