"""Rules 1, 2, 10 and 12: who takes work over, and what counts as a crash."""

import pytest

from dbos_events.model.workflow import CANCELLED, ENQUEUED, MAX_RECOVERY_ATTEMPTS_EXCEEDED, PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import WRITTEN
from tests.storage.building import (
    APP,
    begin,
    change,
    end,
    ids,
    kill,
    park,
    quarantine,
    read,
    register,
    step,
    workflow,
    write,
)
from tests.storage.racing import PATIENCE, at_once, await_waiting, meanwhile, open_transaction
from tests.storage.topics import Topic, topic


def adopt(
    storage: SqlStorage, executor: int, *, version: str = "v1", limit: int | None = None, count: int = 99
):
    return storage.adopt_from_dead(executor, APP, version, {"work": limit}, count)


# ------------------------------------------------------------------ adoption


def test_rule_2_running_work_of_the_dead_is_adopted_under_a_higher_take(storage: SqlStorage) -> None:
    dead, executor = register(storage), register(storage)
    begin(storage, dead, "w", input="[1]", codec="json", parent_id="p", root_id="r")
    kill(storage, dead)
    [taken] = adopt(storage, executor)
    assert (taken.id, taken.name, taken.take, taken.crashes, taken.generation) == ("w", "work", 2, 1, 0)
    assert (taken.codec, taken.input, taken.parent_id, taken.root_id) == ("json", "[1]", "p", "r")
    assert (workflow(storage, "w").owner, workflow(storage, "w").status) == (executor, PENDING)
    assert adopt(storage, executor) == [], "its new owner is alive"


def test_rule_2_nothing_is_adopted_from_the_living(storage: SqlStorage) -> None:
    alive, executor = register(storage), register(storage)
    begin(storage, alive, "w")
    assert adopt(storage, executor) == []


def test_rule_2_only_running_work_is_adopted(storage: SqlStorage) -> None:
    dead, executor = register(storage), register(storage)
    begin(storage, dead, "done", "cancelled", "parked")
    begin(storage, dead, "queued", queue="q")
    write(storage, dead, end("done"), park("parked", 1))
    storage.cancel(["cancelled"])
    kill(storage, dead)
    assert adopt(storage, executor) == []


def test_rule_2_only_registered_functions_of_the_application_are_adopted(storage: SqlStorage) -> None:
    dead, executor = register(storage), register(storage)
    begin(storage, dead, "no-handler", name="unknown")
    begin(storage, dead, "another", application="another")
    kill(storage, dead)
    assert adopt(storage, executor) == []
    assert [row.id for row in storage.list_executors(APP)] == [dead, executor], "what cannot run is visible"


def test_adoption_takes_at_most_so_many_the_oldest_first(storage: SqlStorage, clock) -> None:
    dead, executor = register(storage), register(storage)
    for name in ("c", "a", "b"):
        begin(storage, dead, name)
        clock.move_to(clock.now_ms() + 1)
    kill(storage, dead)
    assert ids(adopt(storage, executor, count=2)) == ["c", "a"]
    assert ids(adopt(storage, executor, count=2)) == ["b"]


def test_two_adopters_at_once_share_the_work(storage: SqlStorage, other_storage: SqlStorage) -> None:
    dead, first, second = register(storage), register(storage), register(storage)
    names = [f"w{number:02}" for number in range(40)]
    begin(storage, dead, *names)
    kill(storage, dead)
    [one, two] = at_once(lambda: adopt(storage, first), lambda: adopt(other_storage, second))
    rest = adopt(storage, first)
    assert sorted(ids([*one, *two, *rest])) == names
    assert {taken.crashes for taken in [*one, *two, *rest]} == {1}


def test_adoption_passes_over_what_another_process_is_taking(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    dead, executor = register(storage), register(storage)
    begin(storage, dead, "locked", "free")
    kill(storage, dead)
    with open_transaction(storage) as tx:
        tx.connection.exec_driver_sql("SELECT 1 FROM dbos_events.workflows WHERE id = 'locked' FOR UPDATE")
        with meanwhile(lambda: adopt(storage, executor)) as adopted:
            assert ids(adopted.result(PATIENCE)) == ["free"]


# ------------------------------------------------------------------ versions


def test_rule_12_started_work_is_left_to_a_live_process_of_its_version(storage: SqlStorage) -> None:
    dead, same, newer = register(storage), register(storage, version="v1"), register(storage, version="v2")
    begin(storage, dead, "started", version="v1")
    write(storage, dead, step("started"))
    kill(storage, dead)
    assert adopt(storage, newer, version="v2") == []
    assert ids(adopt(storage, same, version="v1")) == ["started"]


def test_rule_12_started_work_runs_on_current_code_when_no_process_has_its_version(
    storage: SqlStorage,
) -> None:
    dead, newer = register(storage, version="v1"), register(storage, version="v2")
    register(storage, version="v1", application="another")
    begin(storage, dead, "started", version="v1")
    write(storage, dead, step("started"))
    kill(storage, dead)
    assert ids(adopt(storage, newer, version="v2")) == ["started"]
    assert workflow(storage, "started").version == "v2"
    assert storage.list_steps("started")[0].version == "v1", "the checkpoint keeps that of its writer"


def test_rule_12_unstarted_work_runs_on_current_code_at_once(storage: SqlStorage) -> None:
    dead, newer = register(storage, version="v1"), register(storage, version="v2")
    register(storage, version="v1")
    begin(storage, dead, "unstarted", version="v1")
    kill(storage, dead)
    assert ids(adopt(storage, newer, version="v2")) == ["unstarted"]


def test_rule_12_work_without_a_version_is_anybodys(storage: SqlStorage) -> None:
    dead, newer = register(storage), register(storage, version="v2")
    begin(storage, dead, "w", version=None)
    write(storage, dead, step("w"))
    kill(storage, dead)
    assert ids(adopt(storage, newer, version="v2")) == ["w"]


# ------------------------------------------------------------------ too many crashes


def crash(storage: SqlStorage, *, limit: int | None) -> list[str]:
    """One more process takes what the dead left, and dies; gives what it took."""
    executor = register(storage)
    taken = ids(adopt(storage, executor, limit=limit))
    kill(storage, executor)
    return taken


@pytest.mark.parametrize("limit", [0, 2])
def test_rule_2_a_workflow_that_crashed_more_often_than_its_limit_is_ended(
    storage: SqlStorage, limit: int
) -> None:
    dead = register(storage)
    begin(storage, dead, "w")
    kill(storage, dead)
    assert [crash(storage, limit=limit) for _ in range(limit + 1)] == [["w"]] * limit + [[]]
    row = workflow(storage, "w")
    assert (row.status, row.crashes) == (MAX_RECOVERY_ATTEMPTS_EXCEEDED, limit + 1)
    assert row.completed_at is not None


def test_rule_2_without_a_limit_a_workflow_is_adopted_again_and_again(storage: SqlStorage) -> None:
    dead = register(storage)
    begin(storage, dead, "w")
    kill(storage, dead)
    assert [crash(storage, limit=None) for _ in range(5)] == [["w"]] * 5


def test_rule_2_progress_between_crashes_starts_the_count_again(storage: SqlStorage) -> None:
    dead = register(storage)
    begin(storage, dead, "w")
    kill(storage, dead)
    for number in range(1, 5):
        executor = register(storage)
        [taken] = adopt(storage, executor, limit=1)
        progress = step("w", number, take=taken.take)
        progress.reset_crashes = True
        assert write(storage, executor, progress) == [WRITTEN]
        kill(storage, executor)


def test_rule_11_an_event_that_crashed_too_often_is_put_aside(storage: SqlStorage) -> None:
    dead, executor = register(storage), register(storage)
    orders = topic(storage)
    orders.intake(dead, {0: (orders.epoch(dead), 0, 1)})
    kill(storage, dead)
    assert storage.adopt_from_dead(executor, APP, "v1", {"handle": 0}, 9) == []
    [row] = read(storage, "SELECT * FROM {schema}.quarantine")
    assert (row.workflow_id, row.consumer) == ("e-0-0", orders.consumer)
    assert row.reason == "max-recovery-attempts-exceeded"


# ------------------------------------------------------------------ lanes


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
    assert storage.adopt_from_dead(holder, APP, "v1", {"handle": None}, 9) == []
    assert storage.free_lanes_of_dead(APP) == 3
    assert owners(lane) == [None] * 3
    taken = storage.take_lane_entry(holder, "e-0-0", None)
    assert taken is not None
    assert (taken.take, taken.partition, taken.position, taken.lane) == (2, 0, 0, "0")


def test_rule_10_only_the_head_of_a_lane_counts_a_crash(storage: SqlStorage) -> None:
    dead = register(storage)
    lane = topic(storage, lane=True, partitions=2)
    lane.intake(dead, {0: (lane.epoch(dead, 0), 0, 3), 1: (lane.epoch(dead, 1), 0, 2)})
    write(storage, dead, end("e-0-0"))
    kill(storage, dead)
    storage.free_lanes_of_dead(APP)
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
    storage.free_lanes_of_dead(APP)
    assert workflow(storage, "e-0-1").crashes == 0


def test_rule_10_lanes_of_the_living_and_of_other_applications_stay(storage: SqlStorage, lane: Topic) -> None:
    alive = register(storage)
    lane.intake(alive, {0: (lane.epoch(alive), 0, 2)})
    assert storage.free_lanes_of_dead(APP) == 0
    kill(storage, alive)
    assert storage.free_lanes_of_dead("another") == 0
    assert owners(lane) == [alive, alive]


def test_rule_10_two_processes_that_free_a_lane_at_once_count_one_crash(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    lane = topic(storage, lane=True)
    dead = register(storage)
    lane.intake(dead, {0: (lane.epoch(dead), 0, 1)})
    kill(storage, dead)
    with open_transaction(storage) as tx:
        assert len(tx.run("free_lanes_of_dead", application=APP)) == 1
        with meanwhile(lambda: storage.free_lanes_of_dead(APP)) as second:
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
        tx.run("fence", executor=holder)
        tx.run("free_lanes_of_dead", application=APP)
        assert len(tx.run("take_lane_entry", executor=holder, workflow_id="e-0-0")) == 1
        with meanwhile(lambda: storage.free_lanes_of_dead(APP)) as late:
            await_waiting(storage, late)
    assert late.result(PATIENCE) == 0
    assert workflow(storage, "e-0-0").owner == holder
    assert write(storage, holder, step("e-0-0", take=2)) == [WRITTEN]


def test_rule_10_a_lane_entry_is_taken_once_and_never_from_an_owner(storage: SqlStorage, lane: Topic) -> None:
    old, new = register(storage), register(storage)
    lane.intake(old, {0: (lane.epoch(old), 0, 1)})
    assert storage.take_lane_entry(new, "e-0-0", None) is None, "its owner lives"
    storage.release_unstarted(old, ["e-0-0"])
    assert storage.take_lane_entry(new, "e-0-0", None) is not None
    assert storage.take_lane_entry(old, "e-0-0", None) is None
    write(storage, new, end("e-0-0", take=2))
    assert storage.take_lane_entry(new, "e-0-0", None) is None, "it has ended"


def test_rule_10_only_ones_own_are_released(storage: SqlStorage, lane: Topic) -> None:
    old, new = register(storage), register(storage)
    lane.intake(old, {0: (lane.epoch(old), 0, 2)})
    write(storage, old, end("e-0-0"))
    storage.release_unstarted(new, ["e-0-1"])
    assert owners(lane) == [old]
    storage.release_unstarted(old, ["e-0-0", "e-0-1"])
    assert owners(lane) == [None]
    assert workflow(storage, "e-0-0").owner == old, "ended, and not touched"


def test_rule_10_a_head_that_crashed_too_often_is_put_aside_and_holds_its_lane(
    storage: SqlStorage, lane: Topic
) -> None:
    dead, holder = register(storage), register(storage)
    lane.intake(dead, {0: (lane.epoch(dead), 0, 2)})
    kill(storage, dead)
    storage.free_lanes_of_dead(APP)
    assert storage.take_lane_entry(holder, "e-0-0", 0) is None
    head = lane.entries()[0]
    assert (head.workflow_id, head.status) == ("e-0-0", MAX_RECOVERY_ATTEMPTS_EXCEEDED)
    assert len(read(storage, "SELECT 1 FROM {schema}.quarantine")) == 1


@pytest.mark.parametrize(
    ("ending", "left"),
    [("success", ["e-0-1"]), ("recorded", ["e-0-1"]), ("quarantined", ["e-0-0", "e-0-1"])],
)
def test_rule_10_which_ends_free_a_lane(
    storage: SqlStorage, lane: Topic, ending: str, left: list[str]
) -> None:
    executor = register(storage)
    lane.intake(executor, {0: (lane.epoch(executor), 0, 2)})
    writes = {
        "success": end("e-0-0"),
        "recorded": end("e-0-0", status="ERROR", error="boom"),
        "quarantined": quarantine("e-0-0", lane.consumer),
    }
    assert write(storage, executor, writes[ending]) == [WRITTEN]
    assert lane.lane_ids() == left


def test_rule_10_a_cancelled_event_is_put_aside_and_holds_its_lane(storage: SqlStorage, lane: Topic) -> None:
    executor = register(storage)
    lane.intake(executor, {0: (lane.epoch(executor), 0, 2)})
    storage.cancel(["e-0-0"])
    assert lane.lane_ids() == ["e-0-0", "e-0-1"]
    assert [row.reason for row in read(storage, "SELECT reason FROM {schema}.quarantine")] == ["cancelled"]


def test_rule_10_a_resumed_event_of_a_lane_is_ready_for_its_holder_only(
    storage: SqlStorage, lane: Topic
) -> None:
    executor = register(storage)
    lane.intake(executor, {0: (lane.epoch(executor), 0, 1)})
    storage.cancel(["e-0-0"])
    assert storage.resume(["e-0-0"]) == ["e-0-0"]
    assert (workflow(storage, "e-0-0").status, workflow(storage, "e-0-0").owner) == (PENDING, None)
    assert storage.claim_resumed(executor, APP, "v1", ["handle"], 9) == []
    assert storage.take_lane_entry(executor, "e-0-0", None) is not None
    [row] = read(storage, "SELECT released_at, released_as FROM {schema}.quarantine")
    assert (row.released_at is not None, row.released_as) == (True, "resumed")


def test_rule_10_lane_entries_are_in_order_bounded_and_below_an_offset(
    storage: SqlStorage, lane: Topic
) -> None:
    executor = register(storage)
    lane.intake(executor, {0: (lane.epoch(executor), 0, 12)})
    assert [entry.position for entry in lane.entries(before=11, count=10)] == list(range(10))
    assert [entry.position for entry in lane.entries(before=3)] == [0, 1, 2]


# ------------------------------------------------------------------ resume


def test_a_resume_takes_the_work_from_a_live_owner(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    assert storage.resume(["w"]) == ["w"]
    row = workflow(storage, "w")
    assert (row.status, row.owner, row.take) == (ENQUEUED, None, 2)


@pytest.mark.parametrize("status", [CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED, ENQUEUED, "DELAYED"])
def test_what_has_not_finished_by_itself_is_resumed_without_crashes(storage: SqlStorage, status: str) -> None:
    executor = register(storage)
    begin(storage, executor, "w", queue="q")
    change(storage, "UPDATE {schema}.workflows SET status = :status, crashes = 7", status=status)
    assert storage.resume(["w", "none"]) == ["w"]
    row = workflow(storage, "w")
    assert (row.status, row.queue, row.crashes, row.completed_at) == (ENQUEUED, None, 0, None)
    [taken] = storage.claim_resumed(executor, APP, "v1", ["work"], 9)
    assert taken.id == "w"


@pytest.mark.parametrize("status", ["SUCCESS", "ERROR"])
def test_what_has_finished_by_itself_is_not_resumed(storage: SqlStorage, status: str) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, end("w", status=status))
    assert storage.resume(["w"]) == []
    assert workflow(storage, "w").status == status
