"""Defects that are put into the product to see whether the runs find them."""

from collections.abc import Callable
from typing import Any

from dbos_events.storage.database import Tx
from dbos_events.storage.families import intake
from dbos_events.storage.rows import IntakeBatch, IntakeResult


def watermark_first() -> None:
    """Move the watermark in a transaction of its own, before that in which the events are inserted."""
    whole = intake._intake

    def in_two(self: Any, batch: IntakeBatch) -> IntakeResult:
        place = {"consumer": batch.consumer, "incarnation": batch.incarnation}
        moves = [(partition, move[2], move[3]) for partition, move in sorted(batch.moves.items())]
        self._database.transact(lambda tx: tx.change("move_watermarks", moves, **place))
        result: IntakeResult = self._database.transact(lambda tx: whole(_WithoutMove(tx), batch))
        return result

    intake._compare_watermarks = lambda tx, batch: (set(), set())  # noqa: ARG005
    intake.IntakeTable.intake = in_two  # type: ignore[method-assign]


class _WithoutMove(Tx):
    """A transaction in which the watermark has been moved before."""

    def __init__(self, tx: Tx) -> None:
        super().__init__(tx._database, tx.connection)

    def change(self, name: str, rows: Any, /, **parameters: Any) -> int:
        return 0 if name == "move_watermarks" else super().change(name, rows, **parameters)


DEFECTS: dict[str, Callable[[], None]] = {"watermark first": watermark_first}
