"""A run that gives its workflow up and waits as a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.database import Row
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write

UNRELATED_POLL_MS = 5000
"""How often a parked workflow looks for the end of one that is not its child."""


@dataclass(slots=True)
class Park(Change):
    """Give the workflow up until `wake_at` or until the workflow `awaited_id` has ended.

    `polls` says that it waits for more workflows than the one, so it has to look now and then.
    """

    wake_at: int | None
    awaited_id: str | None = None
    polls: bool = False

    closes: ClassVar[bool] = True


class Parks:
    """Parks runs, unless what they wait for has come true meanwhile: then they are due at once."""

    def write(self, batch: Batch) -> None:
        parks = batch.changes(Park)
        if not parks:
            return
        awaited = [park.awaited_id for _, _, park in parks if park.awaited_id is not None]
        locked = {row.id: row for row in batch.tx.run("lock_awaited", ids=awaited)} if awaited else {}
        now = batch.tx.run("now")[0].now
        rows = [_row(write, park, locked, now) for _, write, park in parks]
        if batch.change("update_parks", rows) < len(rows):
            tokens = batch.tokens([write.workflow_id for _, write, _ in parks])
            batch.refuse([(number, write) for number, write, _ in parks if not _is_parked(tokens, write)])


def _is_parked(tokens: Mapping[str, Row], write: Write) -> bool:
    """Parked by this very run: the workflow was not taken since."""
    token = tokens.get(write.workflow_id)
    return (
        token is not None and token.owner is None and token.take == write.take and token.status == "PENDING"
    )


def _row(write: Write, park: Park, locked: Mapping[str, Row], now: int) -> dict[str, Any]:
    """When to wake: at its time, at once if what it waits for has ended, or by a slow poll."""
    wake_at, awaited_id = park.wake_at, park.awaited_id
    if awaited_id is not None:
        row = locked.get(awaited_id)
        if row is None or row.status not in ("PENDING", "ENQUEUED", "DELAYED"):
            wake_at, awaited_id = now, None
        elif park.polls or row.parent_id != write.workflow_id:
            wake_at = min(wake_at or now + UNRELATED_POLL_MS, now + UNRELATED_POLL_MS)
    elif wake_at is None:
        wake_at = now + UNRELATED_POLL_MS
    return {
        "workflow_id": write.workflow_id,
        "take": write.take,
        "wake_at": wake_at,
        "awaited_id": awaited_id,
    }
