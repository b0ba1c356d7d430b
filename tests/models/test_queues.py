"""Queues with delays, deduplication, partitions and limits, under whatever is asked of them in an order by chance.

The model is a handful of rows. It says which workflow has a deduplication id, what a claim may take and how much of it
there must be; which of the partitions come first is the queue's own business, as long as none is passed over for long.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest

from dbos_events.model.queue import QueueLimits
from dbos_events.model.workflow import CANCELLED, DELAYED, ENQUEUED, PENDING, SUCCESS
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.queues import RESUMED
from dbos_events.storage.subjects.taking import TakenWorkflow, Taker
from dbos_events.storage.writes import WRITTEN, Deduplicated, Result
from dbos_events.testing import ManualClock
from tests.models.acting import ActingMachine, act
from tests.models.profiles import LONG, run
from tests.models.rows import empty
from tests.storage.building import APP, end, kill, park, read, register, start, write
from tests.storage.conftest import Open

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 120 * LONG)]

Q = "q"
SECOND = 1000
OPEN = (ENQUEUED, DELAYED, PENDING)
KEYS = ("a", "b", "c")
LIMITS = {
    "none": QueueLimits(),
    "concurrency": QueueLimits(concurrency=3, limiter={"limit": 4, "period": 5.0}),
    "partitions": QueueLimits(concurrency=4, partition_concurrency=2),
    "partition rate": QueueLimits(
        partition_limiter={"limit": 2, "period": 4.0}, partition_worker_concurrency=1, partition_concurrency=2
    ),
}
WHICH = st.integers(0, 99)
NEW = st.tuples(
    st.sampled_from([None, None, "d", "e"]), st.sampled_from(KEYS), st.sampled_from([None, None, 0, 2]), st.integers(0, 2)
)  # fmt: skip


@dataclass
class Item:
    """A workflow of the queue; `queue` is None once it was resumed."""

    id: str
    number: int
    created_at: int
    key: str | None
    priority: int
    status: str
    deduplication_id: str | None
    queue: str | None = Q
    delay_until: int | None = None
    owner: int | None = None
    take: int = 0
    wake_at: int | None = None

    @property
    def age(self) -> tuple[int, int, int]:
        return self.priority, self.created_at, self.number


class QueueMachine(ActingMachine):
    """Each act is one call, judged by the model, and then all rows are compared."""

    storage: ClassVar[SqlStorage]
    clock: ClassVar[ManualClock]
    limits: ClassVar[QueueLimits]

    def __init__(self) -> None:
        super().__init__()
        empty(self.storage)
        self.numbers = itertools.count(1)
        self.items: dict[str, Item] = {}
        self.starts: list[tuple[int, str | None]] = []
        self.executors = [register(self.storage), register(self.storage)]
        self.after = dict.fromkeys(self.executors, "")
        self.passed_over: Counter[str] = Counter()
        self.storage.queues.save_declared(APP, {Q: self.limits})
        state = self.storage.queues.get(APP, Q)
        assert state is not None
        self.state = state

    @property
    def now(self) -> int:
        return self.clock.now_ms()

    def after_each(self) -> None:
        """The rows are as the model has them; then a moment passes, so that no two things happen at the same time."""
        rows = read(
            self.storage,
            "SELECT id, status, owner, take, queue, queue_partition_key, deduplication_id, delay_until,"
            " CASE WHEN status IN ('PENDING', 'DELAYED') THEN wake_at END AS due FROM {schema}.workflows",
        )
        found = {row.id: tuple(row)[1:] for row in rows}
        expected = {
            one.id: (
                one.status, one.owner, one.take, one.queue, one.key, one.deduplication_id, one.delay_until,
                one.delay_until if one.status == DELAYED else one.wake_at,
            )
            for one in self.items.values()
        }  # fmt: skip
        assert found == expected
        self.clock.move_to(self.now + 1)

    def some(self, which: int, *statuses: str) -> Item | None:
        found = [one for one in self.items.values() if one.status in statuses]
        return found[which % len(found)] if found else None

    # -- coming -------------------------------------------------------------------------------

    @act(6, which=WHICH, new=st.lists(NEW, min_size=1, max_size=4))
    def enqueue(self, which: int, new: list[tuple[str | None, str, int | None, int]]) -> None:
        """Several at once: a deduplication id that is taken stops its own enqueue and no other."""
        writes, answers = [], []
        for wish, key, delay, priority in new:
            number = next(self.numbers)
            partition = key if self.limits.partitioned else None
            id_ = f"w{number:04}"
            due = {} if delay is None else {"status": DELAYED, "delay_ms": delay * SECOND}
            writes.append(
                start(id_, start_id=number, queue=Q, deduplication_id=wish, queue_partition_key=partition,
                      priority=priority, **due)
            )  # fmt: skip
            winner = self.winner(wish)
            if winner is not None:
                answers.append(Deduplicated(winner.id))
                continue
            answers.append(WRITTEN)
            self.items[id_] = Item(
                id_, number, self.now, partition, priority, DELAYED if due else ENQUEUED, wish,
                delay_until=None if delay is None else self.now + delay * SECOND,
            )  # fmt: skip
        results: list[Result] = write(self.storage, self.executors[which % len(self.executors)], *writes)
        assert results == answers
        self.after_each()

    def winner(self, wish: str | None) -> Item | None:
        """Who has a deduplication id: at most one that has not ended."""
        having = [one for one in self.items.values() if wish is not None and one.deduplication_id == wish]
        found = [one for one in having if one.status in OPEN]
        assert len(found) <= 1
        return found[0] if found else None

    @act(3, seconds=st.integers(0, 3))
    def promote(self, seconds: int) -> None:
        self.clock.move_to(self.now + seconds * SECOND)
        self.storage.queues.promote_due(APP)
        for one in self.items.values():
            if one.status == DELAYED and (one.delay_until or 0) <= self.now:
                one.status = ENQUEUED
        self.after_each()

    @act(2, lambda self: self.items, which=WHICH, seconds=st.integers(0, 3))
    def move_delay(self, which: int, seconds: int) -> None:
        one = list(self.items.values())[which % len(self.items)]
        moved = self.storage.queues.set_delay(one.id, delay_ms=seconds * SECOND, until=None)
        assert moved == (one.status == DELAYED)
        if moved:
            one.delay_until = self.now + seconds * SECOND
        self.after_each()

    # -- going --------------------------------------------------------------------------------

    @act(8, which=WHICH, count=st.integers(1, 5))
    def claim(self, which: int, count: int) -> None:
        executor = self.executors[which % len(self.executors)]
        busy = Counter(one.key or "" for one in self.items.values() if one.owner == executor and one.queue)
        waiting = [one for one in self.items.values() if (one.status, one.queue) == (ENQUEUED, Q)]
        rooms, room = self.rooms(busy), min(count, self.whole_room())
        taker = Taker(executor, APP, "v1", ["work"])
        claim = self.storage.queues.claim(taker, self.state, count, busy=busy, after=self.after[executor])
        assert not claim.changed
        self.after[executor] = claim.after
        taken = [self.items[row.id] for row in claim.rows]
        assert all(one in waiting for one in taken)
        if not self.limits.partitioned:
            assert sorted(one.id for one in taken) == sorted(
                one.id for one in sorted(waiting, key=lambda o: o.age)[: max(0, room)]
            )
        else:
            self.judge_partitions(waiting, taken, rooms, room)
        self.began(executor, claim.rows)
        if self.limits.limiter is not None or self.limits.partition_limiter is not None:
            self.starts += [(self.now, one.key) for one in taken]
        self.after_each()

    def judge_partitions(
        self, waiting: list[Item], taken: list[Item], rooms: dict[str, int], room: int
    ) -> None:
        """Each within its own room and in its order; nothing that could begin waits while there is room."""
        could = 0
        for key in KEYS:
            here = sorted((one for one in waiting if one.key == key), key=lambda one: one.age)
            mine = [one for one in taken if one.key == key]
            able = min(len(here), max(0, rooms[key]))
            assert len(mine) <= able
            assert {one.id for one in mine} == {one.id for one in here[: len(mine)]}, (
                "the next ones of the partition"
            )
            could += able
            if taken and able and not mine:
                self.passed_over[key] += 1
                assert self.passed_over[key] <= 2 * len(KEYS), "no partition starves"
            else:
                self.passed_over[key] = 0
        assert len(taken) == min(max(0, room), could), "room is used"

    def whole_room(self) -> int:
        room = 99
        if self.limits.concurrency is not None:
            room = self.limits.concurrency - len(self.running())
        if self.limits.limiter is not None:
            since = self.now - round(self.limits.limiter["period"] * 1000)
            room = min(room, self.limits.limiter["limit"] - len([at for at, _ in self.starts if at > since]))
        return room

    def rooms(self, busy: Counter[str]) -> dict[str, int]:
        limits = self.limits
        rooms = dict.fromkeys(KEYS, 99)
        for key in KEYS:
            if limits.partition_concurrency is not None:
                running = [one for one in self.running() if one.key == key]
                rooms[key] = min(rooms[key], limits.partition_concurrency - len(running))
            if limits.partition_worker_concurrency is not None:
                rooms[key] = min(rooms[key], limits.partition_worker_concurrency - busy[key])
            if limits.partition_limiter is not None:
                since = self.now - round(limits.partition_limiter["period"] * 1000)
                begun = [at for at, of in self.starts if of == key and at > since]
                rooms[key] = min(rooms[key], limits.partition_limiter["limit"] - len(begun))
        return rooms

    def running(self) -> list[Item]:
        return [one for one in self.items.values() if one.status == PENDING and one.owner and one.queue]

    def began(self, executor: int, rows: Any) -> None:
        taken: list[TakenWorkflow] = list(rows)
        for row in taken:
            one = self.items[row.id]
            one.status, one.owner, one.take, one.wake_at = PENDING, executor, one.take + 1, None
            assert row.take == one.take

    @act(1, which=WHICH)
    def claim_resumed(self, which: int) -> None:
        executor = self.executors[which % len(self.executors)]
        rows = self.storage.queues.claim(Taker(executor, APP, "v1", ["work"]), RESUMED, 9).rows
        expected = {one.id for one in self.items.values() if (one.status, one.queue) == (ENQUEUED, None)}
        assert {row.id for row in rows} == expected
        self.began(executor, rows)
        self.after_each()

    def active(self) -> list[Item]:
        return [one for one in self.items.values() if one.status == PENDING and one.owner in self.executors]

    @act(6, lambda self: self.active(), which=WHICH, how=st.sampled_from([SUCCESS, "ERROR", "park"]))
    def leave(self, which: int, how: str) -> None:
        """It ends, which frees its deduplication id, or parks, which does not; both free its place."""
        one = self.active()[which % len(self.active())]
        executor, one.owner = one.owner, None
        assert executor is not None
        if how == "park":
            one.wake_at = self.now + 2 * SECOND
            write(self.storage, executor, park(one.id, one.wake_at, take=one.take))
        else:
            write(self.storage, executor, end(one.id, take=one.take, status=how))
            one.status, one.owner = how, executor
        self.after_each()

    @act(3, which=WHICH, seconds=st.integers(0, 3))
    def wake(self, which: int, seconds: int) -> None:
        """What was parked goes back to its queue, and waits for its turn; its id stays its own."""
        self.clock.move_to(self.now + seconds * SECOND)
        executor = self.executors[which % len(self.executors)]
        rows = self.storage.taking.wake_due(Taker(executor, APP, "v1", ["work"]), 99)
        due = [one for one in self.items.values() if one.wake_at is not None and one.wake_at <= self.now]
        for one in due:
            one.wake_at = None
            if one.queue is not None:
                one.status = ENQUEUED
        self.began(executor, rows)
        assert {row.id for row in rows} == {one.id for one in due if one.queue is None}
        self.after_each()

    # -- what operators and crashes do --------------------------------------------------------

    @act(2, lambda self: self.some(0, *OPEN), which=WHICH)
    def cancel(self, which: int) -> None:
        one = self.some(which, *OPEN)
        assert one is not None
        assert self.storage.workflows.cancel([one.id]) == [one.id]
        one.status, one.wake_at = CANCELLED, None
        self.after_each()

    @act(2, lambda self: self.some(0, CANCELLED, *OPEN), which=WHICH)
    def resume(self, which: int) -> None:
        """It leaves its queue, and with that gives its deduplication id up."""
        one = self.some(which, CANCELLED, *OPEN)
        assert one is not None
        had_ended = one.status == CANCELLED
        assert self.storage.workflows.resume([one.id]) == [one.id]
        one.status, one.queue, one.owner, one.take = ENQUEUED, None, None, one.take + 1
        one.wake_at = one.delay_until = None
        if had_ended:
            one.deduplication_id = None
        self.after_each()

    @act(1, which=WHICH)
    def die(self, which: int) -> None:
        """A process is killed; what it ran keeps its place until another has taken it up."""
        dead = self.executors.pop(which % len(self.executors))
        kill(self.storage, dead)
        successor = register(self.storage)
        self.executors.append(successor)
        self.after[successor] = ""
        if which % 2:
            left = [one for one in self.items.values() if one.status == PENDING and one.owner == dead]
            rows = self.storage.taking.adopt(Taker(successor, APP, "v1", ["work"]), {"work": None}, 99)
            assert {one.id for one in left} <= {row.id for row in rows}
            self.began(successor, rows)
        self.after_each()


@pytest.mark.parametrize("limits", list(LIMITS))
def test_rule_22_queues_answer_as_their_model_does(
    limits: str, migrated_url: str, opened: Open, clock: ManualClock
) -> None:
    fields = {"storage": opened(migrated_url), "clock": clock, "limits": LIMITS[limits]}
    run(type("Machine", (QueueMachine,), fields), examples=8, steps=40)
