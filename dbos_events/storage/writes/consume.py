"""A message that is consumed, in one write with the checkpoint that holds its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.shapes import named
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.writes.member import Batch


@dataclass(slots=True)
class Consume(Change):
    """Mark the message of this number as consumed by the call whose checkpoint goes with it."""

    message: int

    @property
    def fits_one_call(self) -> bool:
        return True


class Consumes:
    """Marks messages. Only the owner of a workflow consumes what is sent to it, so the checkpoint is the fence."""

    def write(self, batch: Batch) -> None:
        rows = [
            (write.workflow_id, consume.message, write.checkpoint.step)
            for _, write, consume in batch.changes(Consume)
            if write.checkpoint is not None
        ]
        batch.tx.change("consume_messages", named(rows, "workflow_id", "message", "step"))
