"""A debounced call against the close of its window, in both orders; calls whose answer was lost (rule 23)."""

import itertools
from typing import Any

import pytest

from dbos_events.model.workflow import DELAYED, ENQUEUED
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import WRITTEN, Bounce, Debounced, NewWorkflow, Write
from dbos_events.storage.writes.debounce import Keep, add_call
from dbos_events.testing import ManualClock
from tests.storage.building import APP, begin, end, read, register, step, workflow, write
from tests.storage.racing import at_once, await_waiting, meanwhile, open_transaction

PERIOD = 100
_calls = itertools.count(1)


def call(
    run: str, what: str = "1", *, keep: Keep = "last", key: str = "k", limit: int | None = None
) -> Bounce:
    new = NewWorkflow(run, "work", APP, next(_calls), DELAYED, "v1", "json", what, delay_ms=PERIOD)
    return Bounce(key, PERIOD, limit, keep, next(_calls), new)


def inputs(storage: SqlStorage) -> dict[str, Any]:
    return {
        row.workflow_id: row.input
        for row in read(storage, "SELECT workflow_id, input FROM {schema}.payloads")
    }


def test_a_call_that_meets_the_close_under_way_opens_the_next_window(
    postgres_storage: SqlStorage, clock: ManualClock
) -> None:
    storage = postgres_storage
    assert storage.debounces.add(call("first", "1")) == "first"
    clock.move_to(clock.now_ms() + PERIOD)
    with open_transaction(storage) as tx:
        assert len(tx.run("promote_due", application=APP)) == 1
        with meanwhile(lambda: storage.debounces.add(call("second", "2"))) as added:
            pass
    assert added.result(10) == "second"
    assert inputs(storage) == {"first": "1", "second": "2"}


def test_a_call_that_waits_for_a_close_opens_the_next_window(
    postgres_storage: SqlStorage, clock: ManualClock
) -> None:
    """The clock of the closing process is ahead, so the call does not see by itself that the time has come."""
    storage = postgres_storage
    storage.debounces.add(call("first", "1"))
    with open_transaction(storage) as tx:
        tx.connection.exec_driver_sql(
            f"UPDATE \"{storage.database.schema}\".workflows SET status = 'ENQUEUED', wake_at = NULL"
        )
        with meanwhile(lambda: storage.debounces.add(call("second", "2"))) as added:
            await_waiting(storage, added)
    assert added.result(10) == "second"
    assert (workflow(storage, "first").status, workflow(storage, "second").status) == (ENQUEUED, DELAYED)
    assert inputs(storage) == {"first": "1", "second": "2"}


def test_a_close_that_waits_for_a_call_leaves_the_run_put_off(
    postgres_storage: SqlStorage, clock: ManualClock
) -> None:
    storage = postgres_storage
    storage.debounces.add(call("first", "1"))
    clock.move_to(clock.now_ms() + PERIOD - 1)
    with open_transaction(storage) as tx:
        assert add_call(tx, 0, call("second", "2")) == "first"
        clock.move_to(clock.now_ms() + 1)
        with meanwhile(lambda: storage.queues.promote_due(APP)) as closed:
            await_waiting(storage, closed)
    assert closed.result(10) == []
    assert workflow(storage, "first").status == DELAYED
    assert inputs(storage)["first"] == "2"


def test_first_calls_at_once_are_one_run(storage: SqlStorage, other_storage: SqlStorage) -> None:
    def add(one: SqlStorage, name: str) -> set[str]:
        return {one.debounces.add(call(f"{name}{number}", keep="all")) for number in range(25)}

    runs = at_once(lambda: add(storage, "a"), lambda: add(other_storage, "b"))
    [run] = runs[0] | runs[1]
    assert len(storage.debounces.members([run])[run]) == 50


@pytest.mark.parametrize("keep", ["last", "all"])
def test_a_call_that_is_written_again_is_one_call(storage: SqlStorage, keep: Keep) -> None:
    """The answer to its commit was lost, and other calls have come since."""
    first, second = call("first", "1", keep=keep), call("second", "2", keep=keep)
    assert storage.debounces.add(first) == "first"
    assert storage.debounces.add(second) == "first"
    assert storage.debounces.add(first) == "first"
    if keep == "all":
        assert [member.input for member in storage.debounces.members(["first"])["first"]] == ["1", "2"]
    else:
        assert inputs(storage)["first"] == "2"


def test_a_call_of_a_run_that_is_fenced_changes_nothing(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "w")
    stale = step("w", take=7)
    stale.change = call("first")
    [answer] = write(storage, executor, stale)
    assert not isinstance(answer, Debounced)
    assert read(storage, "SELECT * FROM {schema}.debounces") == []


def test_a_call_of_a_workflow_names_its_run_in_the_checkpoint(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "v", "w")
    first, second = step("v"), step("w")
    first.change, second.change = call("first", "1"), call("second", "2")
    assert write(storage, executor, first, second, end("v")) == [
        Debounced("first"),
        Debounced("first"),
        WRITTEN,
    ]
    again = Write("w", 1, 0, second.checkpoint, second.change)
    assert write(storage, executor, again) == [Debounced("first")]
    [entry] = storage.workflows.list_steps("w")
    assert entry.child_id == "first"
    assert inputs(storage)["first"] == "2"
