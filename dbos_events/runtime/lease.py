"""The heartbeat: keeps this executor's lease, and learns what it may not run any more."""

from __future__ import annotations

from collections.abc import Callable

from dbos_events.clock import elapsed
from dbos_events.engine.core import Core
from dbos_events.engine.waits import LEASE
from dbos_events.errors import DBOSWorkflowConflictIDError
from dbos_events.model.workflow import CANCELLED, CANCELLED_SIGNAL
from dbos_events.runtime.service import Service

HEARTBEATS = 4
"""Heartbeats within the length of a lease."""


class LeaseService(Service):
    """Renews the lease four times within its length.

    When the database says that the executor is dead, `on_fenced` is called: all runs are dropped
    and the process registers anew. A process that cannot renew its lease in time starts nothing
    more by itself, before anybody else may take its work: its durable operations wait.
    """

    name = "lease"
    signals = (CANCELLED_SIGNAL,)

    def __init__(self, core: Core, lease_seconds: float, on_fenced: Callable[[], object]) -> None:
        super().__init__(interval=lease_seconds / HEARTBEATS)
        self._core = core
        self._lease_seconds = lease_seconds
        self._on_fenced = on_fenced
        self.renewed_at = elapsed()

    @property
    def is_fresh(self) -> bool:
        return elapsed() - self.renewed_at < self._lease_seconds

    def tick(self) -> float | None:
        executor = self._core.executor
        began = elapsed()  # the database counts from a later moment
        if not self._core.storage.executors.renew(executor, round(self._lease_seconds * 1000)):
            self._on_fenced()
            return None
        self.renewed_at = began
        if not self._core.clock.manual:
            self._core.lease_end = began + self._lease_seconds
        self._core.hub.signal(LEASE)
        self._stop_what_was_taken(executor)
        return None

    def _stop_what_was_taken(self, executor: int) -> None:
        """Tell runs that were cancelled, or taken away, by another process."""
        active = tuple(self._core.runner.active)
        for start in range(0, len(active), 1000):
            stopped = self._core.storage.workflows.stopped_among(executor, active[start : start + 1000])
            for workflow_id, status in stopped.items():
                run = self._core.runner.active.get(workflow_id)
                if run is None or run.proposed is not None:
                    continue
                run.stop(run.cancellation() if status == CANCELLED else DBOSWorkflowConflictIDError(run.id))
