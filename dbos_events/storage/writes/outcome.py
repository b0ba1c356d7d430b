"""How a workflow ended: its status, its result, and why its event is put aside, if it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.writes.answers import Fenced
from dbos_events.storage.writes.waiting import result_key, wake, wake_readers
from dbos_events.storage.writes.write import Change

if TYPE_CHECKING:
    from dbos_events.storage.writes.checkpoint import Numbered
    from dbos_events.storage.writes.member import Batch
    from dbos_events.storage.writes.start import NewWorkflow
    from dbos_events.storage.writes.write import Write


@dataclass(slots=True)
class QuarantineNote:
    """Why an event's workflow is put aside."""

    consumer: int
    reason: str
    error: str | None
    attempts: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that a generation ended with, and the steps that it came from.

    `type` and `message` say it to people and to filters without decoding anything. `steps` are the numbers
    of the checkpoints that the next generation does not get.
    """

    codec: str
    error: str
    type: str
    message: str
    steps: tuple[int, ...]


@dataclass(slots=True)
class Outcome(Change):
    """How a workflow ended here."""

    status: str
    codec: str | None = None
    output: str | None = None
    error: str | None = None
    parent_id: str | None = None
    quarantine: QuarantineNote | None = None
    frees_lane: bool = True
    follows: NewWorkflow | None = None
    """A workflow without an owner that is started in the same transaction."""
    woke: bool = False
    """Set when it was written: whether a parked run is due now that had waited for what the workflow publishes."""

    closes: ClassVar[bool] = True

    @property
    def fits_one_call(self) -> bool:
        """Where no event is put aside, and nothing is started."""
        return self.quarantine is None and self.follows is None


class Ended(NamedTuple):
    """The outcome of a run, and the text of the checkpoints that go with it."""

    number: int
    write: Write
    outcome: Outcome
    own_checkpoints: str | None


class Outcomes:
    """Writes the outcomes of a batch with the checkpoints that go into the rows of their workflows.

    `riders` are these checkpoints, by the number of the outcome that they go with.
    """

    def __init__(self, ended: Sequence[Ended], riders: Mapping[int, Sequence[Numbered]]) -> None:
        self._ended = ended
        self._riders = riders

    def write(self, batch: Batch) -> None:
        ended = [end for end in self._ended if batch.may_go_on(end.number, end.write)]
        rows = batch.tx.rows("update_outcomes", [(end.write, end.outcome, end) for end in ended])
        awaited: list[str] = []
        hit = batch.change("update_outcomes", rows)
        if hit < len(rows):
            awaited = self._awaited(batch, ended)
            if awaited:
                hit += batch.change("update_outcomes", rows)
        if hit < len(rows):
            ended = self._judge(batch, ended)
        self._write_results(batch, ended)
        self._answer_riders(batch)
        if awaited:
            woken = wake(batch.tx, [result_key(one) for one in awaited]) + wake_readers(batch.tx, awaited)
            ended[-1].outcome.woke = bool(woken)

    def _awaited(self, batch: Batch, ended: Sequence[Ended]) -> list[str]:
        """Those for whose end somebody is parked, beside a parent: they can be ended now."""
        tokens = [{"workflow_id": end.write.workflow_id, "take": end.write.take} for end in ended]
        return [row.id for row in batch.tx.batch("forget_waiters", tokens, executor=batch.executor)]

    def _judge(self, batch: Batch, ended: Sequence[Ended]) -> list[Ended]:
        """The outcomes that are ours: written now, or by a commit whose answer was lost."""
        ids = [end.write.workflow_id for end in ended]
        tokens = {row.id: row for row in batch.tx.run("lock_tokens", ids=ids)}
        ours = []
        for end in ended:
            token = tokens.get(end.write.workflow_id)
            asked = (batch.executor, end.write.take, end.outcome.status, end.own_checkpoints)
            if token is not None and (token.owner, token.take, token.status, token.own_checkpoints) == asked:
                ours.append(end)
            else:
                batch.results[end.number] = Fenced(None if token is None else token.status)
        return ours

    def _answer_riders(self, batch: Batch) -> None:
        """Where the outcome is refused, its checkpoints are refused with it, and it comes after a refused write."""
        for number, riders in self._riders.items():
            if isinstance(batch.results[number], Fenced):
                for rider, _, _ in riders:
                    batch.results[rider] = batch.results[number]
                batch.results[number] = Fenced(None)

    def _write_results(self, batch: Batch, ended: Sequence[Ended]) -> None:
        tx = batch.tx
        tx.change("insert_results", tx.rows("insert_results", with_result(ended)))
        notes = [
            quarantine_row(end.write.workflow_id, note)
            for end in ended
            if (note := end.outcome.quarantine) is not None
        ]
        tx.change("insert_quarantine", notes)
        self._start_what_follows(batch, ended)
        tx.change("wake_parents", tx.rows("wake_parents", of_children(ended)))

    def _start_what_follows(self, batch: Batch, ended: Sequence[Ended]) -> None:
        """Once, also where this is the second try of a commit whose answer was lost: it is inserted by its id."""
        follows = [(end.outcome.follows,) for end in ended if end.outcome.follows is not None]
        if follows:
            batch.change("insert_starts", batch.tx.rows("insert_starts", follows))
            batch.tx.change("insert_start_payloads", batch.tx.rows("insert_start_payloads", follows))


def of_children(ended: Sequence[Ended]) -> list[tuple[object, ...]]:
    """The records of those that have a parent."""
    return [(end.write, end.outcome) for end in ended if end.outcome.parent_id]


def with_result(ended: Sequence[Ended]) -> list[tuple[object, ...]]:
    """The records of those that have a value or an error."""
    return [
        (end.write, outcome)
        for end in ended
        if (outcome := end.outcome).output is not None or outcome.error is not None
    ]


def quarantine_row(workflow_id: str, note: QuarantineNote) -> dict[str, Any]:
    """A row of insert_quarantine."""
    failure = note.failure
    return {
        "workflow_id": workflow_id,
        "consumer": note.consumer,
        "reason": note.reason,
        "error": note.error,
        "attempts": note.attempts,
        "codec": failure and failure.codec,
        "error_type": failure and failure.type,
        "error_message": failure and failure.message,
        "failed_steps": failure and json.dumps(failure.steps),
    }
