"""Ordered lanes: which event may run, and who runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.families.executors import fence
from dbos_events.storage.families.taking import end_crashed, read_taken, say_crashed_out
from dbos_events.storage.rows import LanePlace, LaneTaken, TakenWorkflow


class LaneTable:
    """The entries of lanes, in their order (docs/protocol.md, rule 10)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_lanes(
        self,
        executor: int,
        place: LanePlace,
        lanes: Sequence[str],
        count: int,
        limits: Mapping[str, int | None],
    ) -> dict[str, LaneTaken] | None:
        crashed: list[str] = []

        def work(tx: Tx) -> dict[str, LaneTaken] | None:
            nonlocal crashed
            fence(tx, executor)
            if not _holds(tx, executor, place, lanes):
                return None
            heads = {
                lane: _Head(tx.run("lane_entries", **_named(place, lane), count=count), limits)
                for lane in lanes
            }
            crashed = [head.crashed for head in heads.values() if head.crashed is not None]
            end_crashed(tx, crashed)
            taken = _take(tx, executor, [row.id for head in heads.values() for row in head.ready])
            for lane, head in heads.items():
                if head.row is not None and not head.ready:
                    _hold_back(tx, _named(place, lane), head.row)
            found = {lane: head.found(taken, count) for lane, head in heads.items()}
            if place.is_pushed:  # any process may put more into them at any moment
                found = {lane: replace(one, more=bool(one.rows)) for lane, one in found.items()}
            return found

        found = self._database.transact(work)
        say_crashed_out(crashed)
        return found

    def ready_lanes(
        self, executor: int, consumer: int, count: int, after: tuple[int, str] = (0, "")
    ) -> list[tuple[int, int, str]]:
        incarnation, lane = after
        rows = self._database.transact(
            lambda tx: tx.run(
                "ready_lanes",
                executor=executor,
                consumer=consumer,
                after_incarnation=incarnation,
                after_lane=lane,
                count=count,
            )
        )
        return [(row.incarnation, row.partition, row.lane) for row in rows]

    def lanes_after(
        self, consumer: int, incarnation: int, after: str, before: str, count: int
    ) -> list[tuple[str, bool]]:
        place = {"consumer": consumer, "incarnation": incarnation}
        rows = self._database.transact(
            lambda tx: tx.run("lanes_after", **place, after=after, before=before, count=count)
        )
        return [(row.lane, bool(row.may_go_on)) for row in rows]

    def owned_entries(
        self, executor: int, consumer: int, incarnation: int, lanes: Sequence[str]
    ) -> list[tuple[str, str]]:
        rows = self._database.transact(
            lambda tx: tx.batch(
                "owned_entries",
                [{"lane": lane} for lane in lanes],
                executor=executor,
                consumer=consumer,
                incarnation=incarnation,
            )
        )
        return [(row.id, row.lane) for row in rows]

    def release_unstarted(self, executor: int, workflow_ids: Sequence[str]) -> None:
        self._database.transact(lambda tx: tx.run("release_unstarted", executor=executor, ids=workflow_ids))

    def hold_lane(self, executor: int, consumer: int, incarnation: int, lane: str) -> int | None:
        def work(tx: Tx) -> int | None:
            fence(tx, executor)
            place = {"consumer": consumer, "incarnation": incarnation, "lane": lane}
            tx.run("insert_lane", **place)
            row = tx.run("lock_lane", **place)[0]
            if row.holder is not None and tx.run("is_alive", executor=row.holder):
                return int(row.epoch) if row.holder == executor else None
            tx.run("hold_lane", executor=executor, **place)
            return int(row.epoch) + 1

        return self._database.transact(work)

    def leave_lane(self, executor: int, consumer: int, incarnation: int, lane: str) -> None:
        place = {"consumer": consumer, "incarnation": incarnation, "lane": lane}
        self._database.transact(lambda tx: tx.run("leave_lane", executor=executor, **place))

    def count_open(self, consumer: int, incarnation: int, lane: str, limit: int) -> int:
        place = {"consumer": consumer, "incarnation": incarnation, "lane": lane}
        return int(self._database.transact(lambda tx: tx.run("count_open", **place, limit=limit))[0].open)


class _Head:
    """What stands first in one lane: `ready` are the entries that may be taken, from the head on.

    A head whose process crashed too often is put aside, and holds its lane.
    """

    def __init__(self, entries: Sequence[Row], limits: Mapping[str, int | None]) -> None:
        self.entries = len(entries)
        self.row = entries[0] if entries else None
        self.ready: list[Row] = []
        self.crashed: str | None = None
        for row in entries:
            if row.status != "PENDING" or row.owner is not None or row.waits or row.name not in limits:
                break
            self.ready.append(row)
        limit = limits[self.ready[0].name] if self.ready else None
        if limit is not None and self.ready[0].crashes > limit:
            self.crashed = self.ready[0].id
            self.ready.clear()

    def found(self, taken: Mapping[str, TakenWorkflow], count: int) -> LaneTaken:
        if self.row is None:
            return LaneTaken(empty=True)
        rows = tuple(taken[row.id] for row in self.ready if row.id in taken)
        if not rows:
            owner = self.row.owner if self.row.status == "PENDING" else None
            return LaneTaken(owner=owner, head=self.row.id)
        return LaneTaken(rows, more=len(rows) < self.entries or self.entries == count)


def _named(place: LanePlace, lane: str) -> dict[str, object]:
    return {"consumer": place.consumer, "incarnation": place.incarnation, "lane": lane}


def _holds(tx: Tx, executor: int, place: LanePlace, lanes: Sequence[str]) -> bool:
    """Whether this process holds the lanes still, and under the epoch that it knows.

    A lane of pushed events has no holder beside whoever owns its head: its row is locked, so that nothing is put into it
    meanwhile.
    """
    if place.is_pushed:
        tx.run("lock_pushed_lanes", consumer=place.consumer, lanes=sorted(lanes))
        return True
    where = {"consumer": place.consumer, "incarnation": place.incarnation, "executor": executor}
    if place.partition is None:
        row = tx.one("holder_of_lane", **where, lane=place.lane)
    else:
        row = tx.one("holder_of_partition", **where, partition=place.partition)
    return row is not None and row.epoch == place.epoch


def _hold_back(tx: Tx, lane: Mapping[str, object], head: Row) -> None:
    """What is ready behind a head waits; the head is locked, lest it is discarded in this moment."""
    place = {**lane, "head": head.lane_sequence}
    if tx.run("ready_behind", **place) and tx.run("lock_head", workflow_id=head.id):
        tx.run("hold_back", **place)


def _take(tx: Tx, executor: int, ids: Sequence[str]) -> dict[str, TakenWorkflow]:
    if not ids:
        return {}
    rows = tx.run("take_lane_entries", executor=executor, ids=ids)
    return {taken.id: taken for taken in read_taken(tx, [row.id for row in rows])}
