"""Claims waiting workflows for all queues of this process: one poller, however many queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from dbos_events.engine.core import Core
from dbos_events.engine.run import Run
from dbos_events.errors import ExecutorFenced, StorageUnavailable
from dbos_events.model.dataclass import dataclass, field
from dbos_events.model.queue import QUEUES_CHANGED, QueueLimits, QueueState, channel_of
from dbos_events.runtime.failing import Failing
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.runtime.taker import taker_of
from dbos_events.serialization.raised import text_of
from dbos_events.storage.subjects.queues import RESUMED
from dbos_events.storage.subjects.taking import TakenWorkflow
from dbos_events.telemetry.log import Recurring

MAX_CLAIM = 200

LOOKS_AT_QUEUES = 1.0
"""Seconds between two looks at the settings of the queues, where no signal says that they have changed."""


@dataclass(slots=True)
class _Serving:
    """What this process knows of one queue that it serves.

    `after` is the partition that the last claim ended with, `free_at` when, by the clock, a rate limit lets more through.
    `heavy` says that not all could be started that was claimed last, since its events are too large for the memory.
    """

    running: int = 0
    busy: dict[str, int] = field(default_factory=dict)
    after: str = ""
    free_at: int | None = None
    heavy: bool = False


class QueueService(Service):
    """Starts what waits, within each queue's limits; counts what runs here."""

    name = "queue"
    takes_work = True

    def __init__(self, core: Core, taken: Taken, max_in_flight: int) -> None:
        super().__init__(interval=0.5)
        self._core = core
        self._taken = taken
        self._max_in_flight = max_in_flight
        self._lock = threading.Lock()
        self._serving: dict[str, _Serving] = {}
        self._subscribed: set[str] = set()
        self._look_at = 0.0
        self._lacks_room = False
        self._failing = Failing()
        self._trouble = Recurring()
        self.left_to_others: Callable[[], frozenset[str]] = frozenset
        """Functions whose work without a queue another service of this process takes up."""

    @property
    def signals(self) -> list[str]:
        return ["queues"]

    def next_due(self) -> int | None:
        """When a place under a rate limit falls free for something that waits."""
        core = self._core
        with self._lock:
            limited = [(one.free_at, name) for name, one in self._serving.items() if one.free_at is not None]
        for free_at, name in sorted(limited):
            if core.storage.queues.waiting(core.application, name, 1):
                return max(free_at, core.clock.now_ms() + 1)
        return None

    def tick(self) -> float | None:
        self._lacks_room = False
        for run in self._taken.start_lost(self):
            self._count(run.queue or "", 1, run.partition)
        if time.monotonic() >= self._look_at:
            self.look_at_queues()
        more = self._claim_all()
        return 0.0 if more else self._pause()

    def _pause(self) -> float:
        """Until the next look: sooner where a rate limit will let something through."""
        with self._lock:
            free = [one.free_at for one in self._serving.values() if one.free_at is not None]
        soon = (min(free) - self._core.clock.now_ms()) / 1000 + 0.001 if free else self.interval
        return min(self.interval, max(0.001, soon))

    def changed(self) -> None:
        """The settings of some queue have changed; called from any thread."""
        self._look_at = 0.0
        self.wake()

    def look_at_queues(self) -> None:
        """Learn which queues there are and what counts for them; be told of what is put on those that are served."""
        core = self._core
        if QUEUES_CHANGED not in self._subscribed:
            self._subscribed.add(QUEUES_CHANGED)
            core.hub.subscribe(QUEUES_CHANGED, _Waking(self.changed))
        states = {state.name: state for state in core.storage.queues.read(core.application)}
        core.registry.stored_queues = states
        self._look_at = time.monotonic() + LOOKS_AT_QUEUES
        served = core.registry.served()
        for state in served:
            if state.name not in self._subscribed:
                self._subscribed.add(state.name)
                core.hub.subscribe(channel_of(state.name), _Waking(self.wake))
        polls = [state.limits.polling_interval_sec for state in served]
        self.interval = max(0.01, min([0.5, *polls]))

    def left(self, run: Run) -> None:
        """A run of a queue has left: there is room for another, if one may wait."""
        self._count(run.queue or "", -1, run.partition)
        if self._lacks_room:
            self.wake()

    def _of(self, name: str) -> _Serving:
        return self._serving.setdefault(name, _Serving())

    def _count(self, name: str, change: int, partition: str | None = None) -> None:
        with self._lock:
            self._counted(name, change, partition)

    def _counted(self, name: str, change: int, partition: str | None) -> None:
        serving = self._of(name)
        serving.running += change
        if partition is not None:
            serving.busy[partition] = serving.busy.get(partition, 0) + change
            if serving.busy[partition] <= 0:
                del serving.busy[partition]

    def _room(self, name: str, limits: QueueLimits) -> int:
        with self._lock:
            here = self._of(name).running
            running = sum(one.running for one in self._serving.values())
            room = min(MAX_CLAIM, self._max_in_flight - running)
            if limits.worker_concurrency is not None:
                room = min(room, limits.worker_concurrency - here)
            # Within shared limits it is the database that may have no room.
            self._lacks_room |= room <= 0 or limits.shared or limits.partitioned
        return room

    @property
    def warnings(self) -> list[str]:
        """One line for each queue of which nothing can be claimed now."""
        return [f"{_shown(name)}: nothing can be claimed: {why}" for name, why in self._failing.problems]

    def _claim_all(self) -> bool:
        """Claim of each queue, and what waits without one. One that fails keeps nobody else waiting: it comes last."""
        more = False
        errors: list[Exception] = []
        queues = {state.name: state for state in self._core.registry.served()}
        queues[RESUMED.name] = RESUMED
        due = self._failing.in_order(list(queues))
        for name in due:
            try:
                more |= self._claim(queues[name])
            except ExecutorFenced:
                raise
            except Exception as error:  # noqa: BLE001 - the other queues are to be served
                self._failing.failed(name, error)
                if not (isinstance(error, StorageUnavailable) and error.away):  # that is told once for all
                    self._trouble.say(
                        "%s: nothing can be claimed; the others go on: %s", _shown(name), text_of(error)
                    )
                errors.append(error)
            else:
                self._failing.worked(name)
        if errors and len(errors) == len(
            due
        ):  # it is not the queue, so none of them waits longer once this is over
            self._failing.try_soon(due)
            raise errors[-1]
        return more

    def _claim(self, queue: QueueState) -> bool:
        room = self._room(queue.name, queue.limits)
        if room <= 0 or queue.paused_at is not None:
            return False
        core = self._core
        names = core.registry.names()
        if queue is RESUMED:
            names = sorted(set(names) - self.left_to_others())
        taker = taker_of(core, names)
        serving = self._of(queue.name)
        if serving.heavy and self._taken.weights.full:
            self._lacks_room = True
            return False
        with self._lock:
            busy = dict(serving.busy)
        with self._taken.taking():
            claim = core.storage.queues.claim(taker, queue, room, busy=busy, after=serving.after)
            self._start(queue.name, claim.rows, room)
        serving.after = claim.after
        serving.free_at = None if claim.wait_ms is None else core.clock.now_ms() + claim.wait_ms
        if claim.changed:
            self.look_at_queues()
        return claim.changed or len(claim.rows) == room

    def _start(self, name: str, rows: Sequence[TakenWorkflow], room: int) -> None:
        with self._lock:
            for row in rows:
                self._counted(name, 1, row.queue_partition_key)
            self._lacks_room |= len(rows) == room
        try:
            unstarted: Sequence[TakenWorkflow] = self._taken.start(rows, host=self)
        except BaseException:
            unstarted = rows
            raise
        finally:
            heavy = self._taken.weights.are_too_heavy([row.id for row in unstarted[-1:]])
            self._of(name).heavy = heavy
            for row in unstarted:
                self._count(name, -1, row.queue_partition_key)


class _Waking:
    """A hub subscriber that does something short."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def wake(self) -> None:
        self._then()


def _shown(name: str) -> str:
    return "what waits without a queue" if name == RESUMED.name else f"queue {name}"
