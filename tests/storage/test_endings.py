"""What ends workflows from outside: deadlines, starts that come too late, trees."""

import time
from datetime import timedelta

import pytest

from dbos_events.model.queue import QueueLimits
from dbos_events.model.workflow import CANCELLED, ENQUEUED, PENDING, SUCCESS
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.endings import EndedLate
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import Fenced, Written
from dbos_events.testing import ManualClock
from tests.storage.building import (
    APP,
    begin,
    claim_from,
    claim_resumed_from,
    end,
    ids,
    park,
    read,
    register,
    start,
    step,
    workflow,
    write,
)

NAMES = ["work"]
NO_LIMITS = QueueLimits(None, None, None)


@pytest.fixture
def executor(storage: SqlStorage) -> int:
    return register(storage)


def late(clock: ManualClock, seconds: float = 0) -> int:
    return clock.now_ms() + round(seconds * 1000)


def test_the_next_of_all_deadlines_is_known(storage: SqlStorage, clock: ManualClock, executor: int) -> None:
    assert storage.endings.next_due(APP) is None
    begin(storage, executor, "none")
    begin(storage, executor, "far", deadline=late(clock, 60))
    begin(storage, executor, "near", deadline=late(clock, 10))
    begin(storage, executor, "other", deadline=late(clock, 1), application="other")
    assert storage.endings.next_due(APP) == 10_000
    begin(storage, executor, "queued", queue="q", start_by=late(clock, 5))
    assert storage.endings.next_due(APP) == 5_000
    assert storage.endings.end_due(APP, 9) == []
    clock.advance(timedelta(seconds=20))
    assert storage.endings.end_due(APP, 9) == [
        EndedLate("near", "timeout"),
        EndedLate("queued", "queue-timeout"),
    ]
    assert storage.endings.next_due(APP) == 40_000
    assert workflow(storage, "other").status == PENDING
    row = workflow(storage, "near")
    assert (row.status, row.end_reason, row.completed_at) == (CANCELLED, "timeout", clock.now_ms())


def test_what_has_ended_has_no_deadline_any_more(
    storage: SqlStorage, clock: ManualClock, executor: int
) -> None:
    begin(storage, executor, "w", deadline=late(clock, 10))
    write(storage, executor, end("w"))
    clock.advance(timedelta(seconds=20))
    assert storage.endings.next_due(APP) is None
    assert storage.endings.end_due(APP, 9) == []
    assert workflow(storage, "w").status == SUCCESS


def test_the_run_is_told_that_its_workflow_was_cancelled(
    storage: SqlStorage, clock: ManualClock, executor: int
) -> None:
    begin(storage, executor, "w", deadline=late(clock, 10))
    clock.advance(timedelta(seconds=10))
    assert storage.endings.end_due(APP, 9) == [EndedLate("w", "timeout")]
    assert write(storage, executor, step("w")) == [Fenced(CANCELLED)]
    assert write(storage, executor, end("w")) == [Fenced(CANCELLED)]
    assert write(storage, executor, park("w", 9)) == [Fenced(CANCELLED)]
    assert storage.workflows.stopped_among(executor, ["w"]) == {"w": CANCELLED}


def test_a_claim_sets_the_deadline_once_and_takes_nothing_that_is_late(
    storage: SqlStorage, clock: ManualClock, executor: int
) -> None:
    begin(storage, executor, "timed", queue="q", timeout_ms=10_000)
    begin(storage, executor, "inherits", queue="q", timeout_ms=10_000, deadline=late(clock, 4))
    begin(storage, executor, "unclaimed", queue="q", start_by=late(clock, 1))
    begin(storage, executor, "late", queue="q", deadline=late(clock, 1))
    clock.advance(timedelta(seconds=1))
    taken = claim_from(storage, executor, APP, "v1", "q", NO_LIMITS, NAMES, 9)
    assert {row.id: row.deadline for row in taken} == {
        "timed": late(clock, 10),
        "inherits": late(clock, 3),
    }
    write(storage, executor, park("timed", late(clock, 5)))
    clock.advance(timedelta(seconds=5))
    assert storage.taking.wake_due(Taker(executor, APP, "v1", NAMES), 9) == []
    assert workflow(storage, "timed").status == ENQUEUED
    [again] = claim_from(storage, executor, APP, "v1", "q", NO_LIMITS, NAMES, 9)
    assert again.deadline == late(clock, 5)


def test_a_parked_workflow_is_cancelled_and_not_woken_whatever_is_due_first(
    storage: SqlStorage, clock: ManualClock, executor: int
) -> None:
    begin(storage, executor, "w", deadline=late(clock, 10))
    write(storage, executor, park("w", late(clock, 5)))
    clock.advance(timedelta(seconds=60))
    assert storage.taking.wake_due(Taker(executor, APP, "v1", NAMES), 9) == []
    assert storage.endings.end_due(APP, 9) == [EndedLate("w", "timeout")]
    row = workflow(storage, "w")
    assert (row.status, row.take, row.owner, row.wake_at) == (CANCELLED, 1, None, None)
    assert storage.taking.next_wake(APP) is None


def test_who_waits_for_what_was_cancelled_is_woken(
    storage: SqlStorage, clock: ManualClock, executor: int
) -> None:
    begin(storage, executor, "parent")
    write(storage, executor, start("child", parent_id="parent", deadline=late(clock, 10)))
    write(storage, executor, park("parent", awaited="child"))
    clock.advance(timedelta(seconds=10))
    storage.endings.end_due(APP, 9)
    assert ids(storage.taking.wake_due(Taker(executor, APP, "v1", NAMES), 9)) == ["parent"]


def test_resuming_forgets_the_deadline_and_the_next_claim_sets_another(
    storage: SqlStorage, clock: ManualClock, executor: int
) -> None:
    begin(storage, executor, "w", timeout_ms=10_000, deadline=late(clock, 10))
    clock.advance(timedelta(seconds=60))
    storage.endings.end_due(APP, 9)
    assert storage.workflows.resume(["w"]) == ["w"]
    row = workflow(storage, "w")
    assert (row.deadline, row.start_by, row.end_reason) == (None, None, None)
    [taken] = claim_resumed_from(storage, executor, APP, "v1", NAMES, 9)
    assert taken.deadline == late(clock, 10)


def test_ten_thousand_parked_workflows_are_cancelled_without_being_woken(
    storage: SqlStorage, clock: ManualClock, executor: int
) -> None:
    many = [f"w{number:05}" for number in range(10_000)]
    deadline = late(clock, 10)
    for first in range(0, len(many), 1000):
        begin(storage, executor, *many[first : first + 1000], deadline=deadline)
        write(storage, executor, *(park(one, late(clock, 3600)) for one in many[first : first + 1000]))
    clock.advance(timedelta(seconds=10))
    began, cancelled = time.monotonic(), 0
    while ended := storage.endings.end_due(APP, 1000):
        cancelled += len(ended)
    took = time.monotonic() - began
    assert cancelled == len(many)
    [counted] = read(
        storage,
        "SELECT count(*) AS all_, max(take) AS takes, count(wake_at) AS waking FROM {schema}.workflows "
        "WHERE status = 'CANCELLED' AND end_reason = 'timeout'",
    )
    assert tuple(counted) == (len(many), 1, 0)
    assert took < 60, "it is one statement for each thousand"


def test_what_is_written_in_a_shield_passes_a_cancel_and_nothing_else(
    storage: SqlStorage, executor: int
) -> None:
    def shielded(number: int, **more: int) -> object:
        one = step("w", number, **more)  # type: ignore[arg-type]
        one.shielded = True
        return write(storage, executor, one)

    begin(storage, executor, "w")
    assert shielded(1) == [Written()]
    storage.workflows.cancel(["w"])
    assert write(storage, executor, step("w", 2)) == [Fenced(CANCELLED)]
    assert shielded(2) == [Written()]
    assert shielded(3, write_id=7) == shielded(3, write_id=7) == [Written()]  # a commit whose answer was lost
    assert [entry.step for entry in storage.workflows.list_steps("w")] == [1, 2, 3]
    storage.workflows.resume(["w"])
    assert shielded(4) == [Fenced(ENQUEUED)]
    claim_resumed_from(storage, executor, APP, "v1", NAMES, 9)
    assert shielded(4) == [Fenced(PENDING)]


def test_in_one_batch_a_shielded_write_passes_beside_one_that_is_refused(
    storage: SqlStorage, executor: int
) -> None:
    begin(storage, executor, "w")
    storage.workflows.cancel(["w"])
    plain, cleaning, starting = step("w", 1), step("w", 2), step("w", 3, child_id="c")
    cleaning.shielded = starting.shielded = True
    starting.change = start("c", parent_id="w").change
    assert write(storage, executor, plain, cleaning, starting, end("w")) == [
        Fenced(CANCELLED), Written(), Written(), Fenced(None),
    ]  # fmt: skip
    assert [entry.step for entry in storage.workflows.list_steps("w")] == [2, 3]
    assert workflow(storage, "c").status == PENDING


def test_a_tree_is_found_through_what_has_ended_and_its_ends_stay(storage: SqlStorage, executor: int) -> None:
    begin(storage, executor, "root")
    begin(storage, executor, "child", parent_id="root")
    begin(storage, executor, "waits", parent_id="child", queue="q")
    begin(storage, executor, "done", parent_id="child")
    begin(storage, executor, "apart")
    write(storage, executor, end("root"), end("done"))
    assert sorted(storage.endings.cancel_trees(["root"])) == ["child", "waits"]
    assert storage.endings.cancel_trees(["root"]) == []
    assert [workflow(storage, one).status for one in ("root", "done", "apart")] == [SUCCESS, SUCCESS, PENDING]
    assert workflow(storage, "waits").end_reason == "cancelled"
