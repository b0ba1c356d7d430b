"""Rule 6: from one generation of a workflow to the next."""

from dataclasses import replace

import pytest

from dbos_events.model.queue import QueueLimits
from dbos_events.model.workflow import ENQUEUED, PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import WRITTEN, Failure, Fenced, NextAttempt, Write
from dbos_events.testing import ManualClock
from tests.storage.building import (
    APP,
    begin,
    change,
    claim_from,
    end,
    ids,
    kill,
    read,
    register,
    step,
    workflow,
    write,
)
from tests.storage.topics import topic

TAKER = (APP, "v1")


def retry(
    workflow_id: str, *failed: int, take: int = 1, generation: int = 0, attempt: int = 1, delay_ms: int = 1000
) -> Write:
    """End an attempt; the numbered steps stay behind."""
    failure = Failure("json", "boom", "ValueError", "boom", failed)
    again = NextAttempt(delay_ms, attempt, "handler-failed", failure)
    return Write(workflow_id, take, generation, change=again)


def checkpoints(storage: SqlStorage, workflow_id: str) -> list[tuple[int, int, int | None]]:
    """Generation, step and the generation that recorded it, of each."""
    query = (
        "SELECT generation, step, recorded_in FROM {schema}.checkpoints WHERE workflow_id = :id ORDER BY 1, 2"
    )
    return [tuple(row) for row in read(storage, query, id=workflow_id)]


def test_rule_6_a_retry_leaves_a_row_that_knows_when_and_how_often(
    storage: SqlStorage, clock: ManualClock
) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    change(storage, "UPDATE {schema}.workflows SET crashes = 3")
    assert write(storage, executor, retry("w", delay_ms=5000)) == [WRITTEN]
    row = workflow(storage, "w")
    assert (row.status, row.owner, row.generation, row.attempt, row.crashes) == (PENDING, None, 1, 1, 0)
    assert row.wake_at == clock.now_ms() + 5000
    (ended,) = read(storage, "SELECT * FROM {schema}.generations")
    assert (ended.generation, ended.attempt, ended.ended_as, ended.error) == (0, 1, "retry", "boom")
    assert (ended.ended_at, ended.next_at) == (clock.now_ms(), clock.now_ms() + 5000)


def test_rule_6_what_succeeded_goes_on_and_what_failed_stays(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w", "other")
    write(storage, executor, step("w", 1), step("w", 2, error="boom"), step("other", 2))
    # The last checkpoint and the retry go out together, as they do in life.
    assert write(storage, executor, step("w", 3), retry("w", 2)) == [WRITTEN, WRITTEN]
    assert checkpoints(storage, "w") == [(0, 2, 0), (1, 1, 0), (1, 3, 0)]
    assert [entry.step for entry in storage.workflows.list_steps("w")] == [1, 3]
    assert checkpoints(storage, "other") == [(0, 2, None)]
    assert storage.generations.read_divergences(["w", "other"]) == {"w": {0: 2}}


def test_rule_6_the_start_of_a_child_stays_with_its_failed_result(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(
        storage,
        executor,
        step("w", 1, child_id="good"),
        step("w", 2, child_id="bad"),
        step("w", 3, child_id="bad", error="boom"),
        retry("w", 3),
    )
    assert checkpoints(storage, "w") == [(0, 2, 0), (0, 3, 0), (1, 1, 0)]
    assert storage.generations.read_divergences(["w"]) == {"w": {0: 2}}


def test_rule_6_a_retry_whose_answer_was_lost_counts_once(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    writes = [step("w", 1), step("w", 2, error="boom"), retry("w", 2)]
    assert write(storage, executor, *writes) == [WRITTEN] * 3
    assert write(storage, executor, *writes) == [WRITTEN] * 3
    row = workflow(storage, "w")
    assert (row.generation, row.attempt) == (1, 1)
    assert checkpoints(storage, "w") == [(0, 2, 0), (1, 1, 0)]
    assert len(read(storage, "SELECT 1 FROM {schema}.generations")) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE {schema}.workflows SET take = 2",
        "UPDATE {schema}.workflows SET status = 'CANCELLED'",
        "UPDATE {schema}.workflows SET generation = 1, take = 2",
    ],
)
def test_rule_2_a_retry_without_the_token_changes_nothing(storage: SqlStorage, spoil: str) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, step("w", 1))
    change(storage, spoil)
    before = workflow(storage, "w")
    (answer,) = write(storage, executor, retry("w", 1))
    assert isinstance(answer, Fenced)
    assert workflow(storage, "w") == before
    assert checkpoints(storage, "w") == [(0, 1, None)]
    assert not read(storage, "SELECT 1 FROM {schema}.generations")


def test_rule_2_after_a_refused_checkpoint_there_is_no_retry(storage: SqlStorage) -> None:
    executor, other = register(storage), register(storage, "b")
    begin(storage, executor, "w")
    write(storage, executor, step("w", 1, write_id=7))
    answers = write(storage, executor, step("w", 1, write_id=8), retry("w", 1))
    assert [type(answer) for answer in answers] == [Fenced, Fenced]
    assert workflow(storage, "w").generation == 0
    kill(storage, other)


def test_a_retry_comes_back_when_it_is_due(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, retry("w"))
    assert storage.taking.wake_due(Taker(executor, *TAKER, ["work"]), 10) == []
    clock.move_to(clock.now_ms() + 1000)
    (taken,) = storage.taking.wake_due(Taker(executor, *TAKER, ["work"]), 10)
    assert (taken.id, taken.generation, taken.attempt, taken.take) == ("w", 1, 1, 2)
    assert write(storage, executor, retry("w", take=2, generation=1, attempt=2)) == [WRITTEN]
    row = workflow(storage, "w")
    assert (row.generation, row.attempt) == (2, 2)


def test_a_retry_of_a_queue_comes_back_through_the_queue(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    begin(storage, executor, "w", queue="q")
    assert ids(claim_from(storage, executor, *TAKER, "q", QueueLimits(), ["work"], 10)) == ["w"]
    write(storage, executor, retry("w"))
    clock.move_to(clock.now_ms() + 1000)
    assert storage.taking.wake_due(Taker(executor, *TAKER, ["work"]), 10) == []
    assert workflow(storage, "w").status == ENQUEUED
    assert ids(claim_from(storage, executor, *TAKER, "q", QueueLimits(), ["work"], 10)) == ["w"]


def test_a_retry_in_a_lane_holds_it_and_is_left_to_its_holder(
    storage: SqlStorage, clock: ManualClock
) -> None:
    executor = register(storage)
    orders = topic(storage, lane=True)
    epoch = orders.epoch(executor)
    orders.intake(executor, {0: (epoch, 0, 2)})
    write(storage, executor, retry("e-0-0"))
    assert orders.lane_ids() == ["e-0-0", "e-0-1"]
    blocked = orders.take(executor, epoch)
    assert blocked is not None
    assert blocked.rows == ()
    clock.move_to(clock.now_ms() + 1000)
    assert storage.taking.wake_due(Taker(executor, *TAKER, ["handle"]), 10) == []
    taken = orders.take(executor, epoch)
    assert taken is not None
    assert [(row.id, row.generation, row.attempt) for row in taken.rows] == [("e-0-0", 1, 1)]


def test_a_dead_executors_retry_is_found_by_the_others(storage: SqlStorage, clock: ManualClock) -> None:
    dead, alive = register(storage), register(storage, "b")
    begin(storage, dead, "w")
    write(storage, dead, retry("w"))
    kill(storage, dead)
    clock.move_to(clock.now_ms() + 1000)
    assert ids(storage.taking.wake_due(Taker(alive, *TAKER, ["work"]), 10)) == ["w"]


def test_many_end_together(storage: SqlStorage) -> None:
    executor = register(storage)
    names = [f"w{number}" for number in range(20)]
    begin(storage, executor, *names)
    writes = [one for name in names for one in (step(name, 1), step(name, 2, error="boom"))]
    retries = [retry(name, 2) if number % 2 else end(name) for number, name in enumerate(names)]
    stale = replace(retries[1], take=9)
    answers = write(storage, executor, *writes, *retries, stale)
    assert answers[:-1] == [WRITTEN] * 60
    assert isinstance(answers[-1], Fenced)
    found = [workflow(storage, name).generation for name in names]
    assert found == [number % 2 for number in range(20)]
