"""Wake-ups of threads and tasks from other threads, with one loop signal per burst."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

from dbos_events.telemetry.log import logger

running_loop = asyncio._get_running_loop  # noqa: SLF001 - the public one raises where none runs
"""The event loop that the caller is on, or None."""


A_MOMENT = 0.05
"""Seconds to wait for a lock that this very thread may have, when what it frees calls us within it."""

ENGINE = contextvars.Context()
"""What the engine's own timers run in, so that they are not taken for those of the workflow that waits."""


class Waker(Protocol):
    """Something that waits; `wake` may be called from any thread, and more than once."""

    def wake(self) -> None: ...


class ThreadWaker:
    """One wait of a thread; a bare lock costs a fifth of `threading.Event`."""

    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    @property
    def woken(self) -> bool:
        return not self._gate.locked()

    def wake(self) -> None:
        if self._gate.locked():
            try:
                self._gate.release()
            except RuntimeError:  # woken twice at the same moment
                return

    def wait(self, seconds: float | None = None) -> bool:
        """Return True when woken, False when the time ran out."""
        return self._gate.acquire(timeout=-1 if seconds is None else max(0.0, seconds))


class LoopInbox:
    """Callbacks for one event loop; however many arrive at once, the loop is woken once.

    Refers to the loop weakly: who waits there keeps it, and nobody else needs it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._pending: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._awake = False
        self._parking: list[Callable[[], object]] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop.

        Raises:
            RuntimeError: Nobody has it any more, as a closed one does when it is used.
        """
        loop = self._loop()
        if loop is None:
            raise RuntimeError("Nobody has the event loop any more.")
        return loop

    def post(self, callback: Callable[[], object]) -> None:
        """Have `callback` run on the loop, at once where the caller is on it; dropped when the loop is closed."""
        here = running_loop()
        if here is not None and here is self._loop():
            callback()
            return
        with self._lock:
            self._pending.append(callback)
            if self._awake:
                return
            self._awake = True
        try:
            self.loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop is closed: nobody is left to wake
            self._pending.clear()

    def consider_parking(self, ask: Callable[[], object]) -> None:
        """Have `ask` called once the loop, which the caller is on, has run what is ready; one turn for many who ask."""
        self._parking.append(ask)
        if len(self._parking) == 1:
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        asking, self._parking = self._parking, []
        for ask in asking:
            ask()

    def _drain(self) -> None:
        with self._lock:
            callbacks, self._pending = self._pending, deque()
            self._awake = False
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - the runs of the other wake-ups wait for theirs
                logger.exception("A wake-up on an event loop met an unexpected error; the others go on.")


class LoopWaker:
    """One wait of a task of the running loop."""

    __slots__ = ("_inbox", "future", "woken")

    def __init__(self, inbox: LoopInbox) -> None:
        self._inbox = inbox
        self.woken = False
        self.future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        self.woken = True
        self._inbox.post(self._wake)

    def _wake(self) -> None:
        self._settle(woken=True)

    def _settle(self, *, woken: bool) -> None:
        if not self.future.done():
            self.future.set_result(woken)

    async def wait(self, seconds: float | None = None) -> bool:
        """Return True when woken, False when the time ran out."""
        if seconds is None:
            return await self.future
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, seconds), lambda: self._settle(woken=False), context=ENGINE)
        try:
            return await self.future
        finally:
            timer.cancel()


class Hub:
    """Wake-ups by channel name for whoever waits in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Waker]] = {}

    def subscribe(self, channel: str, waker: Waker) -> None:
        """Wake `waker` at every signal of `channel`; subscribe first, then check, then wait."""
        with self._lock:
            self._waiting.setdefault(channel, []).append(waker)

    def unsubscribe(self, channel: str, waker: Waker) -> None:
        with self._lock:
            waiting = self._waiting.get(channel, [])
            if waker in waiting:
                waiting.remove(waker)
            if not waiting:
                self._waiting.pop(channel, None)

    def is_free(self) -> bool:
        """Whether the caller does not hold the lock; also False where others have it for long."""
        free = self._lock.acquire(timeout=A_MOMENT)
        if free:
            self._lock.release()
        return free

    def signal(self, channel: str) -> None:
        """Wake all who wait on `channel`; costs one look-up when nobody does."""
        if channel not in self._waiting:
            return
        with self._lock:
            waiting = tuple(self._waiting.get(channel, ()))
        for waker in waiting:
            waker.wake()

    def signal_all(self) -> None:
        """Wake everybody (at shutdown)."""
        for channel in tuple(self._waiting):
            self.signal(channel)
