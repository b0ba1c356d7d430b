"""Intake: events and the workflows they start in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from dbos_events.errors import BadWrite
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.rollback import NotAsExpected, RollBack
from dbos_events.storage.shapes import named, records
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.subjects.intakerows import IntakeBatch, IntakeResult, NewEvent, StoredEvent
from dbos_events.storage.subjects.plainintake import is_plain, take_in
from dbos_events.storage.writes.publish import publish


class Intakes(Protocol):
    """Events and the workflows they start (protocol 7)."""

    def take_in(self, batch: IntakeBatch) -> IntakeResult:
        """Move watermarks and insert the events' workflows in one transaction (promise P1).

        Safe to repeat after a lost commit answer. Raises `ExecutorFenced` when the executor is dead.
        """
        ...

    def event_sizes(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        """How many bytes each event holds, without reading them."""
        ...

    def read_events(self, workflow_ids: Sequence[str]) -> dict[str, StoredEvent]:
        """The stored events of these workflows."""
        ...

    def fingerprints(self, workflow_ids: list[str]) -> dict[str, int]:
        """Those of the events that are known."""
        ...


class IntakeTable:
    """Moves watermarks together with the rows of the events (docs/protocol.md, rule 7)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_in(self, batch: IntakeBatch) -> IntakeResult:
        if self._database.calls and is_plain(batch):
            _refuse_going_back(batch)
            with suppress(NotAsExpected):
                return take_in(self._database, batch)
        try:
            return self._database.transact(lambda tx: _intake(tx, batch))
        except _Conflicting as conflicting:
            found = conflicting
        conflicts, stale = found.conflicts, found.stale
        before = _before(batch, conflicts)
        if not before.moves:
            return IntakeResult(stale=stale, conflicts=conflicts, foreign=found.foreign)
        result = self._database.transact(lambda tx: _intake(tx, before))
        return replace(result, conflicts=conflicts, stale=result.stale | stale, foreign=found.foreign)

    def event_sizes(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        rows = self._database.transact(lambda tx: tx.run("event_sizes", ids=workflow_ids))
        return {row.workflow_id: int(row.size) for row in rows}

    def read_events(self, workflow_ids: Sequence[str]) -> dict[str, StoredEvent]:
        rows = self._database.transact(lambda tx: tx.run("read_events", ids=workflow_ids))
        return {event.workflow_id: event for event in records(StoredEvent, rows)}

    def fingerprints(self, workflow_ids: Sequence[str]) -> dict[str, int]:
        rows = self._database.transact(lambda tx: tx.run("read_fingerprints", ids=workflow_ids))
        return {row.workflow_id: row.fingerprint for row in rows}


class _Conflicting(RollBack):
    """Rolls an intake back that holds other records than those known under their ids.

    `foreign` are those of the conflicts whose workflow is no event of this consumer.
    """

    def __init__(self, conflicts: frozenset[str], foreign: frozenset[str], stale: frozenset[int]) -> None:
        self.conflicts = conflicts
        self.foreign = foreign
        self.stale = stale


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
    filtered = tuple(one for one in batch.filtered if one[0] not in stops or one[1] < stops[one[0]])
    published = tuple(one for one in batch.published if one[0] not in stops or one[1] < stops[one[0]])
    publications = tuple(one for one in batch.publications if one[0] not in stops or one[1] < stops[one[0]])
    passed = {one[0] for one in (*filtered, *published)}
    moves = {
        partition: (
            epoch,
            expected,
            stops[partition],
            last[partition].leader_epoch if partition in last else None,
        )
        if partition in stops
        else (epoch, expected, target, leader_epoch)
        for partition, (epoch, expected, target, leader_epoch) in batch.moves.items()
        if partition in last or partition in passed
    }
    gaps = tuple(gap for gap in batch.gaps if gap[0] in moves and gap[2] <= moves[gap[0]][2])
    return replace(
        batch,
        moves=moves,
        gaps=gaps,
        events=events,
        filtered=filtered,
        published=published,
        publications=publications,
    )


def _intake(tx: Tx, batch: IntakeBatch) -> IntakeResult:
    _refuse_going_back(batch)
    fence(tx, batch.executor)
    stale, repeated = _compare_watermarks(tx, batch)
    moved = set(batch.moves) - stale - repeated
    if not moved:
        return IntakeResult(stale=frozenset(stale), repeated=frozenset(repeated))
    place = {"consumer": batch.consumer, "incarnation": batch.incarnation}
    moves = [(partition, *batch.moves[partition][2:]) for partition in sorted(moved)]
    tx.change("move_watermarks", named(moves, "partition", "next_offset", "leader_epoch"), **place)
    gaps = [gap for gap in batch.gaps if gap[0] in moved]
    tx.change("insert_gaps", named(gaps, "partition", "first_offset", "next_offset"), **place)
    passed = [(*one, "filtered") for one in batch.filtered if one[0] in moved]
    passed += [(*one, "published") for one in batch.published if one[0] in moved]
    columns = ("partition", "first_offset", "next_offset", "records", "reason")
    tx.change("insert_filtered", named(passed, *columns), **place)
    events = [event for event in batch.events if event.partition in moved]
    known: dict[str, int] = {}
    behind = _lanes_in_use(tx, batch)
    if _insert_workflows(tx, batch, events, behind) < len(events):
        known = _known(tx, batch, events, frozenset(stale))
    fresh = [event for event in events if event.workflow_id not in known] if known else events
    tx.change("insert_events", tx.rows("insert_events", [(event,) for event in fresh]))
    if batch.placed:
        ids = {event.workflow_id for event in fresh}
        rows = [(one,) for one in batch.placed if one.workflow_id in ids]
        tx.change("place_events", tx.rows("place_events", rows))
    refused = [(event.workflow_id, *event.refusal) for event in fresh if event.refusal is not None]
    tx.change("insert_payloads", named(refused, "workflow_id", "codec", "input"))
    publish(tx, [publication for partition, _, publication in batch.publications if partition in moved])
    return IntakeResult(frozenset(stale), frozenset(known), behind=behind, repeated=frozenset(repeated))


def _refuse_going_back(batch: IntakeBatch) -> None:
    for partition, (_, expected, target, _) in batch.moves.items():
        if target < expected:
            raise BadWrite(
                f"The watermark of partition {partition} stands at {expected} and never goes back, so not to {target}."
            )


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


def _lanes_in_use(tx: Tx, batch: IntakeBatch) -> frozenset[str]:
    """Those of the lanes unknown to the caller in which an event stands already."""
    unknown = [{"lane": lane} for lane in sorted(batch.unknown)]
    rows = tx.batch("open_lanes", unknown, consumer=batch.consumer, incarnation=batch.incarnation)
    return frozenset(row.lane for row in rows)


def _insert_workflows(tx: Tx, batch: IntakeBatch, events: Sequence[NewEvent], behind: frozenset[str]) -> int:
    first = _first_sequence(tx, batch, len(events))
    runs_here = batch.queue is None
    rows = [
        {
            "workflow_id": event.workflow_id,
            "partition": event.partition,
            "position": event.offset,
            "lane": event.lane,
            "lane_sequence": (event.offset if first is None else first + number)
            if event.lane is not None
            else None,
            "owned": runs_here and event.kept,
        }
        for number, event in enumerate(events)
    ]
    return tx.change(
        "insert_event_workflows",
        rows,
        behind=sorted(behind),
        application=batch.application,
        name=batch.name,
        version=batch.version,
        queue=batch.queue,
        executor=batch.executor,
        consumer=batch.consumer,
        incarnation=batch.incarnation,
    )


def _first_sequence(tx: Tx, batch: IntakeBatch, count: int) -> int | None:
    """Where these events begin in a lane that counts its events itself; None where offsets count them."""
    if batch.shared_lane is None:
        return None
    place = {"consumer": batch.consumer, "incarnation": batch.incarnation, "lane": batch.shared_lane}
    tx.run("insert_lane", **place)
    return int(tx.run("advance_lane", **place, count=count)[0].next_sequence) - count


def _known(tx: Tx, batch: IntakeBatch, events: Sequence[NewEvent], stale: frozenset[int]) -> dict[str, int]:
    """The fingerprints of events that were there before this transaction; its own are inserted after this look.

    Raises:
        _Conflicting: What is there under an id is another record, or no event of this consumer.
    """
    rows = tx.run("read_known", ids=[event.workflow_id for event in events])
    foreign = frozenset(row.id for row in rows if row.consumer != batch.consumer)
    known = {row.id: row.fingerprint for row in rows if row.fingerprint is not None}
    other = {
        id_ for event in events if known.get(id_ := event.workflow_id, event.fingerprint) != event.fingerprint
    }
    if foreign or other:
        raise _Conflicting(foreign | other, foreign, stale)
    return known
