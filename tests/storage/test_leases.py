"""Rule 1: leases by the database's clock, heartbeats, and death that is final."""

import pytest

from dbos_events.clock import SystemClock
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.executors import ExecutorRow, NewExecutor
from dbos_events.storage.subjects.taking import Taker
from dbos_events.testing.clock import ManualClock
from tests.storage.building import APP, begin, end, kill, read, register, write
from tests.storage.conftest import Open


def executor_row(storage: SqlStorage, executor: int) -> ExecutorRow:
    return {row.id: row for row in storage.executors.read(APP)}[executor]


def test_an_executor_is_what_it_was_registered_as(storage: SqlStorage) -> None:
    new = NewExecutor(APP, "web-1", True, "v7", "boot", "pid:[1]", 4711, "12345", 1000)
    executor = storage.executors.register(new)
    expected = ExecutorRow(
        executor,
        APP,
        "web-1",
        True,
        "v7",
        "boot",
        "pid:[1]",
        4711,
        "12345",
        alive=True,
        heartbeat=0,
        lease_over=False,
    )
    assert storage.executors.read(APP) == [expected]


def test_rule_1_two_process_starts_with_one_label_are_two_executors(storage: SqlStorage) -> None:
    assert register(storage, "same") != register(storage, "same")


def test_rule_1_a_number_is_never_given_twice(storage: SqlStorage) -> None:
    first = register(storage)
    kill(storage, first)
    assert register(storage) > first


def test_rule_1_a_lease_runs_from_registration_and_from_each_renewal(
    storage: SqlStorage, clock: ManualClock
) -> None:
    executor = register(storage, lease_ms=1000)
    clock.move_to(clock.now_ms() + 1000)
    assert not executor_row(storage, executor).lease_over
    assert storage.executors.renew(executor, 500)
    clock.move_to(clock.now_ms() + 500)
    assert not executor_row(storage, executor).lease_over
    clock.move_to(clock.now_ms() + 1)
    assert executor_row(storage, executor).lease_over


def test_rule_1_a_lease_that_is_over_can_still_be_renewed_by_the_living(
    storage: SqlStorage, clock: ManualClock
) -> None:
    executor = register(storage, lease_ms=10)
    clock.move_to(clock.now_ms() + 1_000_000)
    assert storage.executors.renew(executor, 10)
    assert not executor_row(storage, executor).lease_over


def test_rule_1_leases_are_measured_by_the_databases_clock(migrated_url: str, opened: Open) -> None:
    class WrongClock(SystemClock):
        def now_ms(self) -> int:
            return 0

    storage, wrong = opened(migrated_url, clock=SystemClock()), opened(migrated_url, clock=WrongClock())
    executor = register(wrong, lease_ms=60_000)
    [row] = read(storage, "SELECT started_at, lease_until FROM {schema}.executors")
    assert row.lease_until - row.started_at in range(59_000, 61_000)
    assert abs(storage.now_ms() - row.started_at) < 30_000, "nobody asked the process for the time"
    assert not executor_row(wrong, executor).lease_over
    assert storage.executors.renew(executor, -1000)
    assert executor_row(wrong, executor).lease_over


def test_the_databases_clock_agrees_with_this_machines(migrated_url: str, opened: Open) -> None:
    storage = opened(migrated_url, clock=SystemClock())
    before = SystemClock().now_ms()
    now = storage.now_ms()
    assert before - 1000 <= now <= SystemClock().now_ms() + 1000


def test_rule_1_each_renewal_is_a_heartbeat(storage: SqlStorage) -> None:
    executor = register(storage)
    storage.executors.renew(executor, 10)
    storage.executors.renew(executor, 10)
    assert executor_row(storage, executor).heartbeat == 2


def test_rule_1_who_has_beaten_since_is_not_declared_dead(storage: SqlStorage) -> None:
    executor = register(storage)
    seen = executor_row(storage, executor).heartbeat
    storage.executors.renew(executor, 10)
    assert not storage.executors.declare_dead(executor, seen, "silent")
    assert executor_row(storage, executor).alive
    assert storage.executors.declare_dead(executor, seen + 1, "silent")


def test_rule_1_death_is_final(storage: SqlStorage) -> None:
    executor = register(storage)
    assert storage.executors.declare_dead(executor, 0, "silent")
    assert not storage.executors.renew(executor, 10_000)
    assert storage.executors.read(APP) == []
    [row] = read(storage, "SELECT alive, heartbeat, end_reason FROM {schema}.executors")
    assert (bool(row.alive), row.heartbeat, row.end_reason) == (False, 0, "silent")


def test_rule_1_to_declare_the_dead_dead_again_changes_nothing(storage: SqlStorage) -> None:
    executor = register(storage)
    storage.executors.declare_dead(executor, 0, "first")
    assert storage.executors.declare_dead(executor, 99, "second")
    assert [row.end_reason for row in read(storage, "SELECT end_reason FROM {schema}.executors")] == ["first"]


def test_an_executor_that_is_unknown_counts_as_dead(storage: SqlStorage) -> None:
    assert storage.executors.declare_dead(404, 0, "silent")
    assert not storage.executors.renew(404, 10)


def test_rule_1_a_graceful_stop_frees_what_is_left_at_once(storage: SqlStorage) -> None:
    stopping, executor = register(storage), register(storage)
    begin(storage, stopping, "w")
    storage.executors.release(stopping)
    assert not storage.executors.renew(stopping, 10)
    assert [
        row.id for row in storage.taking.adopt(Taker(executor, APP, "v1", ["work"]), {"work": None}, 9)
    ] == ["w"]


def test_rule_1_the_dead_are_listed_as_long_as_running_work_names_them(storage: SqlStorage) -> None:
    dead, executor = register(storage), register(storage)
    begin(storage, dead, "running", "done")
    write(storage, dead, end("done"))
    kill(storage, dead)
    assert [row.alive for row in storage.executors.read(APP)] == [False, True]
    storage.taking.adopt(Taker(executor, APP, "v1", ["work"]), {"work": None}, 9)
    assert [row.id for row in storage.executors.read(APP)] == [executor]


@pytest.mark.parametrize("application", ["another", ""])
def test_only_executors_of_the_application_are_listed(storage: SqlStorage, application: str) -> None:
    register(storage)
    assert storage.executors.read(application) == []
