"""Proof of delivery: what became of an offset, and offsets that nothing explains."""

from __future__ import annotations

from typing import Protocol

from dbos_events.model.proof import Gap, GapQuestion, TracedEvent
from dbos_events.storage.database import Database, Row
from dbos_events.storage.shapes import records


class Proofs(Protocol):
    """Proof of delivery: what became of each offset. Slow readers, which hold up nobody."""

    def trace(
        self, topic: str, partition: int, offset: int, application: str | None, consumer: str | None
    ) -> list[TracedEvent]:
        """What became of an offset, for each consumer and each incarnation that knows the partition."""
        ...

    def known_topics(self, application: str | None) -> dict[str, list[int]]:
        """Topics with a watermark, and which partitions have one."""
        ...

    def find_gaps(self, question: GapQuestion) -> list[Gap]:
        """Offsets below watermarks without a workflow: those without a reason first."""
        ...


class ProofTable:
    """Questions that read much and change nothing (docs/protocol.md, rule 11)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def trace(
        self, topic: str, partition: int, offset: int, application: str | None, consumer: str | None
    ) -> list[TracedEvent]:
        rows = self._database.look(
            lambda tx: tx.run(
                "trace_event",
                topic=topic,
                partition=partition,
                offset=offset,
                application=application,
                consumer=consumer,
            )
        )
        return [_traced(row) for row in rows]

    def known_topics(self, application: str | None) -> dict[str, list[int]]:
        topics: dict[str, list[int]] = {}
        for row in self._database.look(lambda tx: tx.run("known_topics", application=application)):
            topics.setdefault(row.topic, []).append(row.partition)
        return topics

    def find_gaps(self, question: GapQuestion) -> list[Gap]:
        rows = self._database.look(
            lambda tx: tx.run(
                "find_gaps",
                application=question.application,
                topic=question.topic,
                consumer=question.consumer,
                partition=question.partition,
                stated=question.stated,
                count=question.limit,
            )
        )
        return records(Gap, rows)


def _traced(row: Row) -> TracedEvent:
    return TracedEvent(
        application=row.application,
        consumer=row.consumer,
        group=row.group_id,
        incarnation=row.incarnation,
        topic_id=row.topic_id,
        retired=bool(row.retired),
        first_offset=row.first_offset,
        next_offset=row.next_offset,
        state=row.state,
        detail=row.detail,
        workflow_id=row.workflow_id,
        status=row.status,
        name=row.name,
        version=row.version,
        executor=row.executor,
        executor_alive=bool(row.executor_alive),
        generation=row.generation,
        attempt=row.attempt,
        crashes=row.crashes,
        queue=row.queue,
        lane=row.lane,
        held=bool(row.held),
        owned=bool(row.owned),
        created_at=row.created_at,
        completed_at=row.completed_at,
        wake_at=row.wake_at,
        error=row.error,
        error_codec=row.error_codec,
        quarantine_reason=row.quarantine_reason,
        quarantine_attempts=row.quarantine_attempts,
        quarantined_at=row.quarantined_at,
        released_at=row.released_at,
        released_as=row.released_as,
        gap_first=row.gap_first,
        gap_next=row.gap_next,
        gap_reason=row.gap_reason,
        gap_recorded_at=row.gap_recorded_at,
    )
