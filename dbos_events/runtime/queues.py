"""Claims waiting workflows for all queues of this process: one poller, however many queues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from dbos_events.engine.core import Core
from dbos_events.engine.run import Run
from dbos_events.errors import ExecutorFenced, StorageUnavailable
from dbos_events.model.queue import QueueLimits, channel_of
from dbos_events.model.workflow import ENQUEUED, WorkflowFilter
from dbos_events.runtime.failing import Failing
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.serialization.raised import text_of
from dbos_events.storage.rows import TakenWorkflow
from dbos_events.telemetry.log import Recurring

MAX_CLAIM = 200

RESUMED = "\0resumed"
"""Stands among the names of queues for what waits without one."""


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
        self._running: dict[str, int] = {}
        self._lacks_room = False
        self._failing = Failing()
        self._trouble = Recurring()
        self.left_to_others: Callable[[], frozenset[str]] = frozenset
        """Functions whose work without a queue another service of this process takes up."""

    @property
    def signals(self) -> list[str]:
        return ["queues", *(channel_of(name) for name in self._core.registry.queues)]

    def next_due(self) -> int | None:
        """When a place under a rate limit falls free for something that waits."""
        limited = {
            name: limits.limiter["period"]
            for name, limits in self._core.registry.queues.items()
            if limits.limiter is not None
        }
        if not limited:
            return None
        waiting = WorkflowFilter(
            statuses=(ENQUEUED,), queues=tuple(limited), with_input=False, with_output=False
        )
        queues = {row["queue"] for row in self._core.storage.list_workflows(waiting)}
        now = self._core.clock.now_ms()
        return min((now + max(1, round(limited[name] * 1000)) for name in queues), default=None)

    def tick(self) -> float | None:
        self._lacks_room = False
        for run in self._taken.start_lost(self):
            self._count(run.queue or "", 1)
        more = self._claim_all()
        return 0.0 if more else None

    def left(self, run: Run) -> None:
        """A run of a queue has left: there is room for another, if one may wait."""
        self._count(run.queue or "", -1)
        if self._lacks_room:
            self.wake()

    def _count(self, name: str, change: int) -> None:
        with self._lock:
            self._running[name] = self._running.get(name, 0) + change

    def _room(self, name: str, limits: QueueLimits | None) -> int:
        with self._lock:
            here = self._running.get(name, 0)
            room = min(MAX_CLAIM, self._max_in_flight - sum(self._running.values()))
            if limits is not None and limits.worker_concurrency is not None:
                room = min(room, limits.worker_concurrency - here)
            # Within shared limits it is the database that may have no room.
            self._lacks_room |= room <= 0 or (limits is not None and limits.shared)
        return room

    @property
    def warnings(self) -> list[str]:
        """One line for each queue of which nothing can be claimed now."""
        return [f"{_shown(name)}: nothing can be claimed: {why}" for name, why in self._failing.problems]

    def _claim_all(self) -> bool:
        """Claim of each queue, and what waits without one. One that fails keeps nobody else waiting: it comes last."""
        more = False
        errors: list[Exception] = []
        queues = dict(self._core.registry.queues)
        due = self._failing.in_order([*queues, RESUMED])
        for name in due:
            try:
                more |= self._claim_resumed() if name == RESUMED else self._claim(name, queues[name])
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

    def _claim(self, name: str, limits: QueueLimits) -> bool:
        room = self._room(name, limits)
        if room <= 0:
            return False
        core = self._core
        with self._taken.taking():
            rows = core.storage.claim(
                core.executor,
                core.application,
                core.version,
                name,
                limits,
                core.registry.names(),
                room,
                core.waits_for_version,
            )
            self._start(name, rows, room)
        return len(rows) == room and not limits.shared

    def _claim_resumed(self) -> bool:
        room = self._room("", None)
        if room <= 0:
            return False
        core = self._core
        names = sorted(set(core.registry.names()) - self.left_to_others())
        with self._taken.taking():
            rows = core.storage.claim_resumed(
                core.executor, core.application, core.version, names, room, core.waits_for_version
            )
            self._start("", rows, room)
        return len(rows) == room

    def _start(self, name: str, rows: Sequence[TakenWorkflow], room: int) -> None:
        with self._lock:
            self._running[name] = self._running.get(name, 0) + len(rows)
            self._lacks_room |= len(rows) == room
        try:
            unstarted = self._taken.start(rows, host=self)
        except BaseException:
            self._count(name, -len(rows))
            raise
        if unstarted:
            self._count(name, -unstarted)


def _shown(name: str) -> str:
    return "what waits without a queue" if name == RESUMED else f"queue {name}"
