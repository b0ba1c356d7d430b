"""Events in quarantine: looking at them, and what becomes of them (docs/protocol.md, rules 6 and 11)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dbos_events.model.dataclass import dataclass, field, replace
from dbos_events.model.quarantine import (
    Decision,
    EditedValue,
    GenerationRecord,
    QuarantineCount,
    QuarantinedEvent,
    QuarantineFilter,
    Redrive,
)
from dbos_events.storage.quarantined import counts_query, quarantined_query
from dbos_events.storage.shapes import named, records
from dbos_events.storage.writes import CANCELLED_CALL
from dbos_events.storage.writes.match import give_back
from dbos_events.storage.writes.retry import keep_but
from dbos_events.storage.writes.values_and_streams import cut_values_and_streams

if TYPE_CHECKING:
    from dbos_events.storage.database import Database, Row, Tx


@dataclass(frozen=True, slots=True)
class OperatorDecision:
    """Who decided, why, and what else there is to note."""

    by: str
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredQuarantine:
    """One event that was put aside, as it is stored."""

    event: QuarantinedEvent
    key: bytes | None
    value: bytes | None
    headers: str | None
    timestamp: int | None
    codec: str | None
    error: str | None
    edits: tuple[EditedValue, ...]
    generations: tuple[GenerationRecord, ...]
    decisions: tuple[Decision, ...]


class Quarantines(Protocol):
    """Events that were put aside, and what is decided about them (protocol 6 and 11)."""

    def find(self, criteria: QuarantineFilter) -> list[QuarantinedEvent]:
        """Those that fit, in the order in which they were put aside."""
        ...

    def count(self, criteria: QuarantineFilter) -> list[QuarantineCount]:
        """How many events fit by consumer, reason and class of the error, the most first; the limit does not count."""
        ...

    def get(self, workflow_id: str) -> StoredQuarantine | None:
        """All that is known of one event that was put aside; None when it never was."""
        ...

    def redrive(self, workflow_ids: Sequence[str], order: Redrive, decision: OperatorDecision) -> list[str]:
        """Begin a new generation of events in quarantine; gives the ids that were changed.

        What a process runs under an older token, alive or not, is taken from it before the history is read.
        """
        ...

    def discard(self, workflow_ids: Sequence[str], decision: OperatorDecision) -> list[str]:
        """Give events in quarantine up, and let their lanes go on; gives the ids that were changed."""
        ...


class QuarantineTable:
    """What operators ask about events that were put aside, and what they decide."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, criteria: QuarantineFilter) -> list[QuarantinedEvent]:
        return self._database.transact(lambda tx: self._find(tx, criteria))

    def count(self, criteria: QuarantineFilter) -> list[QuarantineCount]:
        query = counts_query(criteria, self._database.schema or None)
        return self._database.transact(
            lambda tx: records(QuarantineCount, tx.connection.execute(query).all())
        )

    def get(self, workflow_id: str) -> StoredQuarantine | None:
        def work(tx: Tx) -> StoredQuarantine | None:
            found = self._find(tx, QuarantineFilter(workflow_ids=(workflow_id,), released=True))
            if not found:
                return None
            (row,) = tx.run("read_quarantined_event", workflow_id=workflow_id)
            return StoredQuarantine(
                found[0],
                row.key,
                row.value,
                row.headers,
                row.timestamp,
                row.codec,
                row.error,
                tuple(records(EditedValue, tx.run("read_edits", workflow_id=workflow_id))),
                _generations(tx, workflow_id),
                tuple(_decision(one) for one in tx.run("read_decisions", workflow_id=workflow_id)),
            )

        return self._database.transact(work)

    def redrive(self, workflow_ids: Sequence[str], order: Redrive, decision: OperatorDecision) -> list[str]:
        changed: list[str] = []
        left = list(workflow_ids)
        while left:  # again where one was taken, and ended, in between
            done, left = self._database.transact(lambda tx, ids=left: _redrive(tx, ids, order, decision))  # type: ignore[misc]
            changed += done
        return changed

    def discard(self, workflow_ids: Sequence[str], decision: OperatorDecision) -> list[str]:
        return self._database.transact(lambda tx: _discard(tx, workflow_ids, decision))

    def _find(self, tx: Tx, criteria: QuarantineFilter) -> list[QuarantinedEvent]:
        query = quarantined_query(criteria, self._database.schema or None)
        return records(QuarantinedEvent, tx.connection.execute(query).all())


def _redrive(
    tx: Tx, ids: Sequence[str], order: Redrive, decision: OperatorDecision
) -> tuple[list[str], list[str]]:
    """The ids that were changed, and those to try again: another executor took them meanwhile."""
    owners = {row.id for row in tx.run("lock_owners", ids=ids)}
    tx.run("lock_decided", ids=ids)
    waiting = {row.workflow_id: row for row in tx.run("read_waiting", ids=ids)}
    missed = sorted(one for one, row in waiting.items() if row.owner is not None and row.owner not in owners)
    done = sorted(set(waiting) - set(missed))
    if not done:
        return [], missed
    rows = tx.run("update_redriven", ids=done)
    ended = {row.id: row.generation - 1 for row in rows}
    if order.fresh:
        tx.run("return_all_messages", ids=done)
        give_back(tx, (), done)
    else:
        behind = _left_behind(tx, {one: waiting[one] for one in done}, order.from_step)
        keep_but(tx, {(one, ended[one]): behind[one] for one in done})
    cut_values_and_streams(tx, ended)
    edited = order.value is not None
    tx.change(
        "insert_generations", [_ended_generation(waiting[one], ended[one], edited=edited) for one in done]
    )
    tx.run("delete_results", ids=done)
    if edited:
        values = [(one, ended[one] + 1, order.value) for one in done]
        tx.change(
            "insert_edited_values", named(values, "workflow_id", "generation", "value"), edited_by=decision.by
        )
    tx.run("release_quarantine", ids=done, released_as="redriven")
    _note(tx, "redrive", ended, decision)
    return done, missed


def _left_behind(tx: Tx, waiting: Mapping[str, Row], from_step: int | None) -> dict[str, list[int]]:
    """The steps that each new generation does not get: those that failed, and those from `from_step` on."""
    behind: dict[str, list[int]] = {
        workflow_id: json.loads(row.failed_steps) if row.failed_steps else []
        for workflow_id, row in waiting.items()
    }
    for step in tx.run("read_history", ids=sorted(waiting)):
        unsuccessful = step.failed or step.codec == CANCELLED_CALL
        unknown = waiting[step.workflow_id].failed_steps is None
        if (unknown and unsuccessful) or (from_step is not None and abs(step.step) >= from_step):
            behind[step.workflow_id].append(step.step)
    return {workflow_id: sorted(set(steps)) for workflow_id, steps in behind.items()}


def _ended_generation(row: Row, generation: int, *, edited: bool) -> dict[str, object]:
    return {
        "workflow_id": row.workflow_id,
        "generation": generation,
        "attempt": row.attempts,
        "ended_as": "redrive",
        "reason": row.reason,
        "codec": row.codec,
        "error": row.error,
        "error_type": row.error_type,
        "error_message": row.error_message,
        "edited": edited,
        "delay_ms": 0,
    }


def _discard(tx: Tx, ids: Sequence[str], decision: OperatorDecision) -> list[str]:
    tx.run("lock_watermarks_of", ids=ids)
    tx.run("lock_lanes_of", ids=ids)
    tx.run("lock_decided", ids=ids)
    done = sorted(row.workflow_id for row in tx.run("read_waiting", ids=ids))
    if not done:
        return []
    generations = {row.id: row.generation for row in tx.run("update_discarded", ids=done)}
    tx.run("release_quarantine", ids=done, released_as="discarded")
    tx.run("promote_next", ids=done)
    _note(tx, "discard", generations, decision)
    return done


def _note(tx: Tx, kind: str, generations: Mapping[str, int], decision: OperatorDecision) -> None:
    tx.change(
        "insert_decisions",
        named(sorted(generations.items()), "workflow_id", "generation"),
        decision=kind,
        reason=decision.reason,
        details=json.dumps(decision.details),
        decided_by=decision.by,
    )


def _generations(tx: Tx, workflow_id: str) -> tuple[GenerationRecord, ...]:
    archived: dict[int, list[tuple[int, str]]] = {}
    for row in tx.run("read_archived_steps", workflow_id=workflow_id):
        archived.setdefault(row.generation, []).append((row.step, row.name))
    return tuple(
        replace(record, steps=tuple(archived.get(record.generation, ())))
        for record in records(GenerationRecord, tx.run("read_generations", workflow_id=workflow_id))
    )


def _decision(row: Row) -> Decision:
    return Decision(
        row.decision, row.decided_by, row.decided_at, row.reason, row.generation, json.loads(row.details)
    )
