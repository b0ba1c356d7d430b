"""Group commit on the event loop itself, for small batches of the workflows that it runs.

A batch of the committer's thread wakes that thread first and the loop afterwards. For the few events at a time of an
ordered consumer this takes longer than the write does (docs/performance.md). Here the loop sends the batch itself, goes
on, and hears the answer among its other sockets. All that does not go well, or would take long, goes to the committer's
thread as if it had never been sent: a batch may be written twice (docs/protocol.md).
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Protocol

from dbos_events.engine.loopline import LoopLine
from dbos_events.engine.waking import running_loop
from dbos_events.storage.writes import WRITTEN, Write

if TYPE_CHECKING:
    from dbos_events.engine.tickets import Ticket
    from dbos_events.storage.line import Line

MOST = 64
"""Writes in a batch; larger ones are better encoded on a thread, while the loop runs handlers."""

PATIENCE = 0.2
"""Seconds between two looks of the committer's thread, which takes over what a blocked or closed loop leaves lying."""

SLOW = 2.0
"""Seconds after which it takes over from a loop that goes on: no answer comes."""


class Behind(Protocol):
    """The committer whose thread writes what a loop does not."""

    @property
    def idle(self) -> bool:
        """Whether nothing is left there that a write from here might overtake."""
        ...

    def take_over(self, sent: list[Ticket], waiting: Sequence[Ticket]) -> None:
        """Queue writes that the loop has had; to be followed by `look_up`."""
        ...

    def look_up(self) -> None:
        """Have the thread look."""
        ...


class LoopCommitter:
    """Commits for the tasks of one loop, one small batch at a time, in the order of handing over.

    What it has is in `_queue`, or in `_sent` when it is on its way; both change hands under `_lock`. Everything else
    belongs to the loop.

    Args:
        loop: Where the runs' tasks are.
        behind: The committer whose thread writes what does not fit here.
        open_line: Opens a line to the database; None where there is none. Blocks, so it is called on `threads`.
        send: Begins a batch on the line; False where it takes more than one call.
        after_batch: Called when all answers of a batch have been told; quick, and never fails.
        open_after: Seconds before a line is opened; a loop that lives for one event needs none.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        behind: Behind,
        threads: Executor,
        *,
        open_line: Callable[[], Line | None],
        send: Callable[[Line, Sequence[Write]], bool],
        after_batch: Callable[[], object],
        open_after: float = 0.0,
    ) -> None:
        self._of = weakref.ref(loop)
        self._behind = behind
        self._line = LoopLine(loop, threads, open_line, self._answered, open_after)
        self._begin = send
        self._after_batch = after_batch
        self._lock = threading.Lock()
        self._queue: deque[Ticket] = deque()
        self._sent: list[Ticket] | None = None
        self._called = False
        self._telling = False
        self._watched = False
        self._oldest: Ticket | None = None
        self._since = 0.0
        self._asked: Ticket | None = None
        self._heard: Ticket | None = None
        self.batches = 0

    @property
    def rests(self) -> bool:
        """Whether all that was handed over here has its answer, and what the answers have set free has begun."""
        return not self._queue and self._sent is None and not self._telling

    @property
    def is_telling(self) -> bool:
        """Whether the caller is being told the answers of a batch."""
        return self._telling and self._is_here

    @property
    def is_over(self) -> bool:
        """Whether the loop has ended."""
        loop = self._of()
        return loop is None or loop.is_closed()

    @property
    def _is_here(self) -> bool:
        loop = running_loop()
        return loop is not None and loop is self._of()

    # -- on the loop --------------------------------------------------------------------------

    def offer(self, ticket: Ticket) -> bool:
        """Take `ticket`, of a task of this loop; False where the committer's thread is to have it."""
        loop = running_loop()
        if loop is None or loop is not self._of():
            return False
        with self._lock:
            if not self._takes():
                return False
            self._queue.append(ticket)
            watched, self._watched = self._watched, True
            full = len(self._queue) > MOST and self._sent is None
        if not watched:
            self._behind.look_up()
        if full:
            self.hand_over()
        else:
            self._call()
        return True

    def _takes(self) -> bool:
        """Whether a write can go from here without overtaking an earlier one of its run."""
        if self._queue or self._sent is not None:
            return True
        return self._line.usable and self._line.free and self._behind.idle

    def _call(self) -> None:
        """Send soon, what the loop's ready tasks will have handed over."""
        if not self._called and self._sent is None:
            self._called = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send what has gathered."""
        self._called = False
        with self._lock:
            if self._sent is not None or not self._queue:
                return
            tickets = list(self._queue)
            suits = len(tickets) <= MOST and all(ticket.doom() is None for ticket in tickets)
            if suits and self._line.free:
                self._queue.clear()
                self._sent = tickets
        writes = [ticket.write for ticket in tickets]
        if self._sent is None or not self._line.send(lambda line: self._begin(line, writes)):
            self.hand_over()

    def _answered(self, written: bool) -> None:
        """Tell the answers.

        What has gathered meanwhile is sent after the tasks that they set free have run: one batch instead of two.
        """
        if not written:
            self.hand_over()
            return
        with self._lock:
            tickets, self._sent = self._sent, None
        if tickets is not None:  # else they were taken over
            self._tell(tickets)
        self._call()

    def _tell(self, tickets: Sequence[Ticket]) -> None:
        self._telling = True
        try:
            for ticket in tickets:
                ticket.settle(WRITTEN)
            self.batches += 1
            self._after_batch()
        finally:
            self._telling = False

    def settle_here(self) -> None:
        """The loop's thread is about to wait for something that may need an answer: have all of them first."""
        if not self._is_here:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while self._queue or self._sent is not None:
            if self._sent is None:
                self._flush()
            elif not self._line.wait(end - loop.time()):
                self.hand_over()

    # -- on any thread ------------------------------------------------------------------------

    def hand_over(self) -> None:
        """Have the committer's thread write all that is here; what was sent may be written twice."""
        with self._lock:
            sent, self._sent = self._sent or [], None
            waiting = tuple(self._queue)
            self._queue.clear()
            self._behind.take_over(
                sent, waiting
            )  # within the lock, so that what comes next does not overtake
        if sent or waiting:
            self._behind.look_up()

    def close(self) -> None:
        """Take nothing more; the committer's thread writes what is left."""
        with self._lock:
            self._line.close()
        self.hand_over()

    def look(self) -> float | None:
        """Take over what has lain here for too long; gives how long the thread may wait before it looks again.

        Called by the committer's thread each time before it takes something or waits.
        """
        now = time.monotonic()
        with self._lock:
            oldest = self._sent[0] if self._sent else self._queue[0] if self._queue else None
            if oldest is not self._oldest:
                self._oldest, self._since = oldest, now
            lain = now - self._since
            if lain < PATIENCE or oldest is None:
                self._watched = self._watched and lain < PATIENCE
                if oldest is None:
                    self._asked = self._heard = None
                return PATIENCE - lain if self._watched else None
        if lain >= SLOW or not self._lives(oldest):
            self.hand_over()
        return PATIENCE

    def _lives(self, oldest: Ticket) -> bool:
        """Whether the loop goes on, as far as is known: then it is the database that is slow, and is asked once only."""
        if self._asked is oldest:
            return self._heard is oldest
        self._asked = oldest
        loop = self._of()
        try:
            if loop is None:
                return False
            loop.call_soon_threadsafe(self._hear, oldest)
        except RuntimeError:  # it is closed
            return False
        return True

    def _hear(self, oldest: Ticket) -> None:
        self._heard = oldest
