"""Consumers, watermarks, and intake: events and the workflows they start in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dbos_events.errors import RegistrationError
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.families.executors import fence
from dbos_events.storage.families.taking import end_crashed, read_taken
from dbos_events.storage.rows import (
    IntakeBatch,
    IntakeResult,
    LaneEntry,
    NewEvent,
    PartitionState,
    Position,
    StoredEvent,
    TakenWorkflow,
)


class EventTable:
    """The events' part of the storage (docs/protocol.md, rules 7 to 11)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- consumers and topics -----------------------------------------------------------------

    def save_consumer(
        self, application: str, name: str, handler: str, group: str, topics: Sequence[str], settings: str
    ) -> int:
        def work(tx: Tx) -> int:
            known = tx.run("read_consumers", application=application)
            _refuse_conflicts(known, name, group, topics)
            row = tx.one(
                "insert_consumer",
                application=application,
                name=name,
                handler=handler,
                group_id=group,
                topics=json.dumps(sorted(topics)),
                settings=settings,
            )
            return int(row.id) if row is not None else 0

        return self._database.transact(work)

    def save_incarnation(self, cluster_id: str, topic: str, topic_id: str) -> int:
        def work(tx: Tx) -> int:
            identity = {"cluster_id": cluster_id, "topic": topic, "topic_id": topic_id}
            row = tx.one("read_incarnation", **identity)
            if row is None:
                tx.run("insert_incarnation", **identity)
                row = tx.run("read_incarnation", **identity)[0]
            return int(row.id)

        return self._database.transact(work)

    # -- positions ----------------------------------------------------------------------------

    def known_partitions(self, consumer: int, incarnation: int) -> frozenset[int]:
        rows = self._database.transact(
            lambda tx: tx.run("known_partitions", consumer=consumer, incarnation=incarnation)
        )
        return frozenset(row.partition for row in rows)

    def create_watermarks(
        self, consumer: int, incarnation: int, positions: Mapping[int, tuple[int, str]]
    ) -> None:
        rows = [(partition, *positions[partition]) for partition in sorted(positions)]
        self._database.transact(
            lambda tx: tx.change("insert_watermarks", rows, consumer=consumer, incarnation=incarnation)
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
                Position(row.partition, row.epoch + 1, row.next_offset, row.leader_epoch, row.reason)
                for row in rows
            ]

        return self._database.transact(work)

    def report_partitions(
        self, executor: int, consumer: int, reports: Sequence[tuple[int, int, int | None, str, str | None]]
    ) -> None:
        self._database.transact(
            lambda tx: tx.change("report_partitions", reports, consumer=consumer, executor=executor)
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
            )
            for row in rows
        ]

    # -- intake -------------------------------------------------------------------------------

    def intake(self, batch: IntakeBatch) -> IntakeResult:
        try:
            return self._database.transact(lambda tx: _intake(tx, batch))
        except _Conflicting as found:
            conflicts = found.conflicts
        before = _before(batch, conflicts)
        result = self._database.transact(lambda tx: _intake(tx, before)) if before.moves else IntakeResult()
        return replace(result, conflicts=conflicts)

    def read_events(self, workflow_ids: Sequence[str]) -> dict[str, StoredEvent]:
        rows = self._database.transact(lambda tx: tx.run("read_events", ids=workflow_ids))
        return {row.workflow_id: StoredEvent(*tuple(row)) for row in rows}

    # -- lanes --------------------------------------------------------------------------------

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


def _refuse_conflicts(known: Sequence[Row], name: str, group: str, topics: Sequence[str]) -> None:
    for row in known:
        if row.name == name and row.group_id != group:
            raise RegistrationError(
                f"Consumer {name!r} read with the group {row.group_id!r} before and is now configured with "
                f"{group!r}: it would read its topics again from the start. Keep group.id, or give the "
                "consumer another name=..."
            )
        shared = set(json.loads(row.topics)) & set(topics)
        if row.name != name and row.group_id == group and shared:
            raise RegistrationError(
                f"Consumers {row.name!r} and {name!r} both read {sorted(shared)} with the group {group!r}, so each "
                "would get only a part of the records. Give one of them another group.id."
            )


class _Conflicting(Exception):
    """Rolls an intake back that holds other records than those known under their ids."""

    def __init__(self, conflicts: frozenset[str]) -> None:
        self.conflicts = conflicts


def _before(batch: IntakeBatch, conflicts: frozenset[str]) -> IntakeBatch:
    """What of the batch lies before the first conflict of each partition: the watermark stops there."""
    stops: dict[int, int] = {}
    for event in batch.events:
        if event.workflow_id in conflicts:
            stops.setdefault(event.partition, event.offset)
    events = tuple(
        event
        for event in batch.events
        if event.partition not in stops or event.offset < stops[event.partition]
    )
    last = {event.partition: event for event in events}
    moves = {
        partition: (epoch, expected, stops.get(partition, target), last[partition].leader_epoch)
        for partition, (epoch, expected, target, _) in batch.moves.items()
        if partition in last
    }
    gaps = tuple(gap for gap in batch.gaps if gap[0] in moves and gap[2] <= moves[gap[0]][2])
    return replace(batch, moves=moves, gaps=gaps, events=events)


def _intake(tx: Tx, batch: IntakeBatch) -> IntakeResult:
    fence(tx, batch.executor)
    stale, repeated = _compare_watermarks(tx, batch)
    moved = set(batch.moves) - stale - repeated
    if not moved:
        return IntakeResult(stale=frozenset(stale))
    place = {"consumer": batch.consumer, "incarnation": batch.incarnation}
    moves = [(partition, batch.moves[partition][2], batch.moves[partition][3]) for partition in sorted(moved)]
    tx.change("move_watermarks", moves, **place)
    tx.change("insert_gaps", [gap for gap in batch.gaps if gap[0] in moved], **place)
    events = [event for event in batch.events if event.partition in moved]
    known: dict[str, int] = {}
    if _insert_workflows(tx, batch, events) < len(events):
        known = {row.workflow_id: row.fingerprint for row in _read_fingerprints(tx, events)}
    conflicts = frozenset(
        id_ for event in events if known.get(id_ := event.workflow_id, event.fingerprint) != event.fingerprint
    )
    if conflicts:
        raise _Conflicting(conflicts)
    fresh = [event for event in events if event.workflow_id not in known] if known else events
    tx.change("insert_events", [_event_row(event) for event in fresh])
    return IntakeResult(frozenset(stale), frozenset(known))


def _compare_watermarks(tx: Tx, batch: IntakeBatch) -> tuple[set[int], set[int]]:
    """The partitions that another assignment has, and those that our lost commit moved already."""
    rows = tx.run(
        "lock_watermarks",
        consumer=batch.consumer,
        incarnation=batch.incarnation,
        partitions=sorted(batch.moves),
    )
    stale = set(batch.moves) - {row.partition for row in rows}
    repeated = set()
    for row in rows:
        epoch, expected, target, _ = batch.moves[row.partition]
        if row.epoch != epoch:
            stale.add(row.partition)
        elif row.next_offset == target and target != expected:
            repeated.add(row.partition)
        elif row.next_offset != expected:
            stale.add(row.partition)
    return stale, repeated


def _insert_workflows(tx: Tx, batch: IntakeBatch, events: Sequence[NewEvent]) -> int:
    rows = [
        (event.workflow_id, event.partition, event.offset, batch.lanes.get(event.partition))
        for event in events
    ]
    return tx.change(
        "insert_event_workflows",
        rows,
        application=batch.application,
        name=batch.name,
        version=batch.version,
        queue=batch.queue,
        executor=batch.executor,
        consumer=batch.consumer,
        incarnation=batch.incarnation,
    )


def _read_fingerprints(tx: Tx, events: Sequence[NewEvent]) -> Sequence[Row]:
    """Events that were there before this transaction; its own are inserted after this look."""
    return tx.run("read_fingerprints", ids=[event.workflow_id for event in events])


def _event_row(event: NewEvent) -> tuple[object, ...]:
    return (
        event.workflow_id, event.key, event.value, event.headers, event.timestamp_type, event.timestamp,
        event.leader_epoch, event.latency, event.fingerprint,
    )  # fmt: skip
