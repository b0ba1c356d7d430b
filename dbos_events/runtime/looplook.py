"""Whether the event loop of async workflows goes on, and which line holds it when it does not."""

from __future__ import annotations

import sys
import threading
import time
from types import FrameType

from dbos_events.engine.core import Core

STILL_SECONDS = 3.0
"""A loop that has not answered for so long stands still."""


class LoopLook:
    """Asks the loop for a sign of life at each `look`; `problems` says how long there was none, and why."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._asked: float | None = None
        self._thread: int | None = None

    def look(self) -> None:
        """Ask, unless the loop still owes an answer."""
        if self._asked is not None or not hasattr(self._core, "loop_inbox"):
            return
        self._asked = asked = time.monotonic()
        try:
            self._core.loop_inbox.loop.call_soon_threadsafe(self._answer, asked)
        except RuntimeError:  # it is closed; `problems` says so
            self._asked = None

    def _answer(self, asked: float) -> None:
        self._thread = threading.get_ident()
        if self._asked == asked:
            self._asked = None

    @property
    def problems(self) -> list[str]:
        """One line when the loop stands still, or is closed."""
        if not hasattr(self._core, "loop_inbox"):
            return []
        loop, asked = self._core.loop_inbox.loop, self._asked
        if loop.is_closed():
            return [
                "the event loop of async workflows is closed: none of them runs here. Launch on a loop that stays"
            ]
        if asked is None or (still := time.monotonic() - asked) < STILL_SECONDS:
            return []
        told = f"the event loop of async workflows has stood still for {still:.0f} s"
        if not loop.is_running():
            return [f"{told}: nobody runs it"]
        frame = None if self._thread is None else sys._current_frames().get(self._thread)  # noqa: SLF001
        return [told if frame is None else f"{told}, held by {_place(frame)}"]


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
