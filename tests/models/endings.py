"""The model of the storage, rule 20: deadlines, starts that come too late, trees that are cancelled."""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.subjects.endings import EndedLate
from tests.models.protocol import Taking
from tests.models.state import OPEN, Workflow


class Endings(Taking):
    """What ends workflows from outside. A time that has passed ends them whenever somebody looks."""

    def next_due(self, application: str) -> int | None:
        rows = [row for row in self.workflows.values() if row.application == application]
        times = [row.deadline for row in rows if row.deadline is not None and row.status in OPEN]
        times += [
            row.start_by for row in rows if row.start_by is not None and row.status in ("ENQUEUED", "DELAYED")
        ]
        return min(times) - self.now() if times else None

    def end_due(self, application: str, count: int) -> list[EndedLate]:
        rows = [
            row for row in self.workflows.values() if row.application == application and row.status in OPEN
        ]
        late = [row for row in rows if row.deadline is not None and row.deadline <= self.now()]
        late = sorted(late, key=lambda row: row.deadline or 0)[:count]
        self._cancel(late, "timeout")
        unclaimed = [
            row
            for row in rows
            if row.status != "PENDING"
            and row.status in OPEN
            and row.start_by is not None
            and row.start_by <= self.now()
        ]
        unclaimed = sorted(unclaimed, key=lambda row: row.start_by or 0)[:count]
        self._cancel(unclaimed, "queue-timeout")
        return [
            *(EndedLate(row.id, "timeout") for row in late),
            *(EndedLate(row.id, "queue-timeout") for row in unclaimed),
        ]

    def cancel_trees(self, workflow_ids: Sequence[str]) -> list[str]:
        tree = {one for one in workflow_ids if one in self.workflows}
        while more := {row.id for row in self.workflows.values() if row.parent_id in tree} - tree:
            tree |= more
        return self.cancel(sorted(tree))

    def _cancel(self, rows: Sequence[Workflow], reason: str) -> None:
        for row in rows:
            row.status, row.wake_at, row.awaits, row.end_reason = "CANCELLED", None, frozenset(), reason
        for row in rows:
            self._end_from_outside(row, reason)
