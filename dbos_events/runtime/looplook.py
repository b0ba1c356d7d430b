"""Whether the event loop of async workflows goes on, and which line holds it when it does not."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import weakref
from types import FrameType

from dbos_events.engine.core import Core

STILL_SECONDS = 3.0
"""A loop that has not answered for so long stands still."""


class LoopLook:
    """Asks the loop for a sign of life at each `look`; `problems` says how long there was none, and why.

    It asks the loop of what no running loop has started. A loop that nobody runs is no problem: another one takes over.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._asked: float | None = None
        self._thread: int | None = None

    def look(self) -> None:
        """Ask, unless the loop still owes an answer."""
        loop = self._core.homes.in_use
        if loop is None or (self._asked is not None and self._is_asked(loop)):
            return
        self._loop = weakref.ref(loop)
        self._asked = asked = time.monotonic()
        try:
            loop.call_soon_threadsafe(self._answer, asked)
        except RuntimeError:  # it has been closed meanwhile
            self._asked = None

    def _is_asked(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop is not None and self._loop() is loop

    def _answer(self, asked: float) -> None:
        if self._asked == asked:
            self._thread = threading.get_ident()
            self._asked = None

    @property
    def problems(self) -> list[str]:
        """One line when the loop stands still."""
        loop, asked = self._core.homes.in_use, self._asked
        if loop is None or asked is None or not self._is_asked(loop):
            return []
        if (still := time.monotonic() - asked) < STILL_SECONDS:
            return []
        told = f"the event loop of async workflows has stood still for {still:.0f} s"
        frame = None if self._thread is None else sys._current_frames().get(self._thread)  # noqa: SLF001
        return [told if frame is None else f"{told}, held by {_place(frame)}"]


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
