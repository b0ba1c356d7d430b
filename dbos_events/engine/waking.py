"""Wake-ups of threads and tasks from other threads, with one loop signal per burst."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

running_loop = asyncio._get_running_loop  # noqa: SLF001 - the public one raises where none runs
"""The event loop that the caller is on, or None."""


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
    """Callbacks for one event loop; however many arrive at once, the loop is woken once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._pending: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._awake = False
        self.parking: list[Callable[[frozenset[asyncio.Task[Any]]], object]] = []
        """Who wants to know, once the loop has run what is ready, which tasks stand under a timeout."""

    def post(self, callback: Callable[[], object]) -> None:
        """Have `callback` run on the loop, at once where the caller is on it; dropped when the loop is closed."""
        if running_loop() is self.loop:
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

    def consider_parking(self, ask: Callable[[frozenset[asyncio.Task[Any]]], object]) -> None:
        """Have `ask` called soon with the tasks that a running timeout will cancel; one look for many who ask."""
        self.parking.append(ask)
        if len(self.parking) == 1:
            self.loop.call_soon(self._tell_timeouts)

    def _tell_timeouts(self) -> None:
        asking, self.parking = self.parking, []
        timed = frozenset(_tasks_with_timeout(self.loop))
        for ask in asking:
            ask(timed)

    def _drain(self) -> None:
        with self._lock:
            callbacks, self._pending = self._pending, deque()
            self._awake = False
        for callback in callbacks:
            callback()


def _tasks_with_timeout(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.Task[Any]]:
    """The tasks inside `asyncio.timeout`, or an anyio cancel scope with a deadline; nobody but the timers knows.

    A loop that hides its timers (uvloop) tells of none.
    """
    for handle in getattr(loop, "_scheduled", ()):
        owner = getattr(getattr(handle, "_callback", None), "__self__", None)
        task = getattr(owner, "_task", None) or getattr(owner, "_host_task", None)
        if isinstance(task, asyncio.Task) and not handle.cancelled():
            yield task


class LoopWaker:
    """One wait of a task."""

    __slots__ = ("_inbox", "future", "woken")

    def __init__(self, inbox: LoopInbox) -> None:
        self._inbox = inbox
        self.woken = False
        self.future: asyncio.Future[bool] = inbox.loop.create_future()

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
        timer = self._inbox.loop.call_later(max(0.0, seconds), lambda: self._settle(woken=False))
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
