"""Lives of topics, and where each consumer stands in their partitions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dbos_events.model.consumer import PartitionState
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.families.executors import fence
from dbos_events.storage.rows import Position
from dbos_events.storage.shapes import named


class PositionTable:
    """Incarnations, watermarks and their holders (docs/protocol.md, rules 7 and 8)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_incarnation(self, cluster_id: str, topic: str, topic_id: str) -> int:
        def work(tx: Tx) -> int:
            identity = {"cluster_id": cluster_id, "topic": topic, "topic_id": topic_id}
            row = tx.one("read_incarnation", **identity)
            if row is None:
                tx.run("insert_incarnation", **identity)
                row = tx.run("read_incarnation", **identity)[0]
            return int(row.id)

        return self._database.transact(work)

    def known_partitions(self, consumer: int, incarnation: int) -> frozenset[int]:
        rows = self._database.transact(
            lambda tx: tx.run("known_partitions", consumer=consumer, incarnation=incarnation)
        )
        return frozenset(row.partition for row in rows)

    def create_watermarks(
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
    ) -> list[Position]:
        def work(tx: Tx) -> list[Position]:
            fence(tx, executor)
            place = {"consumer": consumer, "incarnation": incarnation, "partitions": sorted(partitions)}
            rows = tx.run("lock_watermarks", **place)
            tx.run("raise_epochs", executor=executor, **place)
            return [
                Position(
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

    def report_partitions(self, executor: int, consumer: int, reports: Sequence[tuple[Any, ...]]) -> None:
        reported = [(*report, None)[:6] for report in reports]
        rows = named(reported, "incarnation", "partition", "end_offset", "state", "detail", "reached")
        self._database.transact(
            lambda tx: tx.change("report_partitions", rows, consumer=consumer, executor=executor)
        )

    def list_partitions(self, application: str | None) -> list[PartitionState]:
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
