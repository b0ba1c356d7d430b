"""How a member of the family of writes is written, and how a row that was not hit is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dbos_events.storage.writes.answers import WRITTEN, Fenced, Result, Written
from dbos_events.storage.writes.write import Change, Write

if TYPE_CHECKING:
    from dbos_events.storage.database import Row, Tx

C = TypeVar("C", bound=Change)


class Member(Protocol):
    """Writes what is of its kind in a batch, in one statement for all of it where that is possible."""

    def write(self, batch: Batch) -> None:
        """Write the batch's entries of this kind, and set an answer for each that was not written."""
        ...


class Batch:
    """One batch in its transaction, under the fence; its members write into it one after the other.

    `results` are the answers, in the order of the writes. The unit of isolation is the run: after one refused write
    all later writes of it are refused. `repeated` are those whose checkpoint was there before: a commit whose answer was
    lost is written again as the same batch, so all of them are, or none.
    """

    def __init__(self, tx: Tx, executor: int, writes: Sequence[Write]) -> None:
        self.tx = tx
        self.executor = executor
        self.writes = writes
        self.results: list[Result] = [WRITTEN] * len(writes)
        self.repeated: set[int] = set()
        self._refused: set[tuple[str, int, bool]] = set()

    def changes(self, kind: type[C]) -> list[tuple[int, Write, C]]:
        """The writes with a change of this kind whose run has lost none, with their numbers."""
        return [
            (number, write, write.change)
            for number, write in enumerate(self.writes)
            if isinstance(write.change, kind) and self.may_go_on(number, write)
        ]

    def change(self, statement: str, rows: Sequence[Any], **parameters: Any) -> int:
        """Execute a statement for these rows under the executor; gives how many rows it hit."""
        return self.tx.change(statement, rows, executor=self.executor, **parameters)

    def refuse(self, lost: Sequence[tuple[int, Write]]) -> None:
        """Answer that these are not the run's to write any more, with the status that its workflow has."""
        if not lost:
            return
        tokens = self.tokens([write.workflow_id for _, write in lost])
        for number, write in lost:
            token = tokens.get(write.workflow_id)
            self.results[number] = Fenced(token.status if token is not None else None)
            self._refused.add((write.workflow_id, write.take, write.shielded))

    def refuse_unwritten(
        self, entries: Sequence[tuple[int, Write, int]], statement: str, places: Sequence[Any]
    ) -> None:
        """Of what was not inserted, as it may be there already, refuse all but what our own hand has written.

        `entries` have the number of the write, the write, and the id that it wrote with; `statement` reads what this
        executor has written at these `places`.
        """
        ours = {
            (row.workflow_id, row.write_id)
            for row in self.tx.batch(statement, places, executor=self.executor)
        }
        self.refuse(
            [(number, write) for number, write, id_ in entries if (write.workflow_id, id_) not in ours]
        )

    def may_go_on(self, number: int, write: Write) -> bool:
        """Whether the write's run has lost none of its writes in this batch; otherwise this one is lost too."""
        if (write.workflow_id, write.take, write.shielded) not in self._refused:
            return True
        if isinstance(self.results[number], Written):
            self.results[number] = Fenced(None)
        return False

    def tokens(self, ids: Sequence[str]) -> dict[str, Row]:
        """The owner tokens of these workflows as they are now."""
        return {row.id: row for row in self.tx.run("read_tokens", ids=ids)} if ids else {}
