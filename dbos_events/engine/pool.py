"""The threads that run sync workflows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from dbos_events.engine.waking import Hub
from dbos_events.telemetry.log import logger

STARVED = "pool:starved"
"""Hub channel: work waits and no thread is free; a resident wait should park now."""


class Pool:
    """At most `size` threads, started when there is work for them."""

    def __init__(self, size: int, hub: Hub) -> None:
        self._size = size
        self._hub = hub
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._queue: deque[Callable[[], object]] = deque()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._stopped = False

    @property
    def starved(self) -> bool:
        """Whether work waits for a thread and no more may be started."""
        return bool(self._queue) and self._idle == 0 and len(self._threads) >= self._size

    def submit(self, works: Sequence[Callable[[], object]]) -> None:
        """Queue `works`; never blocks. Dropped after `stop`."""
        with self._lock:
            if self._stopped:
                return
            self._queue.extend(works)
            waiting = len(self._queue)
            if self._idle:
                self._arrived.notify(min(self._idle, waiting))
            missing = min(waiting - self._idle, self._size - len(self._threads))
            started = [self._thread() for _ in range(max(0, missing))]
        for thread in started:
            thread.start()
        if self.starved:
            self._hub.signal(STARVED)

    def stop(self) -> None:
        """Start nothing more; threads end after what they run now."""
        with self._lock:
            self._stopped = True
            self._queue.clear()
            self._arrived.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for idle threads to end, at most `seconds` in all."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(seconds / max(1, len(self._threads)))

    def _thread(self) -> threading.Thread:
        thread = threading.Thread(
            target=self._work, name=f"dbos-workflow-{len(self._threads) + 1}", daemon=True
        )
        self._threads.append(thread)
        return thread

    def _work(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException:  # noqa: BLE001 - the thread has other work to do
                logger.exception("A workflow thread met an unexpected error.")

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            self._idle += 1
            while not self._queue:
                if self._stopped:
                    return None
                self._arrived.wait()
            self._idle -= 1
            return self._queue.popleft()
