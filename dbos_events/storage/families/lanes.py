"""Ordered lanes: which event may run, and who runs it."""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.database import Database, Tx
from dbos_events.storage.families.executors import fence
from dbos_events.storage.families.taking import end_crashed, read_taken
from dbos_events.storage.rows import LaneEntry, TakenWorkflow


class LaneTable:
    """The entries of lanes, in their order (docs/protocol.md, rule 10)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lane_entries(
        self, consumer: int, incarnation: int, partition: int, before: int, count: int
    ) -> list[LaneEntry]:
        rows = self._database.transact(
            lambda tx: tx.run(
                "lane_entries",
                consumer=consumer,
                incarnation=incarnation,
                partition=partition,
                before=before,
                count=count,
            )
        )
        return [LaneEntry(*tuple(row)) for row in rows]

    def take_lane_entry(
        self, executor: int, workflow_id: str, max_crashes: int | None
    ) -> TakenWorkflow | None:
        def work(tx: Tx) -> TakenWorkflow | None:
            fence(tx, executor)
            rows = tx.run("take_lane_entry", executor=executor, workflow_id=workflow_id)
            taken = read_taken(tx, [row.id for row in rows])
            if taken and max_crashes is not None and taken[0].crashes > max_crashes:
                end_crashed(tx, [workflow_id])
                return None
            return taken[0] if taken else None

        return self._database.transact(work)

    def release_unstarted(self, executor: int, workflow_ids: Sequence[str]) -> None:
        self._database.transact(lambda tx: tx.run("release_unstarted", executor=executor, ids=workflow_ids))
