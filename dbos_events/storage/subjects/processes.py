"""What processes say of themselves, and what workflows do in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

from dbos_events.model.dataclass import dataclass
from dbos_events.model.process import ProcessState, RunningStep
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.shapes import records


@dataclass(frozen=True, slots=True)
class Activity:
    """How a workflow stands that has not ended; all that a sentence about it needs."""

    id: str
    status: str
    owner: int | None
    queue: str | None
    attempt: int
    wake_at: int | None
    awaits: str | None
    delay_until: int | None
    lane: str | None
    consumer: int | None
    held: bool
    created_at: int
    started_at: int | None
    now: int
    label: str | None
    pid: int | None
    alive: bool | None
    fresh: bool | None
    executor_version: str | None
    next_at: int | None
    error_type: str | None
    error_message: str | None
    step: str | None
    number: int | None
    step_started_at: int | None
    last_step_at: int | None
    behind: str | None


class Processes(Protocol):
    """Processes for people; nothing here decides who may write."""

    def report_steps(self, executor: int, steps: Sequence[RunningStep]) -> None:
        """All steps that have been running in this process for a while, in place of what it told before."""
        ...

    def list(self, application: str | None) -> list[ProcessState]:
        """Live processes, and those that ended within the last hour, by application and label."""
        ...

    def activities(self, workflow_ids: Sequence[str]) -> dict[str, Activity]:
        """How those of the workflows stand that have not ended."""
        ...


class ProcessesTable:
    """`Processes` over a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def report_steps(self, executor: int, steps: Sequence[RunningStep]) -> None:
        def work(tx: Tx) -> None:
            tx.run("delete_told_steps", executor=executor)
            if steps:
                tx.change("insert_told_steps", [asdict(step) for step in steps], executor=executor)

        self._database.transact(work)

    def list(self, application: str | None) -> list[ProcessState]:
        rows = self._database.transact(lambda tx: tx.run("list_processes", application=application))
        return records(ProcessState, rows)

    def activities(self, workflow_ids: Sequence[str]) -> dict[str, Activity]:
        if not workflow_ids:
            return {}
        rows = self._database.transact(lambda tx: tx.run("what_they_do", ids=list(workflow_ids)))
        return {one.id: one for one in records(Activity, rows)}
