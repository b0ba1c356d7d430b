"""A partition that nobody holds is taken by whoever comes first, and given up to who is assigned it."""

import pytest

from dbos_events.errors import ExecutorFenced
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.orphans import Orphan
from dbos_events.testing import ManualClock
from tests.storage.building import APP, change, end, kill, quarantine, register, write
from tests.storage.racing import at_once
from tests.storage.topics import Topic, topic

GRACE_MS = 60_000
HANDLERS = ["handle"]


@pytest.fixture
def lanes(storage: SqlStorage) -> Topic:
    return topic(storage, partitions=12, lane=True)


def leave(storage: SqlStorage, lanes: Topic, clock: ManualClock, *, partition: int = 0) -> int:
    """An executor takes three events of the partition in and dies; gives its number."""
    executor = register(storage)
    lanes.intake(executor, {partition: (lanes.epoch(executor, partition), 0, 3)})
    kill(storage, executor)
    storage.lanes.free_of_dead(APP)
    return executor


def later(clock: ManualClock, milliseconds: int = GRACE_MS) -> None:
    clock.move_to(clock.now_ms() + milliseconds)


def orphans(storage: SqlStorage, handlers: list[str] = HANDLERS) -> list[Orphan]:
    return storage.orphans.find(APP, handlers, GRACE_MS)


def test_what_a_dead_holder_left_is_found_after_the_grace_time(
    storage: SqlStorage, lanes: Topic, clock: ManualClock
) -> None:
    leave(storage, lanes, clock, partition=1)
    later(clock, GRACE_MS - 1)
    assert orphans(storage) == []
    later(clock, 1)
    epoch = 1
    assert orphans(storage) == [
        Orphan(lanes.consumer, "orders", "handle", "orders", lanes.incarnation, 1, epoch)
    ]
    assert orphans(storage, ["other"]) == [], "its function is not registered here"
    assert storage.orphans.find("other", HANDLERS, GRACE_MS) == []


def test_a_partition_with_nothing_left_to_run_is_left_alone(
    storage: SqlStorage, lanes: Topic, clock: ManualClock
) -> None:
    executor = register(storage)
    lanes.intake(executor, {0: (lanes.epoch(executor), 0, 2)})
    write(storage, executor, end("e-0-0"), quarantine("e-0-1", lanes.consumer))
    kill(storage, executor)
    storage.lanes.free_of_dead(APP)
    later(clock)
    assert orphans(storage) == []


def test_what_sleeps_or_is_held_is_not_ready(storage: SqlStorage, lanes: Topic, clock: ManualClock) -> None:
    leave(storage, lanes, clock)
    later(clock)
    change(storage, "UPDATE {schema}.workflows SET wake_at = 1 WHERE id = 'e-0-0'")
    change(storage, "UPDATE {schema}.workflows SET held = true WHERE id <> 'e-0-0'")
    assert orphans(storage) == []
    change(storage, "UPDATE {schema}.workflows SET wake_at = NULL")
    assert [orphan.partition for orphan in orphans(storage)] == [0]


def test_lanes_of_keys_count_for_their_own_partition(
    storage: SqlStorage, lanes: Topic, clock: ManualClock
) -> None:
    leave(storage, lanes, clock, partition=1)
    executor = register(storage)
    lanes.epoch(executor, 10)
    lanes.epoch(executor, 11)
    kill(storage, executor)
    change(storage, "UPDATE {schema}.workflows SET lane = '1/key'")
    later(clock)
    assert [orphan.partition for orphan in orphans(storage)] == [1]


def test_a_partition_of_a_living_holder_is_no_orphan(
    storage: SqlStorage, lanes: Topic, clock: ManualClock
) -> None:
    leave(storage, lanes, clock)
    lanes.epoch(register(storage))
    later(clock, 10 * GRACE_MS)
    assert orphans(storage) == []


def test_of_several_processes_one_takes_an_orphan_under_a_new_epoch(
    storage: SqlStorage, other_storage: SqlStorage, lanes: Topic, clock: ManualClock
) -> None:
    leave(storage, lanes, clock)
    later(clock)
    [orphan] = orphans(storage)
    first, second = register(storage), register(other_storage)
    answers = at_once(
        lambda: storage.orphans.take(first, orphan), lambda: other_storage.orphans.take(second, orphan)
    )
    [taken] = [answer for answer in answers if answer is not None]
    assert (taken.epoch, taken.next_offset) == (orphan.epoch + 1, 3)
    assert orphans(storage) == []
    [row] = [row for row in storage.positions.read(APP) if row.partition == 0]
    assert row.state == "sweeping"


def test_whoever_was_assigned_the_partition_meanwhile_keeps_it(
    storage: SqlStorage, lanes: Topic, clock: ManualClock
) -> None:
    leave(storage, lanes, clock)
    later(clock)
    [orphan] = orphans(storage)
    sweeper, member = register(storage), register(storage)
    lanes.epoch(member)
    assert storage.orphans.take(sweeper, orphan) is None
    kill(storage, member)
    assert storage.orphans.take(sweeper, orphan) is None, "its epoch has grown"


def test_an_assignment_takes_over_from_the_sweeper(
    storage: SqlStorage, lanes: Topic, clock: ManualClock
) -> None:
    leave(storage, lanes, clock)
    later(clock)
    [orphan] = orphans(storage)
    sweeper, member = register(storage), register(storage)
    taken = storage.orphans.take(sweeper, orphan)
    assert taken is not None
    key = (orphan.consumer, orphan.incarnation, orphan.partition)
    assert storage.orphans.still_held(sweeper, [(key, taken.epoch)]) == {key}
    assert storage.orphans.still_held(sweeper, []) == set()

    epoch = lanes.epoch(member)
    assert epoch == taken.epoch + 1
    assert storage.orphans.still_held(sweeper, [(key, taken.epoch)]) == set()
    storage.orphans.release(sweeper, key, taken.epoch)
    lanes.intake(member, {0: (epoch, 3, 4)})
    assert lanes.watermark() == 4, "the late release took nothing away"


def test_what_was_swept_is_given_back(storage: SqlStorage, lanes: Topic, clock: ManualClock) -> None:
    leave(storage, lanes, clock)
    later(clock)
    [orphan] = orphans(storage)
    sweeper = register(storage)
    taken = storage.orphans.take(sweeper, orphan)
    assert taken is not None
    storage.orphans.release(sweeper, (orphan.consumer, orphan.incarnation, 0), taken.epoch)
    [row] = [row for row in storage.positions.read(APP) if row.partition == 0]
    assert (row.holder, row.state) == (None, "no process")
    assert orphans(storage) == [], "nobody looks again before the grace time is over"
    later(clock)
    assert [one.epoch for one in orphans(storage)] == [taken.epoch]


def test_a_dead_process_takes_nothing(storage: SqlStorage, lanes: Topic, clock: ManualClock) -> None:
    leave(storage, lanes, clock)
    later(clock)
    [orphan] = orphans(storage)
    sweeper = register(storage)
    kill(storage, sweeper)
    with pytest.raises(ExecutorFenced):
        storage.orphans.take(sweeper, orphan)


def test_held_events_are_counted_up_to_a_bound(storage: SqlStorage, lanes: Topic) -> None:
    executor = register(storage)
    for partition in (1, 2, 10):
        lanes.intake(executor, {partition: (lanes.epoch(executor, partition), 0, 5)})
    change(storage, "UPDATE {schema}.workflows SET held = true WHERE position > 0")
    change(storage, "UPDATE {schema}.workflows SET lane = '2/a-b' WHERE partition = 2 AND position < 3")
    change(storage, "UPDATE {schema}.workflows SET lane = '2/a' WHERE partition = 2 AND position >= 3")

    def count(prefix: str, limit: int = 100) -> int:
        return storage.lanes.count_held(lanes.consumer, lanes.incarnation, prefix, limit)

    assert (count("1"), count("10"), count("2"), count("3")) == (4, 4, 4, 0)
    assert (count("2/a"), count("2/a-b")) == (2, 2)
    assert (count(""), count("", 5)) == (12, 5)
    write(storage, executor, end("e-1-4"))
    assert count("1") == 3
