"""Breakers of consumers: open while what a handler needs is away."""

from __future__ import annotations

from typing import Protocol

from dbos_events.storage.database import Database


class Breakers(Protocol):
    """Breakers of consumers, which all processes share (protocol 11).

    A change compares `epoch`, what its caller has last seen, and gives whether it was made.
    """

    def open(self, consumer: int, epoch: int, reason: str, pause_ms: int) -> bool:
        """Open the breaker, or open it again after a trial that failed."""
        ...

    def begin_trial(self, executor: int, consumer: int, epoch: int, trial_ms: int) -> bool:
        """Have the executor let one event in, if the pause is over; at most `trial_ms` until another may."""
        ...

    def note_trial(self, consumer: int, epoch: int, workflow_id: str) -> bool:
        """Say which event was let in."""
        ...

    def close(self, consumer: int, epoch: int) -> bool:
        """Close the breaker after a trial that ended well."""
        ...


class BreakerTable:
    """The breakers' columns of the consumers (docs/protocol.md, rule 11).

    Each change compares the epoch that its caller has seen, so of several processes
    that want the same change one makes it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, consumer: int, epoch: int, reason: str, pause_ms: int) -> bool:
        return self._did("open_breaker", consumer=consumer, epoch=epoch, reason=reason, pause_ms=pause_ms)

    def begin_trial(self, executor: int, consumer: int, epoch: int, trial_ms: int) -> bool:
        return self._did("begin_trial", consumer=consumer, epoch=epoch, executor=executor, trial_ms=trial_ms)

    def note_trial(self, consumer: int, epoch: int, workflow_id: str) -> bool:
        return self._did("note_trial", consumer=consumer, epoch=epoch, workflow_id=workflow_id)

    def close(self, consumer: int, epoch: int) -> bool:
        return self._did("close_breaker", consumer=consumer, epoch=epoch)

    def _did(self, name: str, /, **parameters: object) -> bool:
        """Run a statement that changes one row or none."""
        return bool(self._database.transact(lambda tx: tx.run(name, **parameters)))
