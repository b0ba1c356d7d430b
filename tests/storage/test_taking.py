"""Rules 1, 2, 10 and 12: who takes work over, and what counts as a crash."""

import pytest

from dbos_events.model.workflow import MAX_RECOVERY_ATTEMPTS_EXCEEDED, PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import WRITTEN
from tests.storage.building import (
    APP,
    begin,
    end,
    ids,
    kill,
    park,
    read,
    register,
    step,
    workflow,
    write,
)
from tests.storage.racing import PATIENCE, at_once, meanwhile, open_transaction
from tests.storage.topics import topic


def adopt(
    storage: SqlStorage, executor: int, *, version: str = "v1", limit: int | None = None, count: int = 99
):
    return storage.taking.adopt(Taker(executor, APP, version, ["work"]), {"work": limit}, count)


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
    storage.workflows.cancel(["cancelled"])
    kill(storage, dead)
    assert adopt(storage, executor) == []


def test_rule_2_only_registered_functions_of_the_application_are_adopted(storage: SqlStorage) -> None:
    dead, executor = register(storage), register(storage)
    begin(storage, dead, "no-handler", name="unknown")
    begin(storage, dead, "another", application="another")
    kill(storage, dead)
    assert adopt(storage, executor) == []
    assert [row.id for row in storage.executors.read(APP)] == [dead, executor], "what cannot run is visible"


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
    assert storage.workflows.list_steps("started")[0].version == "v1", (
        "the checkpoint keeps that of its writer"
    )


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
    assert storage.taking.adopt(Taker(executor, APP, "v1", ["handle"]), {"handle": 0}, 9) == []
    [row] = read(storage, "SELECT * FROM {schema}.quarantine")
    assert (row.workflow_id, row.consumer) == ("e-0-0", orders.consumer)
    assert row.reason == "max-recovery-attempts-exceeded"
