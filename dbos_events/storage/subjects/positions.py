"""Where each consumer stands in the partitions of its topics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dbos_events.model.consumer import PartitionState
from dbos_events.model.dataclass import dataclass
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.shapes import named
from dbos_events.storage.subjects.executors import fence


@dataclass(frozen=True, slots=True)
class AssignedPosition:
    """Where an assignment of one partition begins."""

    partition: int
    epoch: int
    next_offset: int
    leader_epoch: int | None
    reason: str
    halted: str | None = None
    regression: int | None = None
    gate: str | None = None


class Positions(Protocol):
    """Watermarks and their holders (protocol 7 and 8)."""

    def known_partitions(self, consumer: int, incarnation: int) -> frozenset[int]:
        """The partitions of the incarnation that have a watermark."""
        ...

    def create(
        self,
        consumer: int,
        incarnation: int,
        positions: Mapping[int, tuple[int, str]],
        gate: Mapping[int, int] | None = None,
    ) -> None:
        """Write first positions (offset, reason); what is there already stays.

        Behind a `gate` (offsets of other partitions) nothing is taken in before what lies below it has freed its lane.
        """
        ...

    def gate_holds(self, consumer: int, incarnation: int, gate: Mapping[int, int]) -> bool:
        """Whether something below the gate was not taken in yet, or holds its lane."""
        ...

    def open_gate(self, consumer: int, incarnation: int, partition: int, epoch: int) -> None:
        """Nothing is before the partition any more."""
        ...

    def assign(
        self, executor: int, consumer: int, incarnation: int, partitions: Sequence[int]
    ) -> list[AssignedPosition]:
        """Become holder of the partitions under a new epoch each."""
        ...

    def report(self, executor: int, consumer: int, reports: Sequence[tuple[Any, ...]]) -> None:
        """Store (incarnation, partition, end offset, state, detail) for the status.

        A sixth value says how far the log was read, what is no record included.
        """
        ...

    def read(self, application: str | None) -> list[PartitionState]:
        """Every partition that a consumer has a watermark for."""
        ...

    def skip(
        self, executor: int, place: tuple[int, int, int], epoch: int, offsets: tuple[int, int], alarm: str
    ) -> bool:
        """Move the watermark of (consumer, incarnation, partition) over offsets that are gone, with a gap.

        `offsets` are where the assignment stands, and where it goes on. False when it has been fenced.
        """
        ...

    def halt(self, executor: int, place: tuple[int, int, int], reason: str, divergence: int | None) -> None:
        """Keep a partition from being read until an operator decides, also in the next process."""
        ...

    def halted(self, consumer: int, incarnation: int) -> frozenset[int]:
        """Those that wait for a decision."""
        ...

    def note_alarm(self, place: tuple[int, int, int], alarm: str, regression: int | None) -> None:
        """Show it in the status until somebody says that it was read."""
        ...


Place = tuple[int, int, int]
"""Consumer, incarnation, partition."""


class PositionTable:
    """The rows of watermarks (docs/protocol.md, rules 7 and 8)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known_partitions(self, consumer: int, incarnation: int) -> frozenset[int]:
        rows = self._database.transact(
            lambda tx: tx.run("known_partitions", consumer=consumer, incarnation=incarnation)
        )
        return frozenset(row.partition for row in rows)

    def create(
        self,
        consumer: int,
        incarnation: int,
        positions: Mapping[int, tuple[int, str]],
        gate: Mapping[int, int] | None = None,
    ) -> None:
        first = [(partition, *positions[partition]) for partition in sorted(positions)]
        rows = named(first, "partition", "next_offset", "reason")
        stored = None if gate is None else json.dumps(gate)
        self._database.transact(
            lambda tx: tx.change(
                "insert_watermarks", rows, consumer=consumer, incarnation=incarnation, gate=stored
            )
        )

    def gate_holds(self, consumer: int, incarnation: int, gate: Mapping[int, int]) -> bool:
        rows = self._database.transact(
            lambda tx: tx.batch(
                "gate_holds",
                named(gate.items(), "partition", "before"),
                consumer=consumer,
                incarnation=incarnation,
            )
        )
        return bool(rows)

    def open_gate(self, consumer: int, incarnation: int, partition: int, epoch: int) -> None:
        self._database.transact(
            lambda tx: tx.run(
                "open_gate", consumer=consumer, incarnation=incarnation, partition=partition, epoch=epoch
            )
        )

    def assign(
        self, executor: int, consumer: int, incarnation: int, partitions: Sequence[int]
    ) -> list[AssignedPosition]:
        def work(tx: Tx) -> list[AssignedPosition]:
            fence(tx, executor)
            place = {"consumer": consumer, "incarnation": incarnation, "partitions": sorted(partitions)}
            rows = tx.run("lock_watermarks", **place)
            tx.run("raise_epochs", executor=executor, **place)
            return [
                AssignedPosition(
                    row.partition,
                    row.epoch + 1,
                    row.next_offset,
                    row.leader_epoch,
                    row.reason,
                    row.halted,
                    row.regression,
                    row.gate,
                )
                for row in rows
            ]

        return self._database.transact(work)

    def report(self, executor: int, consumer: int, reports: Sequence[tuple[Any, ...]]) -> None:
        reported = [(*report, None)[:6] for report in reports]
        rows = named(reported, "incarnation", "partition", "end_offset", "state", "detail", "reached")
        self._database.transact(
            lambda tx: tx.change("report_partitions", rows, consumer=consumer, executor=executor)
        )

    def read(self, application: str | None) -> list[PartitionState]:
        rows = self._database.transact(lambda tx: tx.run("list_partitions", application=application))
        return [
            PartitionState(
                application=row.application,
                consumer=row.consumer,
                group=row.group_id,
                topic=row.topic,
                incarnation=row.incarnation,
                partition=row.partition,
                next_offset=row.next_offset,
                end_offset=row.end_offset,
                holder=row.holder,
                holder_alive=bool(row.holder_alive),
                in_flight=row.in_flight,
                held=row.held,
                quarantined=row.quarantined,
                state=row.state,
                detail=row.detail,
                filtered=row.filtered,
                expired=row.expired,
                reached=row.reached,
                idle=row.idle,
                oldest_ms=None if row.oldest_ms is None else max(0, row.oldest_ms),
                holder_pid=row.holder_pid,
                silent_ms=row.silent_ms,
                topic_id=row.topic_id,
            )
            for row in rows
        ]

    def skip(self, executor: int, place: Place, epoch: int, offsets: tuple[int, int], alarm: str) -> bool:
        consumer, incarnation, partition = place
        expected, following = offsets

        def work(tx: Tx) -> bool:
            fence(tx, executor)
            where = {"consumer": consumer, "incarnation": incarnation}
            (row,) = tx.run("lock_watermarks", partitions=[partition], **where)
            if row.epoch != epoch or row.next_offset != expected:
                return bool(row.epoch == epoch and row.next_offset == following)  # our own lost commit
            tx.run(
                "skip_offsets",
                partition=partition,
                epoch=epoch,
                expected=expected,
                next_offset=following,
                reason="log start",
                alarm=alarm,
                **where,
            )
            gap = {"partition": partition, "first_offset": expected, "next_offset": following}
            tx.run("insert_explained_gap", reason="retention", **gap, **where)
            return True

        return self._database.transact(work)

    def halt(self, executor: int, place: Place, reason: str, divergence: int | None) -> None:
        consumer, incarnation, partition = place
        self._database.transact(
            lambda tx: tx.run(
                "halt_partition",
                executor=executor,
                consumer=consumer,
                incarnation=incarnation,
                partition=partition,
                reason=reason,
                divergence=divergence,
            )
        )

    def halted(self, consumer: int, incarnation: int) -> frozenset[int]:
        rows = self._database.transact(
            lambda tx: tx.run("halted_partitions", consumer=consumer, incarnation=incarnation)
        )
        return frozenset(row.partition for row in rows)

    def note_alarm(self, place: Place, alarm: str, regression: int | None) -> None:
        consumer, incarnation, partition = place
        self._database.transact(
            lambda tx: tx.run(
                "note_alarm",
                consumer=consumer,
                incarnation=incarnation,
                partition=partition,
                alarm=alarm,
                regression=regression,
            )
        )
