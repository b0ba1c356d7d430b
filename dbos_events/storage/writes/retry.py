"""The end of a generation whose workflow is tried again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.shapes import named
from dbos_events.storage.writes.match import give_back
from dbos_events.storage.writes.outcome import Failure
from dbos_events.storage.writes.values_and_streams import cut_values_and_streams
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.database import Row, Tx
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.write import Write


@dataclass(frozen=True, slots=True)
class NextAttempt(Change):
    """End this generation and begin the next one `delay_ms` from now."""

    delay_ms: int
    attempt: int
    reason: str
    failure: Failure

    closes: ClassVar[bool] = True


class Retries:
    """Gives workflows up until their next attempt, and hands their checkpoints on to it."""

    def write(self, batch: Batch) -> None:
        retries = batch.changes(NextAttempt)
        if not retries:
            return
        tx = batch.tx
        rows = [
            {
                "workflow_id": write.workflow_id,
                "token": write.take,
                "ended": write.generation,
                "delay_ms": retry.delay_ms,
                "attempt": retry.attempt,
            }
            for _, write, retry in retries
        ]
        begun = {(row.id, row.take) for row in tx.batch("update_retries", rows, executor=batch.executor)}
        ended = [(write, retry) for _, write, retry in retries if (write.workflow_id, write.take) in begun]
        keep_but(tx, {(write.workflow_id, write.generation): retry.failure.steps for write, retry in ended})
        cut_values_and_streams(tx, {write.workflow_id: write.generation for write, _ in ended})
        history = [_ended(write, retry) for write, retry in ended]
        tx.change("insert_generations", history)
        others = [
            (number, write) for number, write, _ in retries if (write.workflow_id, write.take) not in begun
        ]
        tokens = batch.tokens([write.workflow_id for _, write in others])
        batch.refuse([(number, write) for number, write in others if not _is_next_attempt(tokens, write)])


def _ended(write: Write, retry: NextAttempt) -> dict[str, Any]:
    """A row of insert_generations."""
    failure = retry.failure
    return {
        "workflow_id": write.workflow_id,
        "generation": write.generation,
        "attempt": retry.attempt,
        "ended_as": "retry",
        "reason": retry.reason,
        "codec": failure.codec,
        "error": failure.error,
        "error_type": failure.type,
        "error_message": failure.message,
        "edited": False,
        "delay_ms": retry.delay_ms,
    }


def _is_next_attempt(tokens: Mapping[str, Row], write: Write) -> bool:
    """Whether this very run has given its workflow up for the next attempt: our own lost commit answer."""
    token = tokens.get(write.workflow_id)
    return (
        token is not None
        and token.owner is None
        and (token.take, token.generation) == (write.take, write.generation + 1)
    )


def keep_but(tx: Tx, ended: Mapping[tuple[str, int], Sequence[int]]) -> None:
    """Hand the checkpoints of (workflow, generation) on to the next generation, but for these steps."""
    tx.change("move_checkpoints", named(ended, "workflow_id", "generation"))
    archived = [(*key, step) for key, steps in ended.items() for step in steps]
    failed = named(archived, "workflow_id", "generation", "step")
    tx.change("archive_checkpoints", failed)
    tx.change("archive_children", failed)
    tx.change("return_messages", failed)
    give_back(tx, failed)
