"""A value that a workflow publishes under a key, with `set_event`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.model.dataclass import dataclass
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
    durable: bool = False
    """Set when it was written, where the database says at once that all of the batch was."""

    @property
    def fits_one_call(self) -> bool:
        return True


def value_key(workflow_id: str, key: str) -> Key:
    """That the workflow has published a value under this key, or has ended without it."""
    return Key("value", workflow_id, key)


class SetValues:
    """Writes the values that a batch publishes, each once, and wakes those who wait for them."""

    def write(self, batch: Batch) -> None:
        sets = batch.changes(SetValue)
        if not sets:
            return
        tx = batch.tx
        rows = tx.rows("insert_values", [(write, value) for _, write, value in sets])
        if batch.change("insert_values", rows) < len(rows):
            places = tx.rows("read_written_values", [(write, value) for _, write, value in sets])
            ids = [(number, write, value.write_id) for number, write, value in sets]
            batch.refuse_unwritten(ids, "read_written_values", places)
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
