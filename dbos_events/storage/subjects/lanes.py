"""Ordered lanes: which event may run, who runs it, and how many wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from dbos_events.model.dataclass import dataclass, replace
from dbos_events.storage.database import Database, Row, Tx
from dbos_events.storage.narrow import Narrow, take_apart
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.subjects.taking import TakenWorkflow, end_crashed, read_taken, say_crashed_out


class LanePlace(NamedTuple):
    """Where lanes lie, and the epoch under which this process holds them.

    `partition` is None for a lane over all partitions of the topic; `lane` is then its name. The incarnation of pushed
    events is 0: their place is all lanes of a consumer, and has no epoch.
    """

    consumer: int
    incarnation: int
    partition: int | None
    epoch: int
    lane: str = ""

    @property
    def is_pushed(self) -> bool:
        """Whether the events of these lanes are pushed."""
        return self.incarnation == 0


@dataclass(frozen=True, slots=True)
class LaneTaken:
    """What was found at the head of a lane.

    `rows` were taken, in order; `more` says that others may follow them. Without rows: `empty` when
    nothing holds the lane; else `owner` is who runs its head, None when that is put aside or sleeps.
    """

    rows: tuple[TakenWorkflow, ...] = ()
    more: bool = False
    empty: bool = False
    owner: int | None = None
    head: str | None = None


class Lanes(Protocol):
    """Events that must run in order (protocol 10)."""

    def take(
        self,
        executor: int,
        place: LanePlace,
        lanes: Sequence[str],
        count: int,
        limits: Mapping[str, int | None],
    ) -> dict[str, LaneTaken] | None:
        """Take up to `count` events of each lane, from its head on, as far as nobody runs them and none sleeps.

        None when another process has become the holder. `limits` names the functions that may be taken; a
        head that crashed more often than its limit is ended and put aside instead.
        """
        ...

    def ready(
        self, executor: int, consumer: int, count: int, after: tuple[int, str] = (0, "")
    ) -> list[tuple[int, int, str]]:
        """Lanes (incarnation, partition, name), held by this executor, in which an event became ready.

        The first `count` after (incarnation, name), in this order. Whoever asks goes on where it stopped: what
        becomes ready before that place again and again keeps nothing waiting that lies behind it.
        """
        ...

    def after(
        self, consumer: int, incarnation: int, after: str, before: str, count: int
    ) -> list[tuple[str, bool]]:
        """The next `count` lanes, by name, between two names, that an event still holds.

        With each, whether its head may go on; else it is put aside, or sleeps.
        """
        ...

    def owned(
        self, executor: int, consumer: int, incarnation: int, lanes: Sequence[str]
    ) -> list[tuple[str, str]]:
        """What this executor owns in these lanes: id and lane of each."""
        ...

    def release_unstarted(self, executor: int, workflow_ids: Sequence[str]) -> None:
        """Give ordered events back that were never started here."""
        ...

    def hold(self, executor: int, consumer: int, incarnation: int, lane: str) -> int | None:
        """Become the holder of a lane over several partitions; gives its epoch, None while another holds it."""
        ...

    def leave(self, executor: int, consumer: int, incarnation: int, lane: str) -> None:
        """Hold it no more."""
        ...

    def count_open(self, consumer: int, incarnation: int, lane: str, limit: int) -> int:
        """How many events still hold a lane, counted up to `limit`."""
        ...

    def count_held(self, consumer: int, incarnation: int, lane_prefix: str, limit: int) -> int:
        """How many events are held, at most `limit`: in the lane, and in those below it (`3` and `3/key`).

        An empty prefix is all lanes of the incarnation.
        """
        ...

    def free_of_dead(self, application: str) -> int:
        """Clear the owner of ordered events whose executor is dead; their lane's holder runs them."""
        ...


class LaneTable:
    """The entries of lanes, in their order (docs/protocol.md, rule 10)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(
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

    def ready(
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

    def after(
        self, consumer: int, incarnation: int, after: str, before: str, count: int
    ) -> list[tuple[str, bool]]:
        place = {"consumer": consumer, "incarnation": incarnation}
        rows = self._database.transact(
            lambda tx: tx.run("lanes_after", **place, after=after, before=before, count=count)
        )
        return [(row.lane, bool(row.may_go_on)) for row in rows]

    def owned(
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

    def hold(self, executor: int, consumer: int, incarnation: int, lane: str) -> int | None:
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

    def leave(self, executor: int, consumer: int, incarnation: int, lane: str) -> None:
        place = {"consumer": consumer, "incarnation": incarnation, "lane": lane}
        self._database.transact(lambda tx: tx.run("leave_lane", executor=executor, **place))

    def count_open(self, consumer: int, incarnation: int, lane: str, limit: int) -> int:
        place = {"consumer": consumer, "incarnation": incarnation, "lane": lane}
        return int(self._database.transact(lambda tx: tx.run("count_open", **place, limit=limit))[0].open)

    def count_held(self, consumer: int, incarnation: int, lane_prefix: str, limit: int) -> int:
        rows = self._database.transact(
            lambda tx: tx.run(
                "count_held", consumer=consumer, incarnation=incarnation, lane=lane_prefix, count=limit
            )
        )
        return int(rows[0].held)

    def free_of_dead(self, application: str) -> int:
        def run(narrow: Narrow) -> list[str]:
            return self._database.transact(
                lambda tx: [row.id for row in narrow.run(tx, "free_lanes_of_dead", application=application)]
            )

        return sum(map(len, take_apart(self._database, "freeing the lanes of the dead", run, run)))


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
