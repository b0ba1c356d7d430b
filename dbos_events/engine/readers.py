"""Threads that do for an event loop what would block it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")
EAGER = 16
"""Waits of one engine that may look for an end often."""

_Work = tuple[Future[Any], Callable[[], Any]]


class Readers(Executor):
    """At most `size` threads, none of which the interpreter waits for when it exits.

    Those of `ThreadPoolExecutor` are joined at exit, so one that waits for a database that says nothing would
    hold the process.
    """

    def __init__(self, size: int, name: str = "dbos-reader") -> None:
        self._size = size
        self._name = name
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._started = 0
        self._closed = False
        self.eager = threading.Semaphore(EAGER)
        """Held by each wait that looks often; the others look at their interval."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """As `Executor.submit`.

        Raises:
            RuntimeError: After `shutdown`, or where the system has not one thread to give.
        """
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("The readers have been stopped.")
            # Before a thread is started: one that found nothing would count as idle, and be busy when the next work comes.
            self._queue.put((future, partial(fn, *args, **kwargs)))
            if not self._idle.acquire(blocking=False) and self._started < self._size:
                self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; threads end after what they do now. There is no waiting for them."""
        with self._lock:
            self._closed = True
        while cancel_futures and (work := self._next(wait=False)) is not None:
            work[0].cancel()
        self._queue.put(None)

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._started:
                self._next(wait=False)  # nobody would do it
                raise
        else:
            self._started += 1

    def _work(self) -> None:
        while (work := self._next(wait=False) or self._rest()) is not None:
            _do(*work)
            del work  # what it refers to may be let go

    def _rest(self) -> _Work | None:
        with (
            self._lock
        ):  # else work that comes between the look and the count would have a thread that counts as idle
            if (work := self._next(wait=False)) is not None:
                return work
            self._idle.release()
        return self._next(wait=True)

    def _next(self, *, wait: bool) -> _Work | None:
        """What is to be done next; None where nothing waits, or ever will."""
        try:
            work = self._queue.get(block=wait)
        except Empty:
            return None
        if work is None:
            self._queue.put(None)  # for the next look, also of this thread
        return work


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - whoever waits for it learns of it
        future.set_exception(error)
    else:
        future.set_result(result)
