"""Signals of a service: heard at once, whatever the main thread does and whichever thread the system hands them to.

Python runs the handler of a signal on the main thread, when that comes back to the interpreter. When a process was
stopped while the signal came, the system may hand it to any thread, and a main thread that waits without a bound is not
woken by it. But the number is written into the wake-up socket whichever thread it was, and a thread waits for that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
REPEAT_SECONDS = 0.5
"""Within that time a signal is the first one again: `timeout` and some shells send each of them twice."""


class StopRequested(BaseException):
    """A signal came while the main thread ran code of the user that nobody else can end."""


class StopSignals:
    """Listens for SIGTERM and SIGINT: the first is told, a second one ends the process at once.

    Args:
        on_stop: Told of the first signal, on a thread of its own.
    """

    def __init__(self, on_stop: Callable[[signal.Signals], object]) -> None:
        self._on_stop = on_stop
        self.interrupts = False
        """Whether the first signal also raises `StopRequested` on the main thread."""
        self._raised = False
        self._first: float | None = None
        self._nudges = 0
        self._ours, self._theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._work, name="dbos-signals", daemon=True)

    def __enter__(self) -> Self:
        """Called on the main thread."""
        self._theirs.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._on_main_thread) for number in SIGNALS}
        self._thread.start()
        _listening.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _listening.discard(self)
        self.restore()
        with contextlib.suppress(OSError):
            self._theirs.send(b"\0")
        self._thread.join()
        self._ours.close()
        self._theirs.close()

    def restore(self) -> None:
        """Have signals do what they did before."""
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_main_thread(self, number: int, _frame: FrameType | None) -> None:
        ours = self._theirs.fileno()
        in_use = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if in_use != ours:  # the program has a loop that listens for signals itself
            signal.set_wakeup_fd(in_use)
            self._theirs.send(bytes([number]))
        if self.interrupts and not self._raised:
            self._raised = True
            raise StopRequested

    # -- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            for number in self._ours.recv(64):
                if number == 0:
                    return
                if number in SIGNALS:
                    self._heard(signal.Signals(number))

    def _heard(self, number: signal.Signals) -> None:
        if self._nudges:
            self._nudges -= 1
            return
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._on_stop(number)
            if self.interrupts:
                self._nudge(number)
        elif now - self._first >= REPEAT_SECONDS:
            os.write(2, b"dbos-events: stopped at once by a second signal\n")
            os._exit(128 + number)

    def _nudge(self, number: signal.Signals) -> None:
        """The main thread may wait in code of the user: have it come back to the interpreter."""
        self._nudges += 1
        signal.pthread_kill(threading.main_thread().ident or 0, number)


_listening: weakref.WeakSet[StopSignals] = weakref.WeakSet()


def _after_fork() -> None:
    """A signal to a forked process is none to this one, and does there what it did before the service began."""
    for signals in tuple(_listening):
        signals.restore()


os.register_at_fork(after_in_child=_after_fork)
