"""What each process says of its consumers: the status shows it where no partition does."""

from __future__ import annotations

import json
from typing import Protocol

from dbos_events.model.consumer import SourceRow
from dbos_events.storage.database import Database, Tx


class Sources(Protocol):
    """What each process says of its consumers."""

    def report(self, executor: int, consumer: int, state: str, detail: str | None) -> None:
        """Store it for the status, in place of what this executor said before."""
        ...

    def list_idle(self, application: str | None) -> list[SourceRow]:
        """Of processes that are alive and hold no partition of the consumer.

        A consumer that never read anything and that no live process has is one row, without a process.
        """
        ...


class SourceTable:
    """One row for each process and consumer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report(self, executor: int, consumer: int, state: str, detail: str | None) -> None:
        def work(tx: Tx) -> None:
            tx.run("delete_ended_sources", consumer=consumer)
            tx.run("save_source", consumer=consumer, executor=executor, state=state, detail=detail)

        self._database.transact(work)

    def list_idle(self, application: str | None) -> list[SourceRow]:
        rows = self._database.transact(lambda tx: tx.run("list_idle_sources", application=application))
        return [
            SourceRow(
                application=row.application,
                consumer=row.consumer,
                group=row.group_id,
                topics=tuple(json.loads(row.topics)),
                process=row.process,
                pid=row.pid,
                state=row.state,
                detail=row.detail,
            )
            for row in rows
        ]
