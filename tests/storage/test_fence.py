"""Rule 2: who may write, and what becomes of the writes of others."""

import pytest

from dbos_events.errors import ExecutorFenced
from dbos_events.model.queue import QueueLimits
from dbos_events.model.workflow import CANCELLED, ENQUEUED, PENDING, SUCCESS, WorkflowFilter
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.intake import _intake
from dbos_events.storage.subjects.lanes import LanePlace
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import WRITTEN, Existing, Fenced, Write
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
    step,
    steps,
    workflow,
    write,
)
from tests.storage.racing import PATIENCE, at_once, await_waiting, meanwhile, open_batch, open_transaction
from tests.storage.topics import topic

NO_LIMITS = {"work": None}


# ------------------------------------------------------------------ the dead


def test_rule_2_a_batch_of_a_dead_executor_writes_nothing(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    kill(storage, executor)
    with pytest.raises(ExecutorFenced):
        write(storage, executor, step("w"), end("w"), start("new"))
    assert workflow(storage, "w").status == PENDING
    assert storage.workflows.list_steps("w") == []
    assert storage.workflows.read_ending("new") is None


def test_rule_2_a_dead_executor_takes_nothing(storage: SqlStorage) -> None:
    dead, alive = register(storage), register(storage)
    begin(storage, alive, "queued", queue="q")
    begin(storage, alive, "resumed", status=ENQUEUED)
    begin(storage, alive, "due")
    write(storage, alive, park("due", 0))
    kill(storage, dead)
    takes = [
        lambda: claim_from(storage, dead, APP, "v1", "q", QueueLimits(), ["work"], 9),
        lambda: claim_resumed_from(storage, dead, APP, "v1", ["work"], 9),
        lambda: storage.taking.wake_due(Taker(dead, APP, "v1", ["work"]), 9),
        lambda: storage.taking.adopt(Taker(dead, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9),
        lambda: storage.lanes.take(dead, LanePlace(1, 1, 0, 1), ["0"], 9, {"handle": None}),
        lambda: storage.lanes.hold(dead, 1, 1, "topic"),
    ]
    for take in takes:
        with pytest.raises(ExecutorFenced):
            take()
    assert [workflow(storage, name).owner for name in ("queued", "resumed", "due")] == [None] * 3


def test_rule_2_a_dead_executor_takes_no_events_in(storage: SqlStorage) -> None:
    executor = register(storage)
    orders = topic(storage)
    epoch = orders.epoch(executor)
    kill(storage, executor)
    with pytest.raises(ExecutorFenced):
        orders.intake(executor, {0: (epoch, 0, 3)})
    with pytest.raises(ExecutorFenced):
        orders.epoch(executor)
    assert orders.watermark() == 0
    assert read(storage, "SELECT id FROM {schema}.workflows") == []


def test_rule_2_an_executor_that_is_unknown_is_fenced(storage: SqlStorage) -> None:
    with pytest.raises(ExecutorFenced):
        write(storage, 404, start("w"))


# ------------------------------------------------------------------ a plain join is no fence


def test_rule_2_a_declaration_of_death_waits_for_the_batch_under_way(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    old, new = register(storage), register(storage)
    begin(storage, old, "w")
    with open_batch(storage, old, step("w", output="early")) as results:
        assert results == [WRITTEN]
        with meanwhile(lambda: storage.executors.declare_dead(old, 0, "silent")) as death:
            await_waiting(storage, death)
            assert storage.taking.adopt(Taker(new, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9) == [], (
                "not dead before the batch ends"
            )
    assert death.result(PATIENCE)
    assert ids(storage.taking.adopt(Taker(new, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9)) == ["w"]
    assert steps(storage, "w") == {1: "early"}, "the new owner reads what the old one wrote"
    with pytest.raises(ExecutorFenced):
        write(storage, old, step("w", 2))


def test_rule_2_a_batch_waits_for_the_declaration_of_death_and_is_fenced(
    postgres_storage: SqlStorage,
) -> None:
    storage = postgres_storage
    old = register(storage)
    begin(storage, old, "w")
    with open_transaction(storage) as tx:
        tx.run("lock_executor", executor=old)
        tx.run("end_executor", executor=old, identity=0, reason="silent")
        with meanwhile(lambda: write(storage, old, step("w"))) as late:
            await_waiting(storage, late)
    with pytest.raises(ExecutorFenced):
        late.result(PATIENCE)
    assert storage.workflows.list_steps("w") == []


def test_rule_2_a_batch_waits_for_a_taking_from_its_executor_and_is_refused(
    postgres_storage: SqlStorage,
) -> None:
    """The fence waits, and what follows it sees what it waited for: at READ COMMITTED, and at no other isolation."""
    storage = postgres_storage
    old = register(storage)
    begin(storage, old, "w")
    with open_transaction(storage) as tx:
        tx.run("lock_executor", executor=old)
        with meanwhile(lambda: write(storage, old, step("w", output="late"))) as late:
            await_waiting(storage, late)
            taken = (
                f"UPDATE \"{storage.database.schema}\".workflows SET owner = NULL, take = 2 WHERE id = 'w'"
            )
            tx.connection.exec_driver_sql(taken)
    assert late.result(PATIENCE) == [Fenced(PENDING)], "the old owner wrote after the history was read"
    assert steps(storage, "w") == {}


def test_rule_2_a_heartbeat_does_not_wait_for_a_batch(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    executor = register(storage)
    begin(storage, executor, "w")
    with (
        open_batch(storage, executor, step("w")),
        meanwhile(lambda: storage.executors.renew(executor, 1)) as renewal,
    ):
        assert renewal.result(PATIENCE)


def test_rule_2_a_declaration_of_death_waits_for_an_intake_under_way(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    old = register(storage)
    orders = topic(storage)
    batch = orders.batch(old, {0: (orders.epoch(old), 0, 2)})
    with open_transaction(storage) as tx:
        _intake(tx, batch)
        with meanwhile(lambda: kill(storage, old)) as death:
            await_waiting(storage, death)
    death.result(PATIENCE)
    with pytest.raises(ExecutorFenced):
        storage.intake.take_in(batch)


def test_rule_2_a_resume_waits_for_the_batch_under_way(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    old = register(storage)
    begin(storage, old, "w")
    with open_batch(storage, old, step("w", output="early")) as results:
        assert results == [WRITTEN]
        with meanwhile(lambda: storage.workflows.resume(["w"])) as resumed:
            await_waiting(storage, resumed)
    assert resumed.result(PATIENCE) == ["w"]
    assert steps(storage, "w") == {1: "early"}, "the new owner reads what the old one wrote"
    assert write(storage, old, step("w", 2)) == [Fenced(ENQUEUED)]


def test_rule_2_a_resume_locks_an_owner_who_claimed_meanwhile_before_it_takes_the_work(
    postgres_storage: SqlStorage,
) -> None:
    storage = postgres_storage
    old, new = register(storage), register(storage)
    begin(storage, old, "w")
    kill(storage, old)
    with open_transaction(storage) as tx:
        # The claim of another process is under way, so `resume` finds the old owner and waits for the row.
        tx.run("fence", executor=new, identity=0)
        names = {"application": APP, "version": "v1", "names": ["work"], "count": 9, "waits": False}
        assert len(tx.run("adopt_from_dead", executor=new, **names)) == 1
        with meanwhile(lambda: storage.workflows.resume(["w"])) as resumed:
            await_waiting(storage, resumed)
    assert resumed.result(PATIENCE) == ["w"], "asked again, now of the new owner"
    assert workflow(storage, "w").take == 3
    assert write(storage, new, step("w", take=2)) == [Fenced(ENQUEUED)]


# ------------------------------------------------------------------ the token


@pytest.mark.parametrize("status", ["CANCELLED", "SUCCESS", "ERROR", "ENQUEUED"])
def test_rule_2_checkpoints_parks_and_outcomes_require_that_the_workflow_is_pending(
    storage: SqlStorage, status: str
) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    change(storage, "UPDATE {schema}.workflows SET status = :status", status=status)
    outcome = "ERROR" if status == "SUCCESS" else "SUCCESS"
    assert write(storage, executor, step("w")) == [Fenced(status)]
    assert write(storage, executor, end("w", status=outcome)) == [Fenced(status)]
    assert write(storage, executor, park("w", 1)) == [Fenced(status)]
    assert (workflow(storage, "w").status, workflow(storage, "w").wake_at) == (status, None)
    assert storage.workflows.list_steps("w") == []


@pytest.mark.parametrize(
    "mine", [step("w", take=1), end("w", take=1), park("w", 1, take=1)], ids=["checkpoint", "outcome", "park"]
)
def test_rule_2_a_run_whose_workflow_was_taken_writes_nothing(storage: SqlStorage, mine: Write) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    storage.workflows.resume(["w"])
    [taken] = claim_resumed_from(storage, executor, APP, "v1", ["work"], 9)
    assert taken.take == 3, "resumed, and taken again by the very same executor"
    assert write(storage, executor, mine) == [Fenced(PENDING)]
    assert (workflow(storage, "w").status, workflow(storage, "w").owner) == (PENDING, executor)
    assert storage.workflows.list_steps("w") == []


def test_rule_2_a_workflow_of_another_executor_is_not_written(storage: SqlStorage) -> None:
    owner, stranger = register(storage), register(storage)
    begin(storage, owner, "w")
    for mine in (step("w"), end("w"), park("w", 1)):
        assert write(storage, stranger, mine) == [Fenced(PENDING)]
    assert workflow(storage, "w").owner == owner
    assert storage.workflows.list_steps("w") == []


def test_rule_2_a_workflow_that_does_not_exist_is_fenced(storage: SqlStorage) -> None:
    executor = register(storage)
    for mine in (step("none"), end("none"), park("none", 1)):
        assert write(storage, executor, mine) == [Fenced(None)]


def test_rule_2_the_workflow_is_the_unit_of_isolation(storage: SqlStorage) -> None:
    owner, executor = register(storage), register(storage)
    begin(storage, owner, "theirs")
    begin(storage, executor, "mine")
    results = write(storage, executor, step("theirs"), step("mine"), end("theirs"), end("mine"))
    assert results == [Fenced(PENDING), WRITTEN, Fenced(None), WRITTEN]
    assert workflow(storage, "mine").status == SUCCESS
    assert workflow(storage, "theirs").status == PENDING


def test_rule_2_after_a_refused_checkpoint_the_rest_of_the_run_is_refused(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, step("w", 1, output="first"))
    child = start("child")
    child.workflow_id, child.take = "w", 1
    [one, two, three, four] = write(storage, executor, step("w", 1), child, park("w", 1), end("w"))
    assert (one, two, three, four) == (Fenced(PENDING), Fenced(None), Fenced(None), Fenced(None))
    assert (workflow(storage, "w").status, workflow(storage, "w").owner) == (PENDING, executor)
    assert storage.workflows.read_ending("child") is None


def test_rule_2_a_refused_run_does_not_take_the_next_run_of_the_workflow_with_it(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    storage.workflows.resume(["w"])
    claim_resumed_from(storage, executor, APP, "v1", ["work"], 9)
    late, fresh = step("w", output="late"), step("w", take=3, output="fresh")
    assert write(storage, executor, late, fresh, end("w", take=3)) == [Fenced(PENDING), WRITTEN, WRITTEN]
    assert steps(storage, "w") == {1: "fresh"}
    assert workflow(storage, "w").status == SUCCESS


def test_rule_2_a_batch_may_hold_every_kind_of_write(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "done", "parked")
    writes = [
        step("done"),
        end("done", output="1"),
        step("parked"),
        park("parked", 99),
        start("new", input="[]"),
    ]
    assert write(storage, executor, *writes) == [WRITTEN] * 5
    assert [workflow(storage, name).status for name in ("done", "parked", "new")] == [
        SUCCESS,
        PENDING,
        PENDING,
    ]
    assert [workflow(storage, name).owner for name in ("parked", "new")] == [None, executor]


def test_rule_2_crashes_return_to_zero_with_a_new_checkpoint(storage: SqlStorage) -> None:
    first, second = register(storage), register(storage)
    begin(storage, first, "w", "other")
    kill(storage, first)
    storage.taking.adopt(Taker(second, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9)
    progress = step("w", take=2)
    progress.reset_crashes = True
    write(storage, second, progress, step("other", take=2))
    assert (workflow(storage, "w").crashes, workflow(storage, "other").crashes) == (0, 1)


def test_rule_2_progress_counts_also_when_the_run_parks_in_the_same_batch(storage: SqlStorage) -> None:
    first, second = register(storage), register(storage)
    begin(storage, first, "w")
    kill(storage, first)
    storage.taking.adopt(Taker(second, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9)
    progress = step("w", take=2)
    progress.reset_crashes = True
    assert write(storage, second, progress, park("w", 0, take=2)) == [WRITTEN, WRITTEN]
    assert workflow(storage, "w").crashes == 0


def test_rule_2_a_run_that_lost_its_workflow_forgives_no_crash(storage: SqlStorage) -> None:
    first, second = register(storage), register(storage)
    begin(storage, first, "w")
    storage.workflows.resume(["w"])
    claim_resumed_from(storage, second, APP, "v1", ["work"], 9)
    kill(storage, second)
    storage.taking.adopt(
        Taker(first, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9
    )  # under a newer take; the old run is there still
    stale = step("w")
    stale.reset_crashes = True
    assert write(storage, first, stale) == [Fenced(PENDING)]
    assert workflow(storage, "w").crashes == 1


def test_rule_2_a_run_that_was_cancelled_forgives_no_crash(storage: SqlStorage) -> None:
    first, second = register(storage), register(storage)
    begin(storage, first, "w")
    kill(storage, first)
    storage.taking.adopt(Taker(second, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9)
    storage.workflows.cancel(["w"])
    late = step("w", take=2)
    late.reset_crashes = True
    assert write(storage, second, late) == [Fenced(CANCELLED)]
    assert workflow(storage, "w").crashes == 1


# ------------------------------------------------------------------ an answer that was lost


def test_rule_2_a_checkpoint_whose_answer_was_lost_is_written_when_it_is_repeated(
    storage: SqlStorage,
) -> None:
    executor = register(storage)
    begin(storage, executor, "w", "x")
    mine = step("w", output="value")
    assert write(storage, executor, mine) == [WRITTEN]
    assert write(storage, executor, mine, step("x")) == [WRITTEN, WRITTEN]
    assert steps(storage, "w") == {1: "value"}


def test_rule_2_another_write_of_the_same_step_is_fenced(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, step("w", output="first"))
    assert write(storage, executor, step("w", output="second")) == [Fenced(PENDING)]
    assert steps(storage, "w") == {1: "first"}


def test_rule_2_a_step_that_another_executor_wrote_is_fenced_even_with_the_same_write_id(
    storage: SqlStorage,
) -> None:
    first, second = register(storage), register(storage)
    begin(storage, first, "w")
    write(storage, first, step("w", write_id=5, output="first"))
    kill(storage, first)
    storage.taking.adopt(Taker(second, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9)
    assert write(storage, second, step("w", take=2, write_id=5)) == [Fenced(PENDING)]
    assert steps(storage, "w") == {1: "first"}


def test_rule_2_a_last_checkpoint_and_outcome_whose_answer_was_lost_are_written_when_repeated(
    storage: SqlStorage,
) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    writes = [step("w"), end("w", output="done")]
    assert write(storage, executor, *writes) == [WRITTEN, WRITTEN]
    assert write(storage, executor, *writes) == [WRITTEN, WRITTEN]
    ending = storage.workflows.read_ending("w")
    assert ending is not None
    assert (ending.status, ending.output) == (SUCCESS, "done")


def test_rule_2_another_outcome_than_the_one_that_is_there_is_fenced(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, end("w", output="done"))
    assert write(storage, executor, end("w", status="ERROR", error="boom")) == [Fenced(SUCCESS)]
    assert write(storage, register(storage), end("w", output="theirs")) == [Fenced(SUCCESS)]
    ending = storage.workflows.read_ending("w")
    assert ending is not None
    assert (ending.status, ending.output, ending.error) == (SUCCESS, "done", None)


def test_rule_2_a_start_whose_answer_was_lost_is_written_when_it_is_repeated(storage: SqlStorage) -> None:
    executor = register(storage)
    mine = start("w", input="[1]")
    assert write(storage, executor, mine) == [WRITTEN]
    assert write(storage, executor, mine) == [WRITTEN]
    assert workflow(storage, "w").take == 1


def test_rule_2_a_start_of_an_id_that_is_there_says_what_is_there_and_changes_nothing(
    storage: SqlStorage,
) -> None:
    first, second = register(storage), register(storage)
    write(storage, first, start("w", input="[1]", name="theirs"))
    answer = write(storage, second, start("w", input="[2]"), start("fresh"))
    assert answer == [Existing("w", "theirs", PENDING, None, None), WRITTEN]
    [row] = storage.workflows.find(WorkflowFilter(workflow_ids=("w",)))
    assert (row["owner"], row["input"], row["name"]) == (first, "[1]", "theirs")


def test_rule_2_of_two_starts_of_one_id_in_a_batch_the_first_wins(storage: SqlStorage) -> None:
    executor = register(storage)
    answer = write(
        storage, executor, start("w", name="one", input="[1]"), start("w", name="two", input="[2]")
    )
    assert answer == [WRITTEN, Existing("w", "one", PENDING, None, None)]
    [row] = storage.workflows.find(WorkflowFilter(workflow_ids=("w",)))
    assert (row["name"], row["input"]) == ("one", "[1]")


def test_rule_2_of_two_starts_of_one_id_at_once_one_wins(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    first, second = register(storage), register(storage)
    answers = at_once(
        lambda: write(storage, first, start("w", name="one")),
        lambda: write(other_storage, second, start("w", name="two")),
    )
    assert sorted(type(answer).__name__ for [answer] in answers) == ["Existing", "Written"]
    assert workflow(storage, "w").name == ("one" if answers[0] == [WRITTEN] else "two")


def test_rule_2_a_park_whose_answer_was_lost_is_written_when_it_is_repeated(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    mine = park("w", 12345)
    assert write(storage, executor, mine) == [WRITTEN]
    assert write(storage, executor, mine) == [WRITTEN]
    assert (workflow(storage, "w").owner, workflow(storage, "w").wake_at) == (None, 12345)


def test_rule_2_a_park_is_fenced_once_the_workflow_was_taken_again(storage: SqlStorage) -> None:
    executor, other = register(storage), register(storage)
    begin(storage, executor, "w")
    mine = park("w", 1)
    write(storage, executor, mine)
    assert ids(storage.taking.wake_due(Taker(other, APP, "v1", ["work"]), 9)) == ["w"]
    assert write(storage, executor, mine) == [Fenced(PENDING)]
    assert workflow(storage, "w").owner == other


# ------------------------------------------------------------------ cancel against finish


def test_rule_2_a_cancelled_workflow_does_not_finish(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    assert storage.workflows.cancel(["w"]) == ["w"]
    assert write(storage, executor, end("w", output="done")) == [Fenced(CANCELLED)]
    ending = storage.workflows.read_ending("w")
    assert ending is not None
    assert (ending.status, ending.output) == (CANCELLED, None)


def test_rule_2_a_finished_workflow_is_not_cancelled(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    write(storage, executor, end("w", output="done"))
    assert storage.workflows.cancel(["w"]) == []
    assert workflow(storage, "w").status == SUCCESS


def test_rule_2_cancel_and_finish_at_once_leave_one_ending(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    executor = register(storage)
    names = [f"w{number}" for number in range(12)]
    begin(storage, executor, *names)
    for name in names:
        [finished, cancelled] = at_once(
            lambda name=name: write(storage, executor, end(name)),
            lambda name=name: other_storage.workflows.cancel([name]),
        )
        if cancelled:
            assert (finished, workflow(storage, name).status) == ([Fenced(CANCELLED)], CANCELLED)
        else:
            assert (finished, workflow(storage, name).status) == ([WRITTEN], SUCCESS)


def test_a_cancel_waits_for_the_outcome_under_way_and_finds_it(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    executor = register(storage)
    begin(storage, executor, "w")
    with (
        open_batch(storage, executor, end("w")),
        meanwhile(lambda: storage.workflows.cancel(["w"])) as cancelled,
    ):
        await_waiting(storage, cancelled)
    assert cancelled.result(PATIENCE) == []
    assert workflow(storage, "w").status == SUCCESS


# ------------------------------------------------------------------ what a run must know of


def test_a_run_learns_that_it_was_stopped(storage: SqlStorage) -> None:
    executor, other = register(storage), register(storage)
    begin(storage, executor, "mine", "cancelled", "parked")
    begin(storage, other, "theirs")
    storage.workflows.cancel(["cancelled"])
    write(storage, executor, park("parked", 1))
    stopped = storage.workflows.stopped_among(executor, ["mine", "cancelled", "parked", "theirs"])
    assert stopped == {"cancelled": CANCELLED, "parked": PENDING, "theirs": PENDING}
