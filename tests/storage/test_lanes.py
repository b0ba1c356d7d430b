"""Lanes: which event may run, who takes it, and what holds it up."""

from dataclasses import replace

import pytest

from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.lanes import LanePlace, LaneTaken
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import WRITTEN
from tests.storage.building import (
    APP,
    end,
    ids,
    kill,
    quarantine,
    read,
    register,
    step,
    workflow,
    write,
)
from tests.storage.racing import PATIENCE, await_waiting, meanwhile, open_transaction
from tests.storage.topics import Topic, event, topic


@pytest.fixture
def lane(storage: SqlStorage) -> Topic:
    return topic(storage, lane=True)


def owners(orders: Topic) -> list[int | None]:
    return [entry.owner for entry in orders.entries()]


def test_rule_10_ordered_events_of_the_dead_are_not_adopted_but_freed_for_the_holder(
    storage: SqlStorage, lane: Topic
) -> None:
    dead, holder = register(storage), register(storage)
    lane.intake(dead, {0: (lane.epoch(dead), 0, 3)})
    kill(storage, dead)
    epoch = lane.epoch(holder)
    assert storage.taking.adopt(Taker(holder, APP, "v1", ["handle"]), {"handle": None}, 9) == []
    assert storage.lanes.free_of_dead(APP) == 3
    assert owners(lane) == [None] * 3
    assert [bool(row.held) for row in lane.entries()] == [False, True, True]
    taken = lane.take(holder, epoch)
    assert taken is not None
    assert [(row.take, row.partition, row.position, row.lane) for row in taken.rows] == [
        (2, 0, offset, "0") for offset in range(3)
    ]


def test_rule_10_only_the_head_of_a_lane_counts_a_crash(storage: SqlStorage) -> None:
    dead = register(storage)
    lane = topic(storage, lane=True, partitions=2)
    lane.intake(dead, {0: (lane.epoch(dead, 0), 0, 3), 1: (lane.epoch(dead, 1), 0, 2)})
    write(storage, dead, end("e-0-0"))
    kill(storage, dead)
    storage.lanes.free_of_dead(APP)
    rows = read(storage, "SELECT id, crashes FROM {schema}.workflows ORDER BY id")
    assert {row.id: row.crashes for row in rows} == {
        "e-0-0": 0,
        "e-0-1": 1,
        "e-0-2": 0,
        "e-1-0": 1,
        "e-1-1": 0,
    }


def test_rule_10_an_event_behind_one_that_is_put_aside_is_no_head(storage: SqlStorage, lane: Topic) -> None:
    dead = register(storage)
    lane.intake(dead, {0: (lane.epoch(dead), 0, 2)})
    write(storage, dead, quarantine("e-0-0", lane.consumer))
    kill(storage, dead)
    storage.lanes.free_of_dead(APP)
    assert workflow(storage, "e-0-1").crashes == 0


def test_rule_10_lanes_of_the_living_and_of_other_applications_stay(storage: SqlStorage, lane: Topic) -> None:
    alive = register(storage)
    lane.intake(alive, {0: (lane.epoch(alive), 0, 2)})
    assert storage.lanes.free_of_dead(APP) == 0
    kill(storage, alive)
    assert storage.lanes.free_of_dead("another") == 0
    assert owners(lane) == [alive, alive]


def test_rule_10_two_processes_that_free_a_lane_at_once_count_one_crash(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    lane = topic(storage, lane=True)
    dead = register(storage)
    lane.intake(dead, {0: (lane.epoch(dead), 0, 1)})
    kill(storage, dead)
    with open_transaction(storage) as tx:
        assert len(tx.run("free_lanes_of_dead", application=APP)) == 1
        with meanwhile(lambda: storage.lanes.free_of_dead(APP)) as second:
            await_waiting(storage, second)
    assert second.result(PATIENCE) == 0
    assert workflow(storage, "e-0-0").crashes == 1


def test_rule_2_what_the_holder_took_meanwhile_is_not_freed(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    lane = topic(storage, lane=True)
    dead, holder = register(storage), register(storage)
    lane.intake(dead, {0: (lane.epoch(dead), 0, 1)})
    kill(storage, dead)
    with open_transaction(storage) as tx:
        tx.run("fence", executor=holder, identity=0)
        tx.run("free_lanes_of_dead", application=APP)
        assert len(tx.run("take_lane_entries", executor=holder, ids=["e-0-0"])) == 1
        with meanwhile(lambda: storage.lanes.free_of_dead(APP)) as late:
            await_waiting(storage, late)
    assert late.result(PATIENCE) == 0
    assert workflow(storage, "e-0-0").owner == holder
    assert write(storage, holder, step("e-0-0", take=2)) == [WRITTEN]


def test_rule_10_an_event_of_a_lane_is_taken_once_and_never_from_an_owner(
    storage: SqlStorage, lane: Topic
) -> None:
    old, new = register(storage), register(storage)
    lane.intake(old, {0: (lane.epoch(old), 0, 1)})
    epoch = lane.epoch(new)
    assert lane.take(new, epoch) == LaneTaken(owner=old, head="e-0-0"), "its owner lives"
    storage.lanes.release_unstarted(old, ["e-0-0"])
    taken = lane.take(new, epoch)
    assert taken is not None
    assert ids(taken.rows) == ["e-0-0"]
    write(storage, new, end("e-0-0", take=2))
    assert lane.take(new, epoch) == LaneTaken(empty=True), "it has ended"


def test_rule_10_only_the_holder_under_its_epoch_takes(storage: SqlStorage, lane: Topic) -> None:
    former, holder = register(storage), register(storage)
    before = lane.epoch(former)
    lane.intake(former, {0: (before, 0, 2)})
    storage.lanes.release_unstarted(former, ["e-0-0", "e-0-1"])
    epoch = lane.epoch(holder)
    assert lane.take(former, before) is None
    assert lane.take(former, epoch) is None
    taken = lane.take(holder, epoch)
    assert taken is not None
    assert ids(taken.rows) == ["e-0-0", "e-0-1"]


def test_rule_10_nothing_is_taken_past_what_somebody_runs(storage: SqlStorage, lane: Topic) -> None:
    executor = register(storage)
    epoch = lane.epoch(executor)
    lane.intake(executor, {0: (epoch, 0, 4)})
    storage.lanes.release_unstarted(executor, ["e-0-0", "e-0-1", "e-0-3"])
    taken = lane.take(executor, epoch)
    assert taken is not None
    assert (ids(taken.rows), taken.more) == (["e-0-0", "e-0-1"], True)


def test_rule_10_as_many_are_taken_as_asked_for_and_the_rest_is_told(
    storage: SqlStorage, lane: Topic
) -> None:
    executor = register(storage)
    epoch = lane.epoch(executor)
    lane.intake(executor, {0: (epoch, 0, 5)})
    storage.lanes.release_unstarted(executor, [f"e-0-{offset}" for offset in range(5)])
    first = lane.take(executor, epoch, count=3)
    assert first is not None
    assert (ids(first.rows), first.more) == (["e-0-0", "e-0-1", "e-0-2"], True)
    for row in first.rows:
        write(storage, executor, end(row.id, take=row.take))
    second = lane.take(executor, epoch, count=3)
    assert second is not None
    assert (ids(second.rows), second.more) == (["e-0-3", "e-0-4"], False)


def test_rule_10_a_head_that_is_put_aside_holds_its_lane_and_no_other(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    epoch = orders.epoch(executor)
    events = [
        event(0, 0, lane="0/a"),
        event(0, 1, lane="0/b"),
        event(0, 2, lane="0/a"),
        event(0, 3, lane="0/b"),
    ]
    orders.intake(executor, {0: (epoch, 0, 4)}, events=events)
    storage.lanes.release_unstarted(executor, ["e-0-1", "e-0-2", "e-0-3"])
    write(storage, executor, quarantine("e-0-0", orders.consumer))
    assert orders.take(executor, epoch, lane="0/a") == LaneTaken(head="e-0-0")
    taken = orders.take(executor, epoch, lane="0/b")
    assert taken is not None
    assert ids(taken.rows) == ["e-0-1", "e-0-3"]


def test_rule_10_an_event_behind_an_unfinished_one_that_its_holder_does_not_know_is_held(
    storage: SqlStorage,
) -> None:
    orders = topic(storage)
    executor = register(storage)
    epoch = orders.epoch(executor)
    orders.intake(executor, {0: (epoch, 0, 1)}, events=[event(0, 0, lane="0/a")])
    batch = orders.batch(
        executor, {0: (epoch, 1, 3)}, events=[event(0, 1, lane="0/a"), event(0, 2, lane="0/b")]
    )
    result = storage.intake.take_in(replace(batch, unknown=frozenset({"0/a", "0/b"})))
    assert result.behind == {"0/a"}
    assert [(row.id, row.owner, bool(row.held)) for row in orders.entries("0/a")] == [
        ("e-0-0", executor, False),
        ("e-0-1", None, True),
    ]
    assert [(row.id, row.owner, bool(row.held)) for row in orders.entries("0/b")] == [
        ("e-0-2", executor, False)
    ]


def test_rule_10_what_is_not_kept_is_held_and_found_by_nobody_until_its_turn(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor = register(storage)
    epoch = orders.epoch(executor)
    events = [event(0, 0, lane="0/a"), event(0, 1, lane="0/a", kept=False)]
    orders.intake(executor, {0: (epoch, 0, 2)}, events=events)
    assert [(row.owner, row.take, bool(row.held)) for row in orders.entries("0/a")] == [
        (executor, 1, False),
        (None, 0, True),
    ]
    assert storage.lanes.ready(executor, orders.consumer, 9) == []


def test_rule_10_what_became_ready_is_read_page_by_page_from_any_place_on(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    executor = register(storage)
    epochs = {partition: orders.epoch(executor, partition) for partition in (0, 1)}
    names = ["0/a", "0/b", "1/a", "1/b", "1/c"]
    for number, lane in enumerate(names):
        partition = int(lane[0])
        offset = number if partition == 0 else number - 2
        moves = {partition: (epochs[partition], offset, offset + 1)}
        orders.intake(executor, moves, events=[event(partition, offset, lane=lane)])
        storage.workflows.cancel([f"e-{partition}-{offset}"])
        storage.workflows.resume([f"e-{partition}-{offset}"])
    found: list[str] = []
    after = (0, "")
    while page := storage.lanes.ready(executor, orders.consumer, 2, after):
        found += [lane for _, _, lane in page]
        after = (page[-1][0], page[-1][2])
    assert found == names


def test_rule_10_what_is_ready_is_found_among_what_is_held(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    executor, other = register(storage), register(storage)
    epoch = orders.epoch(executor)
    orders.intake(
        executor, {0: (epoch, 0, 2)}, events=[event(0, 0, lane="0/a"), event(0, 1, lane="0/a", kept=False)]
    )
    write(storage, executor, quarantine("e-0-0", orders.consumer))
    assert storage.lanes.ready(executor, orders.consumer, 9) == []
    storage.workflows.resume(["e-0-0"])
    assert storage.lanes.ready(executor, orders.consumer, 9) == []  # a failed one is not resumed
    storage.workflows.cancel(["e-0-1"])
    storage.workflows.resume(["e-0-1"])
    assert storage.lanes.ready(executor, orders.consumer, 9) == [(orders.incarnation, 0, "0/a")]
    assert storage.lanes.ready(other, orders.consumer, 9) == []
    assert orders.take(executor, epoch, lane="0/a") == LaneTaken(head="e-0-0")
    assert storage.lanes.ready(executor, orders.consumer, 9) == [], "it is behind one that holds the lane"


def test_rule_10_lanes_that_a_former_holder_left_are_found_page_by_page(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=31)
    executor = register(storage)
    events = {
        partition: [event(partition, offset, lane=f"{partition}/k{offset}") for offset in range(5)]
        for partition in (3, 30)
    }
    for partition, few in events.items():
        orders.intake(executor, {partition: (orders.epoch(executor, partition), 0, 5)}, events=few)
    write(storage, executor, end("e-3-1"))
    first = storage.lanes.after(orders.consumer, orders.incarnation, "3", "30", 3)
    assert first == [("3/k0", True), ("3/k2", True), ("3/k3", True)]
    assert storage.lanes.after(orders.consumer, orders.incarnation, first[-1][0], "30", 3) == [("3/k4", True)]


def test_rule_10_a_head_that_crashed_too_often_is_put_aside(storage: SqlStorage, lane: Topic) -> None:
    dead, holder = register(storage), register(storage)
    lane.intake(dead, {0: (lane.epoch(dead), 0, 2)})
    kill(storage, dead)
    epoch = lane.epoch(holder)
    storage.lanes.free_of_dead(APP)
    assert lane.take(holder, epoch, limit=0) == LaneTaken(head="e-0-0")
    assert workflow(storage, "e-0-0").status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    [row] = read(storage, "SELECT * FROM {schema}.quarantine")
    assert row.workflow_id == "e-0-0"
    assert lane.take(holder, epoch, limit=0) == LaneTaken(head="e-0-0"), "it holds the lane"


def test_rule_10_what_this_code_does_not_know_stays(storage: SqlStorage, lane: Topic) -> None:
    executor = register(storage)
    epoch = lane.epoch(executor)
    lane.intake(executor, {0: (epoch, 0, 1)})
    storage.lanes.release_unstarted(executor, ["e-0-0"])
    assert storage.lanes.take(executor, lane.place(epoch), ["0"], 9, {"another": None}) == {
        "0": LaneTaken(head="e-0-0")
    }


def test_rule_10_a_head_that_is_discarded_at_this_moment_holds_nothing_back(
    postgres_storage: SqlStorage,
) -> None:
    storage = postgres_storage
    lane = topic(storage, lane=True)
    executor = register(storage)
    epoch = lane.epoch(executor)
    lane.intake(executor, {0: (epoch, 0, 2)})
    storage.lanes.release_unstarted(executor, ["e-0-1"])
    write(storage, executor, quarantine("e-0-0", lane.consumer))
    storage.workflows.cancel(["e-0-1"])
    storage.workflows.resume(["e-0-1"])  # ready, behind one that holds the lane
    discard = "UPDATE {schema}.workflows SET lane_open = NULL WHERE id = 'e-0-0'"
    follow = "UPDATE {schema}.workflows SET held = false WHERE id = 'e-0-1'"
    with open_transaction(storage) as tx:
        schema = f'"{storage.database.schema}"'
        tx.connection.exec_driver_sql(discard.replace("{schema}", schema))
        with meanwhile(lambda: lane.take(executor, epoch)) as taking:
            await_waiting(storage, taking)
        tx.connection.exec_driver_sql(follow.replace("{schema}", schema))
    assert taking.result(PATIENCE) == LaneTaken(head="e-0-0")
    assert storage.lanes.ready(executor, lane.consumer, 9) == [(lane.incarnation, 0, "0")]


def test_rule_10_what_a_process_owns_in_lanes_is_told_to_it_alone(storage: SqlStorage) -> None:
    orders = topic(storage)
    executor, other = register(storage), register(storage)
    events = [event(0, 0, lane="0/a"), event(0, 1, lane="0/b"), event(0, 2, lane="0/a", kept=False)]
    orders.intake(executor, {0: (orders.epoch(executor), 0, 3)}, events=events)
    place = (orders.consumer, orders.incarnation)
    assert storage.lanes.owned(executor, *place, ["0/a", "0/c"]) == [("e-0-0", "0/a")]
    assert storage.lanes.owned(other, *place, ["0/a", "0/b"]) == []


# ------------------------------------------------------------------ one lane over all partitions


def test_rule_10_a_lane_over_partitions_counts_its_events_in_the_order_of_intake(storage: SqlStorage) -> None:
    orders = topic(storage, partitions=2)
    executor = register(storage)
    epochs = [orders.epoch(executor, partition) for partition in (0, 1)]
    for partition, expected in ((1, 0), (0, 0), (1, 1)):
        batch = orders.batch(
            executor,
            {partition: (epochs[partition], expected, expected + 1)},
            events=[event(partition, expected, lane="topic", kept=False)],
        )
        storage.intake.take_in(replace(batch, shared_lane="topic"))
    assert orders.lane_ids("topic") == ["e-1-0", "e-0-0", "e-1-1"]
    assert storage.lanes.count_open(orders.consumer, orders.incarnation, "topic", 9) == 3
    assert storage.lanes.count_open(orders.consumer, orders.incarnation, "topic", 2) == 2


def test_rule_10_a_lane_over_partitions_has_one_holder_until_it_leaves_or_dies(storage: SqlStorage) -> None:
    orders = topic(storage)
    first, second, third = (register(storage) for _ in range(3))
    where = (orders.consumer, orders.incarnation, "topic")
    assert storage.lanes.hold(first, *where) == 1
    assert storage.lanes.hold(first, *where) == 1, "it holds it already"
    assert storage.lanes.hold(second, *where) is None
    storage.lanes.leave(first, *where)
    assert storage.lanes.hold(second, *where) == 2
    kill(storage, second)
    assert storage.lanes.hold(third, *where) == 3
    place = LanePlace(orders.consumer, orders.incarnation, None, 1, "topic")
    assert storage.lanes.take(first, place, ["topic"], 9, {"handle": None}) is None
