"""A value that a workflow publishes under a key, with `set_event`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbos_events.storage.writes.waiting import Key, wake
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.writes.member import Batch


@dataclass(slots=True)
class SetValue(Change):
    """The value of `key` from now on. Of all values of a key the one with the highest take and number counts.

    `step` is the call that sets it: a later generation has the value if it has that call. `replaces` is the number of
    what the same call has set before.
    """

    key: str
    number: int
    step: int
    codec: str | None
    value: str | None
    write_id: int
    replaces: int | None = None
    woke: bool = False
    """Set when it was written: whether a parked run is due now that had waited for it."""


def value_key(workflow_id: str, key: str) -> Key:
    """That the workflow has published a value under this key, or has ended without it."""
    return Key("value", workflow_id, key)


class Values:
    """Writes the values that a batch publishes, each once, and wakes those who wait for them."""

    def write(self, batch: Batch) -> None:
        sets = batch.changes(SetValue)
        if not sets:
            return
        tx = batch.tx
        rows = tx.rows("insert_values", [(write, value) for _, write, value in sets])
        if batch.change("insert_values", rows) < len(rows):
            self._judge(batch)
        done = batch.changes(SetValue)
        if not done:
            return
        replaced = tx.rows(
            "delete_replaced_values",
            [(write, value) for _, write, value in done if value.replaces is not None],
        )
        tx.change("delete_replaced_values", replaced)
        published = {(write.workflow_id, value.key) for _, write, value in done}
        woken = wake(tx, [value_key(*one) for one in sorted(published)])
        done[-1][2].woke = bool(woken)

    def _judge(self, batch: Batch) -> None:
        """What was not inserted is there by our own hand already, or is not ours to write."""
        sets = batch.changes(SetValue)
        keys = batch.tx.rows("read_written_values", [(write, value) for _, write, value in sets])
        ours = {
            (row.workflow_id, row.write_id)
            for row in batch.tx.batch("read_written_values", keys, executor=batch.executor)
        }
        batch.refuse(
            [
                (number, write)
                for number, write, value in sets
                if (write.workflow_id, value.write_id) not in ours
            ]
        )
