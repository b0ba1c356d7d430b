"""Partitions whose holder is gone and that nobody was assigned: found, taken, given back."""

from __future__ import annotations

from collections.abc import Sequence

from dbos_events.storage.database import Database, Tx
from dbos_events.storage.families.executors import fence
from dbos_events.storage.rows import Position
from dbos_events.storage.shapes import named, records
from dbos_events.storage.standing import Orphan

OrphanKey = tuple[int, int, int]
"""Consumer, incarnation, partition."""


class OrphanTable:
    """What the sweeper asks (docs/protocol.md, rule 10). An assignment always wins over it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def orphaned_partitions(
        self, application: str, handlers: Sequence[str], grace_ms: int, executor: int = 0
    ) -> list[Orphan]:
        rows = self._database.transact(
            lambda tx: tx.run(
                "orphaned_partitions",
                application=application,
                handlers=handlers,
                grace_ms=grace_ms,
                executor=executor,
            )
        )
        return records(Orphan, rows)

    def take_orphan(self, executor: int, orphan: Orphan) -> Position | None:
        def work(tx: Tx) -> Position | None:
            fence(tx, executor)
            row = tx.one(
                "take_orphan",
                executor=executor,
                consumer=orphan.consumer,
                incarnation=orphan.incarnation,
                partition=orphan.partition,
                epoch=orphan.epoch,
                detail="what was left is run; nothing is read from the topic",
            )
            if row is None:
                return None
            return Position(orphan.partition, row.epoch, row.next_offset, row.leader_epoch, row.reason)

        return self._database.transact(work)

    def orphans_still_held(self, executor: int, epochs: Sequence[tuple[OrphanKey, int]]) -> set[OrphanKey]:
        held = [(*key, epoch) for key, epoch in epochs]
        keys = named(held, "consumer", "incarnation", "partition", "epoch")
        rows = self._database.transact(lambda tx: tx.batch("orphans_still_held", keys, executor=executor))
        return {(row.consumer, row.incarnation, row.partition) for row in rows}

    def release_orphan(self, executor: int, key: OrphanKey, epoch: int) -> None:
        consumer, incarnation, partition = key
        self._database.transact(
            lambda tx: tx.run(
                "release_orphan",
                executor=executor,
                consumer=consumer,
                incarnation=incarnation,
                partition=partition,
                epoch=epoch,
            )
        )
