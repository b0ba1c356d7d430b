"""Partitions whose holder is gone and that nobody was assigned: found, taken, given back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dbos_events.model.dataclass import dataclass
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.shapes import named, records
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.subjects.positions import AssignedPosition

OrphanKey = tuple[int, int, int]
"""Consumer, incarnation, partition."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A partition that no live process holds, with ordered events that are ready to run."""

    consumer: int
    name: str
    handler: str
    topic: str
    incarnation: int
    partition: int
    epoch: int


class Orphans(Protocol):
    """Partitions that nobody holds and that have something ready to run (protocol 10)."""

    def find(
        self, application: str, handlers: Sequence[str], grace_ms: int, executor: int = 0
    ) -> list[Orphan]:
        """Those of the named handlers whose holder has been dead for `grace_ms`."""
        ...

    def take(self, executor: int, orphan: Orphan) -> AssignedPosition | None:
        """Become holder under a new epoch; None when somebody was assigned the partition meanwhile."""
        ...

    def still_held(
        self, executor: int, epochs: Sequence[tuple[tuple[int, int, int], int]]
    ) -> set[tuple[int, int, int]]:
        """Those (consumer, incarnation, partition) that the executor holds under the epoch given for each."""
        ...

    def release(self, executor: int, key: tuple[int, int, int], epoch: int) -> None:
        """Be holder no more, unless an assignment has taken over already."""
        ...


class OrphanTable:
    """What the sweeper asks (docs/protocol.md, rule 10). An assignment always wins over it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
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

    def take(self, executor: int, orphan: Orphan) -> AssignedPosition | None:
        def work(tx: Tx) -> AssignedPosition | None:
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
            return AssignedPosition(
                orphan.partition, row.epoch, row.next_offset, row.leader_epoch, row.reason
            )

        return self._database.transact(work)

    def still_held(self, executor: int, epochs: Sequence[tuple[OrphanKey, int]]) -> set[OrphanKey]:
        held = [(*key, epoch) for key, epoch in epochs]
        keys = named(held, "consumer", "incarnation", "partition", "epoch")
        rows = self._database.transact(lambda tx: tx.batch("orphans_still_held", keys, executor=executor))
        return {(row.consumer, row.incarnation, row.partition) for row in rows}

    def release(self, executor: int, key: OrphanKey, epoch: int) -> None:
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
