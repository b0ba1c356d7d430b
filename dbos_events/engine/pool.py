"""The threads that run sync workflows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbos_events.telemetry.log import logger
from dbos_events.telemetry.threads import Shortage

if TYPE_CHECKING:
    from dbos_events.engine.waking import Hub

STARVED = "pool:starved"
"""Hub channel: work waits and no thread is free; a resident wait should park now."""


class Pool:
    """At most `size` threads, started when there is work for them.

    One thread is woken at a time, and wakes the next one as soon as it has taken work itself. Handlers that wait
    for something spread over all threads like that, as fast as they begin to wait; handlers that only compute
    stay with few threads, which do not fight each other, nor the committer and intake, for Python's lock.
    """

    def __init__(self, size: int, hub: Hub) -> None:
        self._size = size
        self._hub = hub
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._queue: deque[Callable[[], object]] = deque()
        self._idle = 0
        self._waking = False
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self.shortage = Shortage()

    @property
    def starved(self) -> bool:
        """Whether work waits for a thread, none is on its way, and no more may be started."""
        full = self._idle == 0 and len(self._threads) >= self._size
        return full and bool(self._queue) and not self._waking

    def submit(self, works: Sequence[Callable[[], object]]) -> None:
        """Queue `works`; never blocks. Dropped after `stop`."""
        with self._lock:
            if self._stopped:
                return
            self._queue.extend(works)
        self._see_to_the_queue()

    def look(self) -> None:
        """See to what is queued once more; called from time to time, since a thread may have been refused, or have died."""
        with self._lock:
            dead = [one for one in self._threads if one.ident is not None and not one.is_alive()]
            if dead and not self._stopped:
                self._threads = [one for one in self._threads if one not in dead]
                self._waking = False
                logger.error("%d workflow threads have ended; others take their place.", len(dead))
        if not self._queue:
            self.shortage.over()
        self._see_to_the_queue()

    def stop(self) -> None:
        """Start nothing more; threads end after what they run now."""
        with self._lock:
            self._stopped = True
            self._queue.clear()
            self._arrived.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for idle threads to end, at most `seconds` in all."""
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(seconds / max(1, len(self._threads)))

    def _thread(self) -> threading.Thread:
        thread = threading.Thread(
            target=self._work, name=f"dbos-workflow-{len(self._threads) + 1}", daemon=True
        )
        self._threads.append(thread)
        return thread

    def _work(self) -> None:
        with self._lock:
            self._waking = False
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException:  # noqa: BLE001 - the thread has other work to do
                logger.exception("A workflow thread met an unexpected error.")
            del work  # it would keep its run and its context until there is other work

    def _next(self) -> Callable[[], object] | None:
        """What is to be done next; waits for it. None when nothing will come."""
        while True:
            # Before this thread takes its own: work begins in the order in which it came.
            if len(self._queue) > 1:
                self._see_to_the_queue()
            try:
                # Without the lock: it would pass from thread to thread together with Python's own, for each work.
                return self._queue.popleft()
            except IndexError:
                if not self._wait():
                    return None

    def _wait(self) -> bool:
        """Wait for work; False when nothing will come."""
        with self._lock:
            self._idle += 1
            while not self._queue and not self._stopped:
                self._arrived.wait()
                self._waking = False
            self._idle -= 1
            return bool(self._queue)

    def _see_to_the_queue(self) -> None:
        """Have one more thread come for what is queued, unless one is on its way; tell where there is none."""
        if self.starved:
            self._hub.signal(STARVED)
        elif self._queue and not self._waking:
            self._wake_one()

    def _wake_one(self) -> None:
        started = None
        with self._lock:
            if self._waking or not self._queue:
                return
            if self._idle:
                self._arrived.notify()
            elif len(self._threads) < self._size:
                started = self._thread()
            else:
                return
            self._waking = True
        if started is not None:
            self._start(started)

    def _start(self, thread: threading.Thread) -> None:
        """Start the thread; where the system has none to give, those that are here do the work, or `look` tries again."""
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            self.shortage.noted(error)
            with self._lock:
                self._threads.remove(thread)
                self._waking = False
        else:
            self.shortage.over()
