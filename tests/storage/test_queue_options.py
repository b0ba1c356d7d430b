"""Queues whole: partitions, priorities that age, delays, deduplication, settings that change."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from dbos_events.model.queue import QueueLimits, QueueState
from dbos_events.model.workflow import DELAYED, ENQUEUED, PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.claiming import MOST_PRIORITIES, PAGE
from dbos_events.storage.subjects.queues import RESUMED, Claim
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import WRITTEN, Deduplicated, Existing
from dbos_events.testing.clock import ManualClock
from tests.storage.building import (
    APP,
    begin,
    end,
    ids,
    kill,
    park,
    read,
    register,
    start,
    step,
    workflow,
    write,
)
from tests.storage.racing import at_once, await_waiting, meanwhile, open_batch

Q = "q"


def declared(storage: SqlStorage, limits: QueueLimits, name: str = Q) -> QueueState:
    storage.queues.save_declared(APP, {name: limits})
    state = storage.queues.get(APP, name)
    assert state is not None
    return state


def claim(
    storage: SqlStorage, executor: int, state: QueueState, count: int = 99, version: str = "v1", **more: Any
) -> Claim:
    return storage.queues.claim(Taker(executor, APP, version, ["work"]), state, count, **more)


def claimed(storage: SqlStorage, executor: int, state: QueueState, count: int = 99, **more: Any) -> list[str]:
    return ids(claim(storage, executor, state, count, **more).rows)


def fill(storage: SqlStorage, executor: int, partition: str, count: int) -> None:
    """Workflows `partition-0`, `partition-1`, ... of one partition."""
    write(
        storage,
        executor,
        *(start(f"{partition}-{n}", queue=Q, queue_partition_key=partition) for n in range(count)),
    )


def partitions(names: Sequence[str]) -> Counter[str]:
    return Counter(name.split("-")[0] for name in names)


# ------------------------------------------------------------------ partitions


def test_each_partition_has_its_own_concurrency(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits(partition_concurrency=2))
    first, second = register(storage), register(storage)
    for name, count in (("a", 5), ("b", 1), ("c", 3)):
        fill(storage, first, name, count)
    taken = claimed(storage, first, state)
    assert partitions(taken) == {"a": 2, "b": 1, "c": 2}
    assert claimed(storage, second, state) == []
    write(storage, first, end("a-0"), end("b-0"))
    assert claimed(storage, second, state) == ["a-2"]


def test_a_partition_and_the_whole_queue_can_both_be_limited(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits(concurrency=3, partition_concurrency=2))
    executor = register(storage)
    for name in "abc":
        fill(storage, executor, name, 4)
    assert partitions(claimed(storage, executor, state)) == {"a": 1, "b": 1, "c": 1}


def test_room_that_one_partition_does_not_need_goes_to_the_others(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits(partitions=True))
    executor = register(storage)
    fill(storage, executor, "a", 1)
    fill(storage, executor, "b", 30)
    fill(storage, executor, "c", 2)
    assert partitions(claimed(storage, executor, state, 12)) == {"a": 1, "b": 9, "c": 2}


def test_no_partition_waits_behind_anothers_backlog(storage: SqlStorage) -> None:
    """One of a thousand and twenty of one: with room for three at a time, each has its turn within seven claims."""
    state = declared(storage, QueueLimits(partitions=True))
    executor = register(storage)
    fill(storage, executor, "backlog", 200)
    for number in range(20):
        fill(storage, executor, f"p{number:02}", 1)
    found: list[str] = []
    after = ""
    for _ in range(7):
        claim_ = claim(storage, executor, state, 3, after=after)
        found += ids(claim_.rows)
        after = claim_.after
    assert {f"p{number:02}" for number in range(20)} <= set(partitions(found))


def test_more_partitions_than_one_look_sees_are_all_served(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits(partition_concurrency=1))
    executor = register(storage)
    count = 2 * PAGE + 7
    starts = [start(f"w{n:04}", queue=Q, queue_partition_key=f"p{n:04}") for n in range(count)]
    write(storage, executor, *starts)
    taken = claimed(storage, executor, state, count, after="p0100")
    assert sorted(taken) == [f"w{n:04}" for n in range(count)]


def test_partitions_that_are_full_do_not_keep_others_from_their_turn(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits(partition_concurrency=1))
    executor = register(storage)
    full = 2 * PAGE + 5
    for turn in range(2):
        write(
            storage,
            executor,
            *(start(f"w{n:04}-{turn}", queue=Q, queue_partition_key=f"p{n:04}") for n in range(full)),
        )
    assert len(claimed(storage, executor, state, full)) == full
    fill(storage, executor, "z", 2)
    assert claimed(storage, executor, state) == ["z-0"]


def test_the_rate_of_each_partition_is_exact(storage: SqlStorage, clock: ManualClock) -> None:
    state = declared(storage, QueueLimits(partition_limiter={"limit": 2, "period": 2.0}))
    first, second = register(storage), register(storage)
    for name in "ab":
        fill(storage, first, name, 9)
    at = clock.now_ms()
    assert partitions(claimed(storage, first, state, 3)) == {"a": 2, "b": 1}
    clock.move_to(at + 500)
    assert partitions(claimed(storage, second, state)) == {"b": 1}
    clock.move_to(at + 1999)
    claim_ = claim(storage, second, state)
    assert (ids(claim_.rows), claim_.wait_ms) == ([], 1)
    clock.move_to(at + 2000)
    assert partitions(claimed(storage, second, state)) == {"a": 2, "b": 1}


def test_a_partition_has_its_own_room_in_each_process(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits(partition_worker_concurrency=2))
    executor = register(storage)
    fill(storage, executor, "a", 9)
    fill(storage, executor, "b", 9)
    taken = claimed(storage, executor, state, busy={"a": 1})
    assert partitions(taken) == {"a": 1, "b": 2}


def test_partitions_of_another_application_or_queue_are_left_alone(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits(partition_concurrency=1))
    executor = register(storage)
    fill(storage, executor, "mine", 1)
    begin(storage, executor, "theirs", queue=Q, queue_partition_key="p", application="another")
    begin(storage, executor, "other", queue="other", queue_partition_key="p")
    assert claimed(storage, executor, state) == ["mine-0"]


def test_within_a_partition_priority_counts_before_age(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits(partitions=True))
    executor = register(storage)
    for name, priority in (("last", 5), ("first", 1), ("middle", 3)):
        begin(storage, executor, name, queue=Q, queue_partition_key="p", priority=priority)
    assert claimed(storage, executor, state, 1) == ["first"]
    assert claimed(storage, executor, state, 1) == ["middle"]


def test_partition_limits_hold_when_processes_claim_at_once(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    state = declared(storage, QueueLimits(partition_concurrency=2))
    first, second = register(storage), register(storage)
    for name in "abc":
        fill(storage, first, name, 12)
    query = (
        "SELECT max(n) AS n FROM (SELECT count(*) AS n FROM {schema}.workflows WHERE status = 'PENDING' "
        "GROUP BY queue_partition_key) AS counted"
    )

    def rounds(one: SqlStorage, executor: int) -> int:
        most = 0
        for _ in range(8):
            for name in claimed(one, executor, state, 4):
                most = max(most, read(one, query)[0].n)
                write(one, executor, end(name))
        return most

    found = at_once(lambda: rounds(storage, first), lambda: rounds(other_storage, second))
    assert max(found) <= 2


# ------------------------------------------------------------------ priorities that age


@pytest.mark.parametrize("partition", [None, "p"])
def test_a_low_priority_overtakes_once_it_is_old_enough(
    storage: SqlStorage, clock: ManualClock, partition: str | None
) -> None:
    limits = QueueLimits(priority_ages=10.0, partitions=partition is not None)
    state = declared(storage, limits)
    executor = register(storage)
    at = clock.now_ms()
    begin(storage, executor, "old", queue=Q, priority=5, queue_partition_key=partition)
    clock.move_to(at + 39_999)
    begin(storage, executor, "young", queue=Q, priority=1, queue_partition_key=partition)
    clock.move_to(at + 40_001)
    begin(storage, executor, "younger", queue=Q, priority=1, queue_partition_key=partition)
    assert claimed(storage, executor, state, 1) == ["young"], "four steps outweigh less than forty seconds"
    assert claimed(storage, executor, state, 1) == ["old"]
    assert claimed(storage, executor, state, 1) == ["younger"]


def test_priorities_age_however_many_there_are(storage: SqlStorage, clock: ManualClock) -> None:
    state = declared(storage, QueueLimits(priority_ages=1.0))
    executor = register(storage)
    count = MOST_PRIORITIES + 5
    for number in range(count):
        begin(storage, executor, f"w{number:03}", queue=Q, priority=count - number)
        clock.move_to(clock.now_ms() + 2000)
    assert sorted(claimed(storage, executor, state, 3)) == ["w000", "w001", "w002"]


def test_the_change_of_ageing_counts_for_what_waits_already(storage: SqlStorage, clock: ManualClock) -> None:
    state = declared(storage, QueueLimits())
    executor = register(storage)
    begin(storage, executor, "old", queue=Q, priority=2)
    clock.move_to(clock.now_ms() + 5000)
    begin(storage, executor, "young", queue=Q, priority=1)
    state = declared(storage, QueueLimits(priority_ages=1.0))
    assert claimed(storage, executor, state, 1) == ["old"]


# ------------------------------------------------------------------ delays


def test_what_is_delayed_waits_for_its_time_and_then_for_its_turn(
    storage: SqlStorage, clock: ManualClock
) -> None:
    state = declared(storage, QueueLimits())
    executor = register(storage)
    at = clock.now_ms()
    begin(storage, executor, "w", queue=Q, status=DELAYED, delay_ms=5000)
    assert workflow(storage, "w").delay_until == at + 5000
    assert storage.taking.next_wake(APP) == 5000
    clock.move_to(at + 4999)
    assert storage.queues.promote_due(APP) == []
    assert claimed(storage, executor, state) == []
    clock.move_to(at + 5000)
    assert storage.queues.promote_due(APP) == [Q]
    assert workflow(storage, "w").status == ENQUEUED
    assert claimed(storage, executor, state) == ["w"]


def test_a_delay_is_moved_only_while_it_lasts(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    at = clock.now_ms()
    begin(storage, executor, "w", queue=Q, status=DELAYED, delay_ms=5000)
    assert storage.queues.set_delay("w", delay_ms=1000, until=None)
    assert workflow(storage, "w").wake_at == at + 1000
    assert storage.queues.set_delay("w", delay_ms=None, until=at + 7000)
    assert workflow(storage, "w").delay_until == at + 7000
    clock.move_to(at + 7000)
    storage.queues.promote_due(APP)
    assert not storage.queues.set_delay("w", delay_ms=1000, until=None)
    assert workflow(storage, "w").status == ENQUEUED


def test_what_is_delayed_can_be_cancelled_and_resumed(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    begin(storage, executor, "w", queue=Q, status=DELAYED, delay_ms=5000)
    storage.workflows.cancel(["w"])
    assert storage.taking.next_wake(APP) is None
    storage.workflows.resume(["w"])
    assert claimed(storage, executor, RESUMED) == ["w"]


# ------------------------------------------------------------------ deduplication


def enqueue(storage: SqlStorage, executor: int, name: str, **fields: Any) -> Any:
    [result] = write(storage, executor, start(name, queue=Q, deduplication_id="d", **fields))
    return result


def test_a_second_enqueue_with_the_id_is_answered_with_the_winner(storage: SqlStorage) -> None:
    executor = register(storage)
    assert enqueue(storage, executor, "first") == WRITTEN
    assert enqueue(storage, executor, "second") == Deduplicated("first")
    assert read(storage, "SELECT id FROM {schema}.workflows WHERE id = 'second'") == []
    assert read(storage, "SELECT 1 FROM {schema}.payloads WHERE workflow_id = 'second'") == []


def test_the_same_workflow_id_again_is_the_same_workflow_and_no_conflict(storage: SqlStorage) -> None:
    executor = register(storage)
    enqueue(storage, executor, "w")
    assert isinstance(enqueue(storage, executor, "w"), Existing)


def test_a_conflict_stops_nothing_else_of_its_batch(storage: SqlStorage) -> None:
    executor = register(storage)
    enqueue(storage, executor, "first")
    results = write(
        storage,
        executor,
        start("before", queue=Q),
        start("loser", queue=Q, deduplication_id="d"),
        start("other", queue=Q, deduplication_id="e"),
        start("twin", queue=Q, deduplication_id="e"),
        start("after"),
    )
    assert results == [WRITTEN, Deduplicated("first"), WRITTEN, Deduplicated("other"), WRITTEN]


def test_a_start_that_lost_leaves_nothing_in_its_parents_history(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "parent")
    enqueue(storage, executor, "first")
    child = step("parent", 1, child_id="second")
    child.change = start("second", queue=Q, deduplication_id="d", parent_id="parent").change
    assert write(storage, executor, child) == [Deduplicated("first")]
    assert storage.workflows.list_steps("parent") == []


@pytest.mark.parametrize(
    "stage", ["waiting", "delayed", "running", "parked", "requeued", "adopted", "resumed"]
)
def test_the_id_is_taken_until_the_workflow_has_ended(
    storage: SqlStorage, clock: ManualClock, stage: str
) -> None:
    state = declared(storage, QueueLimits())
    executor = register(storage)
    delayed = {"status": DELAYED, "delay_ms": 5000} if stage == "delayed" else {}
    enqueue(storage, executor, "first", **delayed)
    if stage in ("running", "parked", "requeued", "adopted"):
        claimed(storage, executor, state)
    if stage in ("parked", "requeued"):
        write(storage, executor, park("first", 0))
    if stage == "requeued":
        storage.taking.wake_due(Taker(executor, APP, "v1", ["work"]), 9)
    if stage == "resumed":
        storage.workflows.resume(["first"])
    if stage == "adopted":
        kill(storage, executor)
        executor = register(storage)
        storage.taking.adopt(Taker(executor, APP, "v1", ["work"]), {"work": None}, 9)
    assert enqueue(storage, executor, "second") == Deduplicated("first")


@pytest.mark.parametrize("ending", ["SUCCESS", "ERROR", "cancelled"])
def test_the_id_is_free_with_the_outcome(storage: SqlStorage, ending: str) -> None:
    state = declared(storage, QueueLimits())
    executor = register(storage)
    enqueue(storage, executor, "first")
    claimed(storage, executor, state)
    if ending == "cancelled":
        storage.workflows.cancel(["first"])
    else:
        write(storage, executor, end("first", status=ending))
    assert enqueue(storage, executor, "second") == WRITTEN


def test_resuming_what_had_given_its_id_up_stands_in_nobodys_way(storage: SqlStorage) -> None:
    executor = register(storage)
    enqueue(storage, executor, "first")
    storage.workflows.cancel(["first"])
    enqueue(storage, executor, "second")
    assert storage.workflows.resume(["first"]) == ["first"]
    assert workflow(storage, "first").deduplication_id is None
    assert enqueue(storage, executor, "third") == Deduplicated("second")


def test_the_id_counts_for_its_queue_and_application(storage: SqlStorage) -> None:
    executor = register(storage)
    enqueue(storage, executor, "first")
    [other, theirs] = write(
        storage,
        executor,
        start("other", queue="other", deduplication_id="d"),
        start("theirs", queue=Q, deduplication_id="d", application="another"),
    )
    assert (other, theirs) == (WRITTEN, WRITTEN)


def test_who_comes_while_the_outcome_is_under_way_gets_the_id(postgres_storage: SqlStorage) -> None:
    """Both orders: the enqueue waits for the transaction of the outcome, and wins; before it, it loses."""
    storage = postgres_storage
    executor = register(storage)
    state = declared(storage, QueueLimits())
    enqueue(storage, executor, "first")
    claimed(storage, executor, state)
    assert enqueue(storage, executor, "before") == Deduplicated("first")
    with open_batch(storage, executor, end("first")):  # noqa: SIM117
        with meanwhile(lambda: enqueue(storage, executor, "meanwhile")) as meant:
            await_waiting(storage, meant)
    assert meant.result(10) == WRITTEN


def test_who_comes_while_another_enqueues_waits_for_it(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    executor = register(storage)
    with open_batch(storage, executor, start("first", queue=Q, deduplication_id="d")):  # noqa: SIM117
        with meanwhile(lambda: enqueue(storage, executor, "second")) as second:
            await_waiting(storage, second)
    assert second.result(10) == Deduplicated("first")


def test_a_thousand_enqueues_at_once_make_one_workflow(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    executors = [register(storage), register(storage)]

    def many(one: SqlStorage, executor: int) -> list[Any]:
        return [enqueue(one, executor, f"w-{executor}-{number}") for number in range(50)]

    found = at_once(lambda: many(storage, executors[0]), lambda: many(other_storage, executors[1]))
    [winner] = [row.id for row in read(storage, "SELECT id FROM {schema}.workflows WHERE queue = 'q'")]
    answers = [answer for answers in found for answer in answers]
    assert answers.count(WRITTEN) == 1
    assert answers.count(Deduplicated(winner)) == 99


# ------------------------------------------------------------------ versions


def test_what_is_meant_for_a_version_is_left_to_it(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits())
    old, new = register(storage, version="v1"), register(storage, version="v2")
    begin(storage, old, "w", queue=Q, version="v2", version_pinned=True)
    assert claimed(storage, old, state, version="v1") == []
    assert claimed(storage, new, state, version="v2") == ["w"]


# ------------------------------------------------------------------ settings


def test_a_change_of_limits_counts_at_the_next_claim_of_every_process(storage: SqlStorage) -> None:
    before = declared(storage, QueueLimits(concurrency=5))
    executor = register(storage)
    begin(storage, executor, *[f"w{n}" for n in range(9)], queue=Q)
    now = declared(storage, QueueLimits(concurrency=2))
    stale = claim(storage, executor, before)
    assert (list(stale.rows), stale.changed) == ([], True)
    assert len(claimed(storage, executor, now)) == 2


def test_whoever_thinks_that_there_is_no_limit_takes_nothing_once_there_is(storage: SqlStorage) -> None:
    before = declared(storage, QueueLimits())
    executor = register(storage)
    begin(storage, executor, "a", "b", queue=Q)
    declared(storage, QueueLimits(concurrency=1))
    assert claimed(storage, executor, before) == []


def test_the_same_settings_again_change_nothing(storage: SqlStorage) -> None:
    limits = QueueLimits(limiter={"limit": 3, "period": 1.5}, partition_concurrency=2, priority_ages=3.0)
    first = declared(storage, limits)
    assert declared(storage, limits) == first
    assert first.limits == limits


def test_a_paused_queue_gives_nothing_to_anybody(storage: SqlStorage) -> None:
    before = declared(storage, QueueLimits())
    executor = register(storage)
    begin(storage, executor, "w", queue=Q)
    assert storage.queues.pause(APP, Q, "ann", "too hot")
    assert claimed(storage, executor, before) == []
    paused = storage.queues.get(APP, Q)
    assert paused is not None
    assert (paused.paused_by, paused.paused_reason) == ("ann", "too hot")
    assert claimed(storage, executor, paused) == []
    assert declared(storage, QueueLimits(concurrency=4)).paused_by == "ann", "a launch ends no pause"
    assert storage.queues.unpause(APP, Q)
    assert not storage.queues.unpause(APP, Q)
    state = storage.queues.get(APP, Q)
    assert state is not None
    assert claimed(storage, executor, state) == ["w"]


def test_what_waits_on_a_deleted_queue_stays(storage: SqlStorage) -> None:
    before = declared(storage, QueueLimits())
    executor = register(storage)
    begin(storage, executor, "w", queue=Q)
    assert storage.queues.delete(APP, Q)
    assert not storage.queues.delete(APP, Q)
    assert claimed(storage, executor, before) == []
    assert workflow(storage, "w").status == ENQUEUED
    assert claimed(storage, executor, declared(storage, QueueLimits())) == ["w"]


@pytest.mark.parametrize(
    ("on_conflict", "version", "wanted"),
    [
        ("always_update", "v1", 7),
        ("never_update", "v2", 3),
        ("update_if_latest_version", "v1", 3),
        ("update_if_latest_version", "v2", 7),
    ],
)
def test_what_a_registration_does_to_a_queue_that_is_there(
    storage: SqlStorage, on_conflict: Any, version: str, wanted: int
) -> None:
    for one in ("v1", "v2", "v1"):
        register(storage, version=one)
    storage.queues.register(APP, Q, QueueLimits(concurrency=3), "v1", "always_update")
    state = storage.queues.register(APP, Q, QueueLimits(concurrency=7), version, on_conflict)
    assert state.limits.concurrency == wanted
    assert not state.declared


def test_two_registrations_at_once_leave_one_of_both(storage: SqlStorage, other_storage: SqlStorage) -> None:
    found = at_once(
        lambda: storage.queues.register(APP, Q, QueueLimits(concurrency=1), None, "never_update"),
        lambda: other_storage.queues.register(APP, Q, QueueLimits(concurrency=2), None, "never_update"),
    )
    assert len({state.limits.concurrency for state in found}) == 1


def test_numbers_of_a_queue_are_counted_and_bounded(storage: SqlStorage) -> None:
    state = declared(storage, QueueLimits())
    executor = register(storage)
    begin(storage, executor, *"abcde", queue=Q)
    begin(storage, executor, "later", queue=Q, status=DELAYED, delay_ms=9)
    claimed(storage, executor, state, 2)
    write(storage, executor, park("a", None))
    counts = storage.queues.counts(APP, Q, 2)
    assert (counts.waiting, counts.delayed, counts.running, counts.parked) == (2, 1, 1, 1)
    assert storage.queues.counts(APP, Q, 9).waiting == 3
    assert workflow(storage, "b").status == PENDING
