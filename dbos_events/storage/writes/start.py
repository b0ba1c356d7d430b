"""A workflow to start: from another workflow, or from outside of workflows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dbos_events.storage.writes.answers import Existing
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write


@dataclass(slots=True)
class NewWorkflow(Change):
    """A workflow to insert: PENDING and owned by the writing executor, or ENQUEUED on `queue`.

    `start_id` tells an insert whose commit answer was lost from somebody else's.
    """

    id: str
    name: str
    application: str
    start_id: int
    status: str
    version: str | None
    codec: str | None = None
    input: str | None = None
    class_name: str | None = None
    queue: str | None = None
    priority: int = 0
    parent_id: str | None = None
    root_id: str | None = None
    timeout_ms: int | None = None
    deadline: int | None = None
    start_by: int | None = None

    starts: ClassVar[bool] = True


class Starts:
    """Inserts the workflows that a batch starts. An id that exists already is answered with what is there."""

    def write(self, batch: Batch) -> None:
        starts = batch.changes(NewWorkflow)
        rows = batch.tx.rows("insert_starts", [(start,) for _, _, start in starts])
        if batch.change("insert_starts", rows) < len(rows):
            self._judge(batch, starts)
        payloads = batch.tx.rows("insert_start_payloads", [(start,) for _, _, start in starts])
        batch.tx.change("insert_start_payloads", payloads)

    def _judge(self, batch: Batch, starts: Sequence[tuple[int, Write, NewWorkflow]]) -> None:
        """Ours are those that were inserted now, or by a commit whose answer was lost."""
        tokens = batch.tokens([start.id for _, _, start in starts])
        for number, _, start in starts:
            token = tokens[start.id]
            if token.start_id != start.start_id:
                batch.results[number] = Existing(
                    start.id, token.name, token.status, token.queue, token.class_name
                )
