"""A run that gives its workflow up and waits as a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.shapes import named
from dbos_events.storage.writes.waiting import SEVERAL, Key, ParkedKey, lock_meetings, look_again
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.database import Row
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write

UNRELATED_POLL_MS = 5000
"""How often a parked workflow looks for what nobody might tell it of, as the end of one that is not its child."""


@dataclass(slots=True)
class Park(Change):
    """Give the workflow up until `wake_at`, or until one of the `keys` is true."""

    wake_at: int | None
    keys: tuple[Key, ...] = ()

    closes: ClassVar[bool] = True


Parking: TypeAlias = "tuple[int, Write, Park]"


class Parks:
    """Parks runs, unless what they wait for has come true meanwhile: then they are due at once.

    The look is a statement of its own, after the rows are locked on which a waiter and whoever makes its key true meet.
    """

    def write(self, batch: Batch) -> None:
        parks = batch.changes(Park)
        if not parks:
            return
        waiting = [
            ParkedKey(number, write.workflow_id, key) for number, write, park in parks for key in park.keys
        ]
        lock_meetings(batch.tx, waiting)
        now = batch.tx.run("now")[0].now
        rows = [_row(write, park, now) for _, write, park in parks]
        parked = {row.id for row in batch.tx.batch("update_parks", rows, executor=batch.executor)}
        others = [(number, write) for number, write, _ in parks if write.workflow_id not in parked]
        if others:
            tokens = batch.tokens([write.workflow_id for _, write in others])
            batch.refuse([(number, write) for number, write in others if not _is_parked(tokens, write)])
        now_parked = [one for one in parks if one[1].workflow_id in parked]
        self._note_keys(batch, now_parked)
        self._look_again(batch, now_parked, waiting, now)

    def _note_keys(self, batch: Batch, parks: Sequence[Parking]) -> None:
        several = [
            (write.workflow_id, write.take, key)
            for _, write, park in parks
            if len(park.keys) > 1
            for key in sorted({key.text for key in park.keys})
        ]
        batch.tx.change("insert_parked_keys", named(several, "workflow_id", "take", "key"))

    def _look_again(
        self, batch: Batch, parks: Sequence[Parking], waiting: Sequence[ParkedKey], now: int
    ) -> None:
        numbers = {number for number, _, _ in parks}
        true, polling = look_again(batch.tx, [one for one in waiting if one.number in numbers])
        hastened = []
        for number, write, park in parks:
            wake_at = now
            if number not in true:
                if number not in polling:
                    continue
                wake_at = now + UNRELATED_POLL_MS
                if park.wake_at is not None and park.wake_at <= wake_at:
                    continue
            hastened.append(
                {
                    "workflow_id": write.workflow_id,
                    "take": write.take,
                    "wake_at": wake_at,
                    "is_true": number in true,
                }
            )
        batch.tx.change("hasten_parks", hastened)


def _is_parked(tokens: Mapping[str, Row], write: Write) -> bool:
    """Parked by this very run: the workflow was not taken since."""
    token = tokens.get(write.workflow_id)
    return (
        token is not None and token.owner is None and token.take == write.take and token.status == "PENDING"
    )


def _row(write: Write, park: Park, now: int) -> dict[str, Any]:
    """When to wake; what waits for nothing at all is looked at now and then."""
    keys = {key.text for key in park.keys}
    awaits = None if not keys else next(iter(keys)) if len(keys) == 1 else SEVERAL
    wake_at = park.wake_at
    if wake_at is None and awaits is None:
        wake_at = now + UNRELATED_POLL_MS
    return {"workflow_id": write.workflow_id, "take": write.take, "wake_at": wake_at, "awaits": awaits}
