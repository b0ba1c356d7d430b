"""Finds crashed processes of the application and takes their work up, all the time."""

from __future__ import annotations

import time

from dbos_events.engine.core import Core
from dbos_events.errors import DBOSException
from dbos_events.model.dataclass import dataclass
from dbos_events.runtime.contested import ContestedNames
from dbos_events.runtime.failing import noted
from dbos_events.runtime.identity import ProcessIdentity, still_exists, this_process
from dbos_events.runtime.lease import HEARTBEATS
from dbos_events.runtime.service import Service
from dbos_events.runtime.taken import Taken
from dbos_events.runtime.taker import taker_of
from dbos_events.runtime.unhandled import UnhandledAlarm
from dbos_events.storage.apart import Apart
from dbos_events.storage.subjects.executors import ExecutorRow
from dbos_events.telemetry.log import Recurring, logger

BATCH = 200
SLOW_LOOK_SECONDS = 2.0
"""A look may take so long without anything being wrong."""


@dataclass(slots=True)
class _Watched:
    """When a heartbeat was last seen to move, on this process's own monotonic clock."""

    heartbeat: int
    since: float


class RecoveryService(Service):
    """Declares executors dead and adopts what they ran.

    Dead means that the lease is over by the database's clock *and* that the heartbeat has not moved
    for one whole lease on our own clock, while we looked: after an outage or a suspended laptop nobody is
    declared dead by the first process that is back. A process of this very host that does not exist any more
    is dead at once, and a silent one that had this process's own explicit executor_id after two heartbeats.
    """

    name = "recovery"
    takes_work = True

    def __init__(self, core: Core, taken: Taken, lease_seconds: float, explicit_label: str | None) -> None:
        super().__init__(interval=min(1.0, lease_seconds / 4))
        self._core = core
        self._taken = taken
        self._lease_seconds = lease_seconds
        self._explicit_label = explicit_label
        self._twins = Recurring()
        self._here = this_process()
        self._watched: dict[int, _Watched] = {}
        self._looked_at = time.monotonic()
        self.unhandled = UnhandledAlarm(core)
        self.contested = ContestedNames(core)

    @property
    def _apart(self) -> tuple[Apart, Apart]:
        """What waits apart, whichever service has found that it cannot be taken up."""
        return self._core.storage.apart, self._core.storage.publications.apart

    def next_due(self) -> int | None:
        return min((due for one in self._apart if (due := one.next_due()) is not None), default=None)

    @property
    def warnings(self) -> list[str]:
        apart = (self._core.storage.apart, self._core.storage.publications.apart)
        return [line for one in apart for line in one.problems] + [
            *self.unhandled.problems,
            *self.contested.problems,
        ]

    def tick(self) -> float | None:
        rows = self.look_at_names()
        self._forget_what_was_not_watched()
        errors: list[DBOSException] = []
        for row in rows:
            if row.alive and row.id != self._core.executor:
                with noted(errors):  # one that cannot be judged now keeps none of the others
                    self._judge(row)
        others = {row.id for row in rows}
        self._watched = {id_: watched for id_, watched in self._watched.items() if id_ in others}
        with noted(errors):
            self._free_lanes()
        if self._adopt():
            return 0.05
        self.unhandled.look()
        if errors:
            raise errors[0]
        return None

    def look_at_names(self) -> list[ExecutorRow]:
        """Compare what the processes declare; before this one takes anything up. Gives them."""
        rows = self._core.storage.executors.read(self._core.application)
        self.contested.look(rows)
        return rows

    def _forget_what_was_not_watched(self) -> None:
        """While this process could not look, the others could not beat, or it would have missed them: they begin anew."""
        now = time.monotonic()
        if now - self._looked_at > max(self._lease_seconds / 2, SLOW_LOOK_SECONDS):
            self._watched.clear()
        self._looked_at = now

    def _judge(self, row: ExecutorRow) -> None:
        reason = self._cause_of_death(row)
        if reason is not None and self._core.storage.executors.declare_dead(row.id, row.heartbeat, reason):
            logger.warning("Executor %s (%s) is dead: %s. Its work is taken up.", row.id, row.label, reason)

    def _cause_of_death(self, row: ExecutorRow) -> str | None:
        identity = ProcessIdentity(row.boot_id, row.pid_namespace, row.pid, row.process_started)
        if still_exists(identity, self._here) is False:
            return "its process does not exist any more"
        now = time.monotonic()
        watched = self._watched.get(row.id)
        succeeds = row.explicit and row.label == self._explicit_label and row.id < self._core.executor
        if watched is None or watched.heartbeat != row.heartbeat:
            self._watched[row.id] = _Watched(row.heartbeat, now)
            if succeeds and watched is not None:
                self._twins.say(
                    "Two live processes have the executor_id %r: this one and executor %s. Nothing is taken from the "
                    "other; give each process an executor_id of its own, or none.",
                    row.label,
                    row.id,
                )
            return None
        if succeeds and now - watched.since >= self._lease_seconds / HEARTBEATS * 2:
            return "this process has succeeded to its executor_id"
        if row.lease_over and now - watched.since >= self._lease_seconds:
            return f"no heartbeat for {now - watched.since:.0f} s"
        return None

    def _free_lanes(self) -> None:
        """Let the holders of lanes run what dead executors own in them."""
        if self._core.storage.lanes.free_of_dead(self._core.application):
            self._core.hub.signal("lanes")

    def _adopt(self) -> bool:
        """Take up to one batch of dead executors' work; True when there may be more."""
        core = self._core
        limits = self.contested.adoptable()
        with self._taken.taking():
            rows = core.storage.taking.adopt(taker_of(core, sorted(limits)), limits, BATCH)
            self._taken.start(rows)
        if rows:
            logger.info("Took up %d workflows of dead executors.", len(rows))
        return len(rows) == BATCH
