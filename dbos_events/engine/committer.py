"""Group commit: the checkpoints and outcomes of many workflows in one transaction.

It commits at once when idle and batches only what arrives while a commit is in flight, so a
lone workflow pays no delay. The answers come back per workflow (see docs/architecture.md).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbos_events.engine.later import Interrupted, Later, StillRefused
from dbos_events.engine.tickets import (
    Ticket,
    by_workflow,
    give_way,
    refuses_statement,
    shown,
    tell,
    tell_all,
)
from dbos_events.engine.waking import ThreadWaker
from dbos_events.errors import BadWrite, ExecutorFenced, StorageError
from dbos_events.storage.writes import Fenced, Refused, Result, Write
from dbos_events.telemetry.log import Recurring, logger
from dbos_events.telemetry.outages import Outages
from dbos_events.telemetry.threads import start_thread

if TYPE_CHECKING:
    from dbos_events.engine.loopcommitter import LoopCommitter
    from dbos_events.engine.tickets import Writer
    from dbos_events.engine.waking import Waker

MAX_BATCH = 1000
FIRST_PAUSE = 0.02
MAX_PAUSE = 2.0
TRIES_TOGETHER = 8
"""How often a batch is tried whole before those of its writes are looked for that are refused, if some are."""

SLOW = 3.0
"""Seconds after which a write that has no answer is a problem."""


class Committer:
    """One thread, one transaction per batch, and one more for the starts in it.

    Whoever hands a write over takes no lock: it would pass from thread to thread together with Python's own, once
    for each write (docs/performance.md). Appending to a deque is atomic; who takes from it has the lock.

    Args:
        write_batch: Writes a batch under this executor's fence and answers in order. It raises
            `BadWrite` (a value in it is refused) or `ExecutorFenced`. Whatever else it raises says nothing about
            the writes: the whole batch is tried again.
        on_fenced: Called when the executor turns out to be dead; quick, and never fails.
        after_batch: Called when all answers of a batch have been told; quick, and never fails.
        outages: Told of what waits.
    """

    def __init__(
        self,
        write_batch: Callable[[Sequence[Write]], Sequence[Result]],
        on_fenced: Callable[[], object],
        after_batch: Callable[[], object] = lambda: None,
        outages: Outages | None = None,
    ) -> None:
        self._write_batch = write_batch
        self._on_fenced = on_fenced
        self._after_batch = after_batch
        self._outages = outages or Outages()
        self._outage = Recurring()
        self._asked_at: float | None = None
        self._later = Later(self._write_once)
        self._lock = threading.Lock()
        self._gate = ThreadWaker()
        self._queue: deque[Ticket] = deque()
        self._again: deque[list[Ticket]] = deque()
        self._awake = False
        self._stopped = False
        self._ended = False
        self._interrupt = threading.Event()
        self._thread: threading.Thread | None = None
        self._batches = 0
        self.near: LoopCommitter | None = None
        """Writes small batches of the runs on the launch's loop there."""
        self.others: tuple[LoopCommitter, ...] = ()
        """As `near`, for other loops that have runs; replaced as a whole."""
        self._batches_of_ended_loops = 0

    def start(self) -> None:
        self._thread = start_thread(self._work, name="dbos-committer", unless=lambda: self._stopped)

    def submit(
        self, write: Write, run: Writer | None = None, waker: Waker | None = None, *, final: bool = False
    ) -> Ticket:
        """Queue `write`; never blocks. Its run, then `waker`, learn the result on its thread, or on the loop.

        `final` lets the write that records a run's failure pass after one of its writes was refused.
        """
        ticket = Ticket(write, run, waker, final=final)
        if run is not None:
            run.handing()
        if self._stopped:
            ticket.settle(Fenced(None))
            return ticket
        if run is not None and run.tasks is not None:
            near, others = self.near, self.others
            if (near and near.offer(ticket)) or (others and any(other.offer(ticket) for other in others)):
                return ticket
        self._queue.append(ticket)
        self.look_up()
        return ticket

    @property
    def _nears(self) -> tuple[LoopCommitter, ...]:
        return self.others if self.near is None else (self.near, *self.others)

    def add_loop(self, near: LoopCommitter) -> None:
        """Have one more loop write what is handed over there; the caller sees to it that nobody else does this now."""
        self.others = (*self.others, near)

    def drop_loop(self, near: LoopCommitter) -> None:
        """The loop has ended: write what it has left; as `add_loop`, one at a time."""
        self.others = tuple(other for other in self.others if other is not near)
        self._batches_of_ended_loops += near.batches
        near.close()

    def take_over(self, sent: list[Ticket], waiting: Sequence[Ticket]) -> None:
        """Queue writes that the loop has had; to be followed by `look_up`.

        What was sent may be written already. It is written again as the same batch, since what goes with an outcome
        depends on what stands beside it; then both tries meet on the same rows (docs/protocol.md, rule 2).
        """
        if sent:
            self._again.append(sent)
        self._queue.extend(waiting)

    def look_up(self) -> None:
        """Have the thread look at the queue."""
        if self._ended:
            self._drop_all()
        elif not self._awake:  # else it looks once more before it waits
            self._gate.wake()

    def before_blocking(self) -> None:
        """The caller is going to wait for something on its own thread, which may be the loop's."""
        for near in self._nears:
            near.settle_here()

    @property
    def batches(self) -> int:
        """How many were written since the start."""
        return self._batches + self._batches_of_ended_loops + sum(near.batches for near in self._nears)

    @property
    def idle(self) -> bool:
        """Whether all that the thread was given has its answer, and what the answers have set free has begun."""
        return not self._has_work and not self._awake and not self._later.holds_runs

    @property
    def _has_work(self) -> bool:
        return bool(self._queue or self._again)

    @property
    def rests(self) -> bool:
        """As `idle`, on the loop as well."""
        return self.idle and all(near.rests for near in self._nears)

    @property
    def is_telling(self) -> bool:
        """Whether the caller is being told the answers of a commit."""
        near, others = self.near, self.others
        here = threading.current_thread() is self._thread or (near is not None and near.is_telling)
        return here or (bool(others) and any(other.is_telling for other in others))

    @property
    def running(self) -> bool:
        """Whether its thread lives, or need not."""
        return self._ended or self._stopped or self._thread is None or self._thread.is_alive()

    def stop(self, seconds: float) -> bool:
        """Write what is queued and end; False when the time ran out, with the rest left to recovery."""
        for near in self._nears:
            near.close()
        self._stopped = True
        self._gate.wake()
        if self._thread is None:
            self._end()
            return True
        self._thread.join(seconds)
        if not self._thread.is_alive():
            return True
        self._interrupt.set()
        self._thread.join(0.5)  # it may be in a call of the database that does not end
        return False

    def abandon(self) -> None:
        """Write nothing more, not even what is queued."""
        self._stopped = self._ended = True
        for near in self._nears:
            near.close()
        self._gate.wake()
        self._interrupt.set()
        self._drop_all()

    def _end(self) -> None:
        self._ended = True
        self._drop_all()

    def _drop_all(self) -> None:
        """Answer what came too late to be written."""
        with self._lock:
            dropped = [ticket for batch in self._again for ticket in batch]
            self._again.clear()
            dropped += self._taken(len(self._queue))
        dropped += self._later.drop()
        for ticket in dropped:
            ticket.settle(Fenced(None))

    def _work(self) -> None:
        try:
            while tickets := self._next_batch():
                self._commit(tickets)
                self._start_what_follows()
                give_way(tickets)
        finally:
            self._end()
            self._awake = False

    def _start_what_follows(self) -> None:
        try:
            self._after_batch()
        except BaseException:  # noqa: BLE001 - the thread has answers for others
            logger.exception("The committer met an unexpected error after a batch, and goes on.")

    def _next_batch(self) -> list[Ticket]:
        """What waits, at most a full batch; waits for something. Nothing when it is to end."""
        while True:
            # Before the look: who hands over after it opens the gate. Nobody else sets this: who is interrupted between
            # a word that the committer is awake and its waking would leave it asleep for ever.
            self._awake = False
            patience = self._look_around()
            if self._has_work or self._stopped:
                break
            self._gate.wait(patience)
        self._awake = True
        with self._lock:
            if self._ended:
                return []
            return self._again.popleft() if self._again else self._taken(MAX_BATCH)

    def _look_around(self) -> float | None:
        """Take what is due, and what lies on a loop for too long; gives how long to wait at most, None for no bound."""
        due, wait = self._later.due()
        if due:
            self._again.append(due)
        waits = (*(near.look() for near in self._nears), wait)
        return min((wait for wait in waits if wait is not None), default=None)

    def _taken(self, most: int) -> list[Ticket]:
        """What is in the queue, at most so many; called with the lock."""
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def _commit(self, tickets: Sequence[Ticket]) -> None:
        """Write what is sound: starts apart, since they concern no run that is here and fail for reasons of their own."""
        if tickets[0].aside:  # then all are
            self._write_apart(tickets)
            return
        starts: list[Ticket] = []
        others: list[Ticket] = []
        later = self._later if self._later.holds_runs else None
        for ticket in tickets:
            run = ticket.run
            if later is not None and later.holds(ticket):
                later.put(ticket)
            elif run is None and ticket.write.only_starts:
                starts.append(ticket)
            elif (run is not None and run.verdict is None) or (doom := ticket.doom()) is None:
                others.append(ticket)
            else:
                tell(ticket, doom)
        for group in (starts, others):
            if group:
                self._commit_sound(group)

    def _commit_sound(self, tickets: list[Ticket]) -> None:
        try:
            self._answer(tickets, self._write([ticket.write for ticket in tickets]))
        except BadWrite as error:
            self._isolate(tickets, error)
        except StillRefused:
            self._write_apart(tickets)
        except ExecutorFenced:
            self._fence(tickets)
        except Interrupted:
            self._answer(tickets, [Fenced(None)] * len(tickets))

    def _write_apart(self, tickets: Sequence[Ticket]) -> None:
        """Write what the database takes of these. What it refuses waits, and keeps no other workflow waiting."""
        stuck, error = self._later.write(tickets)
        if error is not None:
            self._outages.waits(self._later, "writes that the database refuses wait apart", shown(error))
            self._outage.say(
                "Writes of %s workflows are refused and wait; others go on: %s", stuck, shown(error)
            )
        self._went_well()

    def _write_once(self, tickets: list[Ticket]) -> BaseException | None:
        """Write these in one try and tell the answers; gives the error where there are none."""
        try:
            self._answer(tickets, self._write_batch([ticket.write for ticket in tickets]))
        except BadWrite as error:
            self._isolate(tickets, error)
        except ExecutorFenced:
            self._fence(tickets)
        except BaseException as error:  # noqa: BLE001 - as in `_write`
            return error
        return None

    def _fence(self, tickets: Sequence[Ticket]) -> None:
        self._on_fenced()
        self._answer(tickets, [Fenced(None)] * len(tickets))

    def _answer(self, tickets: Sequence[Ticket], results: Sequence[Result]) -> None:
        self._batches += 1
        tell_all(tickets, results)

    def _isolate(self, tickets: list[Ticket], error: BadWrite) -> None:
        """Find what the database refused by halving, so that it fails alone."""
        groups = by_workflow(tickets)
        if len(groups) == 1:
            if all(ticket.final for ticket in tickets):
                self._put_off(tickets, error)
            else:  # stored with the workflow: without the frames of this error
                tell_all(tickets, [Refused(BadWrite(error.message))] * len(tickets))
            return
        middle = len(groups) // 2
        for half in (groups[:middle], groups[middle:]):
            self._commit([ticket for group in half for ticket in group])

    def _put_off(self, tickets: list[Ticket], error: BadWrite) -> None:
        """What says that a run has failed is refused as well: its workflow must not stay without an end."""
        for ticket in tickets:
            self._later.put(ticket)
            self._outages.waits(self._later, "the end of a workflow cannot be written", error)
            self._outage.say("The failure of workflow %s is refused: %s", ticket.write.workflow_id, error)

    def _write(self, writes: list[Write]) -> Sequence[Result]:
        """Write, and again with back-off for as long as the database gives no answer that is about the writes.

        Raises:
            StillRefused: It refuses the statement again and again, so some of the writes may be to blame.
        """
        pause, tries = FIRST_PAUSE, 0
        self._asked_at = time.monotonic()
        try:
            while True:
                try:
                    results = self._write_batch(writes)
                except (BadWrite, ExecutorFenced):
                    self._went_well()
                    raise
                except BaseException as error:  # an outage, an operator's matter, or a defect of ours
                    self._waits(error, pause)
                    tries += 1
                    if tries >= TRIES_TOGETHER and refuses_statement(error):
                        raise StillRefused from error
                else:
                    self._went_well()
                    return results
                if self._interrupt.wait(pause):
                    raise Interrupted
                pause = min(pause * 2, MAX_PAUSE)
        finally:
            self._asked_at = None

    def _waits(self, error: BaseException, pause: float) -> None:
        waits = "checkpoints and outcomes wait for the database"
        told = self._outages.noticed(self, error, waits, shown(error))
        if not isinstance(error, StorageError) and not self._outage.active:
            logger.exception("A batch met an unexpected error and is tried again.")
        if not told and (pause > MAX_PAUSE / 2 or not isinstance(error, StorageError)):
            self._outage.say("Checkpoints and outcomes wait for the database: %s", shown(error))

    def _went_well(self) -> None:
        self._outages.answered(self)
        if self._outage.active and not self._later:
            self._outages.over(self._later)
            self._outage.over("The database takes checkpoints and outcomes again.")

    @property
    def problems(self) -> list[str]:
        """What is wrong, where no error has said so: a write that has no answer at all."""
        asked_at = self._asked_at
        if asked_at is None or (silent := time.monotonic() - asked_at) < SLOW:
            return []
        return [f"checkpoints and outcomes have waited for the database for {silent:.0f} s"]
