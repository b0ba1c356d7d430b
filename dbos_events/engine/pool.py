"""The threads that run sync workflows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from dbos_events.engine.waking import ThreadWaker
from dbos_events.telemetry.log import logger
from dbos_events.telemetry.threads import Shortage

RESTING = 7
MOST_RESTING = 448
"""Threads that may rest in a durable wait: so many for each that may run, and so many in all. A row takes no thread."""

STUCK = 3.0
"""Seconds without a free place after which one that comes back is let in above the bound: what runs may wait for it."""


class _Worker(threading.Thread):
    """A thread of a pool."""

    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(target=pool.work, name=f"dbos-workflow-{number}", daemon=True)
        self.pool = pool


class Pool:
    """At most `size` threads that run, started when there is work for them, and some more that rest in a durable wait.

    One thread is woken at a time, and wakes the next one as soon as it has taken work itself. Handlers that wait
    for something spread over all threads like that, as fast as they begin to wait; handlers that only compute
    stay with few threads, which do not fight each other, nor the committer and intake, for Python's lock.

    A thread has a place as long as it runs. In a durable wait it gives the place up, to whoever comes back from such a wait
    or to new work, and it goes on when it has one again. So what waits in memory keeps nothing from running. Where work
    waits and no further thread may be started, the one that has rested for longest is asked to give its thread up, too.

    What rests may hold a lock of the user's, and all that run may want it. So where no place becomes free for `STUCK`
    seconds, there is one more for those that come back, until nothing waits any more.
    """

    def __init__(self, size: int, stuck: float = STUCK) -> None:
        self._size = size
        self._stuck = stuck
        self._extra = 0
        self._let_at = 0.0
        self._most = size + min(size * RESTING, MOST_RESTING)
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._queue: deque[Callable[[], object]] = deque()
        self._idle = 0
        self._resting = 0
        self._returning: deque[ThreadWaker] = deque()
        self._yielding: dict[ThreadWaker, None] = {}
        self._waking = False
        self._taking = 0  # threads that have come, and have not taken their work yet
        self._refused = False
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self.shortage = Shortage()

    @property
    def starved(self) -> bool:
        """Whether work waits for a thread, none is on its way, and no more may be started."""
        full = self._idle == 0 and (len(self._threads) >= self._most or self._refused)
        return full and len(self._queue) > self._taking and not self._waking

    @property
    def _has_place(self) -> bool:
        """Whether one more thread may run. Threads that are about to begin have their place already."""
        return self._running < self._size

    @property
    def _running(self) -> int:
        return len(self._threads) - self._idle - self._resting

    def submit(self, works: Sequence[Callable[[], object]]) -> None:
        """Queue `works`; never blocks. Dropped after `stop`."""
        with self._lock:
            if self._stopped:
                return
            self._queue.extend(works)
        self._see_to_the_queue()

    @contextmanager
    def resting(self, waker: ThreadWaker, *, yields: bool) -> Iterator[None]:
        """For a thread that waits for `waker` within the block: others run meanwhile.

        Costs nothing where the caller's thread is not of this pool. Where it `yields`, `waker` is woken when the thread is
        wanted; the caller then sees whether the pool is `starved`, and gives the thread up.
        """
        thread = threading.current_thread()
        if not isinstance(thread, _Worker) or thread.pool is not self:
            yield
            return
        with self._lock:
            self._resting += 1
            if yields:
                self._yielding[waker] = None
            self._let_come_back()
        try:
            self._see_to_the_queue()
            yield
        finally:
            self._come_back(waker)

    def _come_back(self, waker: ThreadWaker) -> None:
        """Take a place again; waits for one."""
        with self._lock:
            self._yielding.pop(waker, None)
            if self._stopped or self._running < self._size + self._extra:
                self._resting -= 1
                return
            if not self._returning:
                self._let_at = monotonic()
            gate = ThreadWaker()
            self._returning.append(gate)
        while not gate.wait(self._stuck):
            self._make_room()

    def _make_room(self) -> None:
        """Have one more place for those that come back, where none has become free for long."""
        with self._lock:
            if not self._returning or monotonic() - self._let_at < self._stuck:
                return
            self._extra += 1
            self._let_come_back()
        logger.warning(
            "All %d workflow threads have been busy for %g s while workflows wait to go on after a durable wait, so one "
            "more thread runs. If they wait for a lock that a workflow holds, let go of it before DBOS.sleep, DBOS.recv or "
            "another durable wait; otherwise max_executor_threads may be too small.",
            self._size,
            self._stuck,
        )

    def _let_come_back(self) -> None:
        """Give free places to those that come back, in their order; called with the lock."""
        while self._returning and (self._stopped or self._running < self._size + self._extra):
            self._resting -= 1
            self._let_at = monotonic()
            self._returning.popleft().wake()

    def look(self) -> None:
        """See to what is queued once more; called from time to time, since a thread may have been refused, or have died."""
        with self._lock:
            dead = [one for one in self._threads if one.ident is not None and not one.is_alive()]
            if dead and not self._stopped:
                self._threads = [one for one in self._threads if one not in dead]
                self._waking, self._taking = False, 0
                logger.error("%d workflow threads have ended; others take their place.", len(dead))
            self._refused = False
            self._let_come_back()
            if not self._queue and not self._returning:
                self._extra = 0
        if not self._queue:
            self.shortage.over()
        self._see_to_the_queue()

    def stop(self) -> None:
        """Start nothing more; threads end after what they run now."""
        with self._lock:
            self._stopped = True
            self._queue.clear()
            self._let_come_back()
            self._arrived.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for idle threads to end, at most `seconds` in all."""
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(seconds / max(1, len(self._threads)))

    def work(self) -> None:
        """What each thread of the pool does; it has a place when it begins, and is on its way."""
        with self._lock:
            self._waking, comes = False, True
            self._taking += 1
        while (work := self._next(comes=comes)) is not None:
            comes = False
            try:
                work()
            except BaseException:  # noqa: BLE001 - the thread has other work to do
                logger.exception("A workflow thread met an unexpected error.")
            del work  # it would keep its run and its context until there is other work

    def _next(self, *, comes: bool) -> Callable[[], object] | None:
        """What is to be done next; waits for it. None when nothing will come.

        `comes` says that this thread was woken for it.
        """
        while True:
            # Before this thread takes its own: work begins in the order in which it came.
            if len(self._queue) > (self._taking if comes else self._taking + 1):
                self._see_to_the_queue()
            # Whoever has begun goes first, and who was let in above the bound takes no new work.
            if not self._returning and not (self._extra and self._running > self._size):
                try:
                    # Without the lock: it would pass from thread to thread together with Python's own, for each work.
                    work = self._queue.popleft()
                except IndexError:
                    pass
                else:
                    if comes:
                        self._has_taken()
                    return work
            if comes:
                self._has_taken()
            woken = self._wait()
            if woken is None:
                return None
            comes = woken

    def _has_taken(self) -> None:
        """A thread that has come has its work, or finds none."""
        with self._lock:
            self._taking = max(0, self._taking - 1)  # it was set anew where a thread has died
        self._see_to_the_queue()

    def _wait(self) -> bool | None:
        """Wait for work and a place; gives whether it was woken for that, None when nothing will come."""
        woken = False
        with self._lock:
            self._idle += 1
            self._let_come_back()
            while not (self._queue and self._has_place) and not self._stopped:
                if woken:
                    self._waking = False
                self._arrived.wait()
                woken = True
            self._idle -= 1
            if not self._queue:
                return None
            if woken:
                self._waking = False
                self._taking += 1
            return woken

    def _see_to_the_queue(self) -> None:
        """Have one more thread come for what is queued, unless one is on its way; see to it that there is one."""
        if len(self._queue) > self._taking and not self._waking and self._has_place:
            self._wake_one()

    def _wake_one(self) -> None:
        started = None
        with self._lock:
            if self._waking or len(self._queue) <= self._taking or not self._has_place:
                return
            if self._idle:
                self._arrived.notify()
            elif len(self._threads) < self._most and not self._refused:
                started = _Worker(self, len(self._threads) + 1)
                self._threads.append(started)
            else:
                self._ask_for_a_thread()
                return
            self._waking = True
        if started is not None:
            self._start(started)

    def _ask_for_a_thread(self) -> None:
        """Wake the one that has rested for longest of those that can be held as a row; called with the lock."""
        for waker in self._yielding:
            del self._yielding[waker]
            waker.wake()
            return

    def _start(self, thread: threading.Thread) -> None:
        """Start the thread; where the system has none to give, those that are here do the work, or `look` tries again."""
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            self.shortage.noted(error)
            with self._lock:
                self._threads.remove(thread)
                self._waking = False
                self._refused = True
                self._let_come_back()
                self._ask_for_a_thread()
        else:
            self._refused = False
            self.shortage.over()
