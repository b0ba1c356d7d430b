"""A workflow to start: from another workflow, or from outside of workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from dbos_events.errors import StorageUnavailable
from dbos_events.model.dataclass import dataclass
from dbos_events.storage.writes.answers import Deduplicated, Existing
from dbos_events.storage.writes.write import Change

ATTEMPTS = 20
"""How often a start is tried whose deduplication id is given up and taken again all the time."""

if TYPE_CHECKING:
    from dbos_events.storage.database import Row
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write


@dataclass(slots=True)
class NewWorkflow(Change):
    """A workflow to insert: PENDING and owned by the writing executor, or ENQUEUED or DELAYED on `queue`.

    `start_id` tells an insert whose commit answer was lost from somebody else's. `deduplication_id` may be had by one
    workflow of the queue at a time.
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
    deduplication_id: str | None = None
    queue_partition_key: str | None = None
    delay_ms: int | None = None
    version_pinned: bool | None = None
    attributes: str | None = None
    timeout_ms: int | None = None
    deadline: int | None = None
    start_by: int | None = None
    rejects_existing: bool = False
    """Whether an id that is taken is an error, so that nothing may be recorded of the start."""

    starts: ClassVar[bool] = True

    @property
    def fits_one_call(self) -> bool:
        return True


class Starts:
    """Inserts the workflows that a batch starts.

    An id that exists already is answered with what is there, a deduplication id that is taken with whoever has it.
    """

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
        for number, write, start in starts:
            token = tokens.get(start.id)
            if token is None:
                token = self._against_a_winner(batch, number, write, start)
            if token is not None and token.start_id != start.start_id:
                batch.results[number] = Existing(
                    start.id, token.name, token.status, token.queue, token.class_name
                )
                if start.rejects_existing:
                    _withdraw(batch, write)

    def _against_a_winner(self, batch: Batch, number: int, write: Write, start: NewWorkflow) -> Row | None:
        """Nothing was inserted, and nothing has its id: another has its deduplication id, or had it a moment ago.

        Whoever had it may have ended between the insert and this look; then there is room now.
        """
        for _ in range(ATTEMPTS):
            winner = batch.tx.one(
                "read_winner",
                application=start.application,
                queue=start.queue,
                deduplication_id=start.deduplication_id,
            )
            if winner is not None:
                batch.results[number] = Deduplicated(winner.id)
                _withdraw(batch, write)
                return None
            if batch.change("insert_starts", batch.tx.rows("insert_starts", [(start,)])):
                return None
            token = batch.tokens([start.id]).get(start.id)
            if token is not None:
                return token
        raise StorageUnavailable(
            f"The deduplication id {start.deduplication_id!r} changed hands all the time; it is tried again."
        )


def _withdraw(batch: Batch, write: Write) -> None:
    """Take back what was recorded in this transaction of a start that did not happen."""
    if write.checkpoint is not None:
        batch.tx.run(
            "withdraw_checkpoints",
            workflow_id=write.workflow_id,
            generation=write.generation,
            step=write.checkpoint.step,
            write_id=write.checkpoint.write_id,
            executor=batch.executor,
        )
