"""Rule 5 in the database: parked workflows belong to nobody and are woken in time."""

import pytest

from dbos_events.model.queue import QueueLimits
from dbos_events.model.workflow import CANCELLED, ENQUEUED, PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.lanes import LaneTaken
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import WRITTEN
from dbos_events.storage.writes.park import UNRELATED_POLL_MS
from dbos_events.testing.clock import ManualClock
from tests.storage.building import (
    APP,
    begin,
    change,
    claim_from,
    claim_resumed_from,
    end,
    ids,
    kill,
    park,
    read,
    register,
    start,
    workflow,
    write,
)
from tests.storage.racing import PATIENCE, await_waiting, meanwhile, open_batch
from tests.storage.topics import topic


def due(storage: SqlStorage, executor: int, *, version: str = "v1", count: int = 9) -> list[str]:
    return ids(storage.taking.wake_due(Taker(executor, APP, version, ["work"]), count))


def family(storage: SqlStorage, executor: int) -> None:
    begin(storage, executor, "parent")
    begin(storage, executor, "child", parent_id="parent", root_id="parent")


# ------------------------------------------------------------------ a time


def test_a_parked_workflow_has_no_owner_and_is_due_at_its_time(
    storage: SqlStorage, clock: ManualClock
) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    at = clock.now_ms() + 1000
    assert write(storage, executor, park("w", at)) == [WRITTEN]
    assert (workflow(storage, "w").owner, workflow(storage, "w").status) == (None, PENDING)
    clock.move_to(at - 1)
    assert due(storage, executor) == []
    clock.move_to(at)
    [taken] = storage.taking.wake_due(Taker(executor, APP, "v1", ["work"]), 9)
    assert (taken.id, taken.take) == ("w", 2)
    assert (workflow(storage, "w").owner, workflow(storage, "w").wake_at) == (executor, None)
    assert due(storage, executor) == [], "taken once"


def test_the_earliest_due_are_taken_first(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    begin(storage, executor, "a", "b", "c")
    now = clock.now_ms()
    write(storage, executor, park("a", now - 1), park("b", now - 3), park("c", now - 2))
    assert sorted(due(storage, executor, count=2)) == ["b", "c"]
    assert due(storage, executor) == ["a"]


def test_a_wake_up_is_no_crash(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, park("w", 0))
    [taken] = storage.taking.wake_due(Taker(executor, APP, "v1", ["work"]), 9)
    assert taken.crashes == 0


def test_the_time_to_the_next_wake_up_is_that_of_the_earliest(
    storage: SqlStorage, clock: ManualClock
) -> None:
    executor = register(storage)
    begin(storage, executor, "a", "b", application=APP)
    begin(storage, executor, "other", application="another")
    assert storage.taking.next_wake(APP) is None
    now = clock.now_ms()
    write(storage, executor, park("a", now + 500), park("b", now + 200), park("other", now + 10))
    assert storage.taking.next_wake(APP) == 200
    clock.move_to(now + 300)
    assert storage.taking.next_wake(APP) == -100


def test_what_died_while_parked_was_parked_stays_parked(storage: SqlStorage) -> None:
    dead, executor = register(storage), register(storage)
    begin(storage, dead, "w")
    write(storage, dead, park("w", 0))
    kill(storage, dead)
    assert storage.taking.adopt(Taker(executor, APP, "v1", ["work"]), {"work": None}, 9) == []
    assert due(storage, executor) == ["w"]
    assert workflow(storage, "w").crashes == 0


def test_a_cancelled_workflow_is_not_woken(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, park("w", 0))
    storage.workflows.cancel(["w"])
    assert due(storage, executor) == []
    assert storage.taking.next_wake(APP) is None


def test_a_resumed_workflow_does_not_wait_for_its_time(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, park("w", clock.now_ms() + 1_000_000))
    assert storage.workflows.resume(["w"]) == ["w"]
    assert ids(claim_resumed_from(storage, executor, APP, "v1", ["work"], 9)) == ["w"]
    assert storage.taking.next_wake(APP) is None


# ------------------------------------------------------------------ who wakes


def test_a_due_workflow_of_a_queue_goes_back_to_it(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w", queue="q")
    claim_from(storage, executor, APP, "v1", "q", QueueLimits(), ["work"], 9)
    write(storage, executor, park("w", 0))
    assert due(storage, executor) == []
    row = workflow(storage, "w")
    assert (row.status, row.queue, row.wake_at) == (ENQUEUED, "q", None)
    [taken] = claim_from(storage, executor, APP, "v1", "q", QueueLimits(), ["work"], 9)
    assert (taken.id, taken.take) == ("w", 2)


def test_rule_10_a_due_event_of_a_lane_becomes_ready_and_only_its_holder_takes_it(
    storage: SqlStorage,
) -> None:
    executor = register(storage)
    orders = topic(storage, lane=True)
    epoch = orders.epoch(executor)
    orders.intake(executor, {0: (epoch, 0, 1)})
    write(storage, executor, park("e-0-0", 0))
    assert orders.take(executor, epoch) == LaneTaken(head="e-0-0"), "it sleeps"
    assert ids(storage.taking.wake_due(Taker(executor, APP, "v1", ["handle"]), 9)) == []
    row = workflow(storage, "e-0-0")
    assert (row.owner, row.wake_at, bool(row.lane_open)) == (None, None, True)
    assert storage.lanes.ready(executor, orders.consumer, 9) == [(orders.incarnation, 0, "0")]
    taken = orders.take(executor, epoch)
    assert taken is not None
    assert ids(taken.rows) == ["e-0-0"]


def test_only_named_functions_of_the_application_are_woken(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "other-name", name="unknown")
    begin(storage, executor, "other-application", application="another")
    write(storage, executor, park("other-name", 0), park("other-application", 0))
    assert due(storage, executor) == []
    assert workflow(storage, "other-name").owner is None


def test_rule_12_a_parked_workflow_is_left_to_a_live_process_of_its_version(storage: SqlStorage) -> None:
    old, new = register(storage, version="v1"), register(storage, version="v2")
    begin(storage, old, "w", version="v1")
    write(storage, old, park("w", 0))
    assert due(storage, new, version="v2") == []
    kill(storage, old)
    assert due(storage, new, version="v2") == ["w"]
    assert workflow(storage, "w").version == "v2"


# ------------------------------------------------------------------ another workflow


@pytest.mark.parametrize("status", ["SUCCESS", "ERROR"])
def test_a_parent_is_woken_when_its_child_has_ended(storage: SqlStorage, status: str) -> None:
    executor = register(storage)
    family(storage, executor)
    write(storage, executor, park("parent", awaited="child"))
    assert (workflow(storage, "parent").wake_at, workflow(storage, "parent").awaits) == (
        None,
        "workflow:child",
    )
    assert due(storage, executor) == []
    write(storage, executor, end("child", status=status, parent_id="parent"))
    assert due(storage, executor) == ["parent"]


def test_a_parent_that_waits_for_another_child_sleeps_on(storage: SqlStorage) -> None:
    executor = register(storage)
    family(storage, executor)
    begin(storage, executor, "second", parent_id="parent")
    write(storage, executor, park("parent", awaited="second"))
    write(storage, executor, end("child", parent_id="parent"))
    assert due(storage, executor) == []


def test_a_parent_is_woken_when_its_child_is_cancelled(storage: SqlStorage) -> None:
    executor = register(storage)
    family(storage, executor)
    write(storage, executor, park("parent", awaited="child"))
    storage.workflows.cancel(["child"])
    assert due(storage, executor) == ["parent"]


def test_a_parent_is_woken_when_its_child_has_crashed_too_often(storage: SqlStorage) -> None:
    dead, executor = register(storage), register(storage)
    begin(storage, executor, "parent")
    begin(storage, dead, "child", parent_id="parent")
    write(storage, executor, park("parent", awaited="child"))
    kill(storage, dead)
    assert storage.taking.adopt(Taker(executor, APP, "v1", ["work"]), {"work": 0}, 9) == []
    assert workflow(storage, "child").status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    assert due(storage, executor) == ["parent"]


def test_a_park_on_what_has_ended_is_due_at_once(storage: SqlStorage) -> None:
    executor = register(storage)
    family(storage, executor)
    write(storage, executor, end("child", parent_id="parent"))
    write(storage, executor, park("parent", awaited="child"))
    assert due(storage, executor) == ["parent"]


def test_a_park_on_what_does_not_exist_is_due_at_once(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, park("w", awaited="none"))
    assert due(storage, executor) == ["w"]


def test_a_child_that_ends_in_the_same_batch_wakes_its_parent(storage: SqlStorage) -> None:
    executor = register(storage)
    family(storage, executor)
    write(storage, executor, park("parent", awaited="child"), end("child", parent_id="parent"))
    assert due(storage, executor) == ["parent"]


def test_a_park_on_a_stranger_looks_now_and_then(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    begin(storage, executor, "w", "stranger")
    write(storage, executor, park("w", awaited="stranger"))
    assert storage.taking.next_wake(APP) == UNRELATED_POLL_MS
    clock.move_to(clock.now_ms() + UNRELATED_POLL_MS)
    assert due(storage, executor) == ["w"]


@pytest.mark.parametrize("first", ["child", "second"])
def test_a_park_on_several_children_is_woken_by_whichever_ends_first(storage: SqlStorage, first: str) -> None:
    executor = register(storage)
    family(storage, executor)
    begin(storage, executor, "second", parent_id="parent")
    write(storage, executor, park("parent", awaited=["child", "second"]))
    assert storage.taking.next_wake(APP) is None
    write(storage, executor, end(first, parent_id="parent"))
    assert due(storage, executor) == ["parent"]
    assert read(storage, "SELECT * FROM {schema}.parked_keys") == [], "nothing is left of the wait"


def test_a_park_on_several_workflows_of_which_one_has_ended_is_due_at_once(storage: SqlStorage) -> None:
    executor = register(storage)
    family(storage, executor)
    begin(storage, executor, "second", parent_id="parent")
    write(storage, executor, end("second", parent_id="parent"), park("parent", awaited=["child", "second"]))
    assert due(storage, executor) == ["parent"]


def test_what_a_parent_waited_for_earlier_does_not_wake_it(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    family(storage, executor)
    begin(storage, executor, "second", "third", parent_id="parent")
    write(storage, executor, park("parent", clock.now_ms(), awaited=["child", "second"]))
    change(storage, "UPDATE {schema}.workflows SET owner = :executor, take = 2, wake_at = NULL, awaits = NULL "
           "WHERE id = 'parent'", executor=executor)  # fmt: skip
    write(storage, executor, park("parent", take=2, awaited=["second", "third"]))
    write(storage, executor, end("child", parent_id="parent"))
    assert due(storage, executor) == []
    write(storage, executor, end("third", parent_id="parent"))
    assert due(storage, executor) == ["parent"]


@pytest.mark.parametrize("ending", ["cancelled", "cancels the parent", "resumes the parent"])
def test_nothing_is_left_of_a_wait_for_several(storage: SqlStorage, ending: str) -> None:
    executor = register(storage)
    family(storage, executor)
    begin(storage, executor, "second", parent_id="parent")
    write(storage, executor, park("parent", awaited=["child", "second"]))
    if ending == "cancelled":
        storage.workflows.cancel(["child"])
        assert due(storage, executor) == ["parent"]
    elif ending == "cancels the parent":
        storage.workflows.cancel(["parent"])
    else:
        storage.workflows.resume(["parent"])
    assert read(storage, "SELECT * FROM {schema}.parked_keys") == []


def test_a_park_with_a_time_and_a_child_wakes_at_what_is_first(
    storage: SqlStorage, clock: ManualClock
) -> None:
    executor = register(storage)
    family(storage, executor)
    write(storage, executor, park("parent", clock.now_ms() + 100, awaited="child"))
    assert storage.taking.next_wake(APP) == 100
    write(storage, executor, end("child", parent_id="parent"))
    assert due(storage, executor) == ["parent"]


def test_a_park_on_nothing_is_never_for_ever(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, park("w"))
    assert storage.taking.next_wake(APP) == UNRELATED_POLL_MS


def test_a_cancelled_parent_is_not_woken_by_its_child(storage: SqlStorage) -> None:
    executor = register(storage)
    family(storage, executor)
    write(storage, executor, park("parent", awaited="child"))
    storage.workflows.cancel(["parent"])
    write(storage, executor, end("child", parent_id="parent"))
    assert due(storage, executor) == []
    assert workflow(storage, "parent").status == CANCELLED


def test_a_park_waits_for_the_childs_outcome_under_way_and_sees_it(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    executor, other = register(storage), register(storage)
    begin(storage, executor, "parent")
    begin(storage, other, "child", parent_id="parent")
    with (
        open_batch(storage, other, end("child", parent_id="parent")),
        meanwhile(lambda: write(storage, executor, park("parent", awaited="child"))) as parked,
    ):
        await_waiting(storage, parked)
    assert parked.result(PATIENCE) == [WRITTEN]
    assert due(storage, executor) == ["parent"]


def test_a_childs_outcome_waits_for_the_park_under_way_and_wakes_it(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    executor, other = register(storage), register(storage)
    begin(storage, executor, "parent")
    begin(storage, other, "child", parent_id="parent")
    with (
        open_batch(storage, executor, park("parent", awaited="child")),
        meanwhile(lambda: write(storage, other, end("child", parent_id="parent"))) as ended,
    ):
        await_waiting(storage, ended)
    assert ended.result(PATIENCE) == [WRITTEN]
    assert due(storage, executor) == ["parent"]


def test_a_start_and_its_parents_park_may_be_one_batch(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "parent")
    write(storage, executor, start("child", parent_id="parent"), park("parent", awaited="child"))
    assert due(storage, executor) == []
    assert workflow(storage, "parent").awaits == "workflow:child"
