"""Consumers that take nothing in: paused by hand, or behind an open breaker."""

from __future__ import annotations

from dbos_events.model.consumer import ConsumerState, Trial
from dbos_events.storage.database import Database, Row


class StandingTable:
    """The state of consumers that all processes share (docs/protocol.md, rule 11).

    Each change of a breaker compares the epoch that its caller has seen, so of several processes
    that want the same change one makes it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def consumer_states(self, application: str | None) -> list[ConsumerState]:
        rows = self._database.transact(lambda tx: tx.run("consumer_states", application=application))
        return [_state(row) for row in rows]

    def pause_consumer(self, application: str, name: str, paused_by: str, reason: str | None) -> bool:
        return self._did(
            "pause_consumer", application=application, name=name, paused_by=paused_by, reason=reason
        )

    def resume_consumer(self, application: str, name: str) -> bool:
        return self._did("resume_consumer", application=application, name=name)

    def open_breaker(self, consumer: int, epoch: int, reason: str, pause_ms: int) -> bool:
        return self._did("open_breaker", consumer=consumer, epoch=epoch, reason=reason, pause_ms=pause_ms)

    def begin_trial(self, executor: int, consumer: int, epoch: int, trial_ms: int) -> bool:
        return self._did("begin_trial", consumer=consumer, epoch=epoch, executor=executor, trial_ms=trial_ms)

    def note_trial(self, consumer: int, epoch: int, workflow_id: str) -> bool:
        return self._did("note_trial", consumer=consumer, epoch=epoch, workflow_id=workflow_id)

    def close_breaker(self, consumer: int, epoch: int) -> bool:
        return self._did("close_breaker", consumer=consumer, epoch=epoch)

    def _did(self, name: str, /, **parameters: object) -> bool:
        """Run a statement that changes one row or none."""
        return bool(self._database.transact(lambda tx: tx.run(name, **parameters)))


def _state(row: Row) -> ConsumerState:
    trial = None
    if row.trial_id is not None:
        waits = row.trial_wake_at is not None or row.trial_awaits is not None
        trial = Trial(row.trial_id, row.trial_status, row.trial_owner is not None, waits, row.trial_attempt)
    return ConsumerState(
        id=row.id,
        application=row.application,
        name=row.name,
        paused_at=row.paused_at,
        paused_by=row.paused_by,
        paused_reason=row.paused_reason,
        breaker=row.breaker,
        breaker_reason=row.breaker_reason,
        breaker_since=row.breaker_since,
        breaker_until=row.breaker_until,
        breaker_executor=row.breaker_executor,
        due=bool(row.due),
        epoch=row.breaker_epoch,
        openings=row.breaker_openings,
        trial=trial,
    )
