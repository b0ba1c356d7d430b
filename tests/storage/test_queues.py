"""Queues: limits that hold over all processes, and the order of starts."""

import pytest
from sqlalchemy import event

from dbos_events.model.queue import QueueLimits, QueueState
from dbos_events.model.workflow import ENQUEUED, PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.testing.clock import ManualClock
from tests.storage.building import (
    APP,
    begin,
    claim_from,
    claim_resumed_from,
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

FREE = QueueLimits()


def claim(
    storage: SqlStorage, executor: int, limits: QueueLimits = FREE, *, count: int = 99, version: str = "v1"
) -> list[str]:
    return ids(claim_from(storage, executor, APP, version, "q", limits, ["work"], count))


def names(count: int) -> list[str]:
    return [f"w{number:02}" for number in range(count)]


def declared(storage: SqlStorage, limits: QueueLimits) -> QueueLimits:
    storage.queues.save_declared(APP, {"q": limits})
    return limits


# ------------------------------------------------------------------ order


def test_workflows_start_in_the_order_in_which_they_were_enqueued(storage: SqlStorage) -> None:
    executor = register(storage)
    for number, name in enumerate(["z", "a", "m"]):
        begin(storage, executor, name, queue="q", start_id=number)
    assert claim(storage, executor, count=2) == ["z", "a"]
    assert claim(storage, executor) == ["m"]


def test_a_lower_priority_number_goes_first_whatever_its_age(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    for name, priority in [("late", 5), ("first", 1), ("middle", 3), ("second", 1)]:
        begin(storage, executor, name, queue="q", priority=priority)
        clock.move_to(clock.now_ms() + 1)
    assert claim(storage, executor, count=3) == ["first", "second", "middle"]


def test_a_claim_makes_it_running_here(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    begin(storage, executor, "w", queue="q", input="[1]", codec="json")
    clock.move_to(clock.now_ms() + 5)
    [taken] = claim_from(storage, executor, APP, "v2", "q", FREE, ["work"], 9)
    assert (taken.id, taken.take, taken.input, taken.queue) == ("w", 1, "[1]", "q")
    row = workflow(storage, "w")
    assert (row.status, row.owner, row.version, row.started_at) == (PENDING, executor, "v2", clock.now_ms())


def test_only_named_functions_of_the_application_and_queue_are_claimed(storage: SqlStorage) -> None:
    executor = register(storage)
    begin(storage, executor, "name", queue="q", name="unknown")
    begin(storage, executor, "queue", queue="other")
    begin(storage, executor, "application", queue="q", application="another")
    begin(storage, executor, "none", status=ENQUEUED)
    assert claim(storage, executor) == []


def test_two_claims_at_once_never_take_the_same(storage: SqlStorage, other_storage: SqlStorage) -> None:
    first, second = register(storage), register(storage)
    begin(storage, first, *names(40), queue="q")
    [one, two] = at_once(lambda: claim(storage, first), lambda: claim(other_storage, second))
    assert sorted([*one, *two, *claim(storage, first)]) == names(40)


def test_a_claim_does_not_wait_for_another_under_way(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    first, second = register(storage), register(storage)
    begin(storage, first, *names(4), queue="q")
    with open_transaction(storage) as tx:
        where = {
            "application": APP,
            "version": "v1",
            "queue": "q",
            "names": ["work"],
            "waits": False,
            "revision": 0,
        }
        assert len(tx.run("claim", executor=first, count=2, **where)) == 2
        with meanwhile(lambda: claim(storage, second)) as claimed:
            assert claimed.result(PATIENCE) == ["w02", "w03"]


# ------------------------------------------------------------------ versions


def test_rule_12_what_has_not_started_is_claimed_by_any_version(storage: SqlStorage) -> None:
    old, new = register(storage, version="v1"), register(storage, version="v2")
    begin(storage, old, "w", queue="q", version="v1")
    assert claim(storage, new, version="v2") == ["w"]


def test_rule_12_what_has_started_is_left_to_a_live_process_of_its_version(storage: SqlStorage) -> None:
    old, new = register(storage, version="v1"), register(storage, version="v2")
    begin(storage, old, "w", queue="q")
    claim(storage, old)
    write(storage, old, step("w"), park("w", 0))
    storage.taking.wake_due(Taker(old, APP, "v1", ["work"]), 9)
    assert claim(storage, new, version="v2") == []
    kill(storage, old)
    assert claim(storage, new, version="v2") == ["w"]


def test_rule_12_a_resumed_workflow_prefers_its_version_too(storage: SqlStorage) -> None:
    old, new = register(storage, version="v1"), register(storage, version="v2")
    begin(storage, old, "w")
    storage.workflows.resume(["w"])
    assert claim_resumed_from(storage, new, APP, "v2", ["work"], 9) == []
    assert ids(claim_resumed_from(storage, old, APP, "v1", ["work"], 9)) == ["w"]


# ------------------------------------------------------------------ concurrency


def test_concurrency_counts_what_runs_in_all_processes(storage: SqlStorage) -> None:
    limits = declared(storage, QueueLimits(concurrency=3))
    first, second = register(storage), register(storage)
    begin(storage, first, *names(9), queue="q")
    assert claim(storage, first, limits, count=2) == ["w00", "w01"]
    assert claim(storage, second, limits) == ["w02"]
    assert claim(storage, first, limits) == []
    write(storage, first, end("w00"))
    assert claim(storage, second, limits) == ["w03"]


def test_a_parked_workflow_gives_its_slot_back(storage: SqlStorage) -> None:
    limits = declared(storage, QueueLimits(concurrency=1))
    executor = register(storage)
    begin(storage, executor, "a", "b", queue="q", start_id=1)
    assert claim(storage, executor, limits) == ["a"]
    write(storage, executor, park("a", 0))
    assert claim(storage, executor, limits) == ["b"]
    storage.taking.wake_due(Taker(executor, APP, "v1", ["work"]), 9)
    assert claim(storage, executor, limits) == [], "woken, it waits for a slot"
    write(storage, executor, end("b"))
    assert claim(storage, executor, limits) == ["a"]


def test_what_a_dead_process_left_keeps_its_slot_until_it_is_adopted_and_ends(storage: SqlStorage) -> None:
    limits = declared(storage, QueueLimits(concurrency=1))
    dead, executor = register(storage), register(storage)
    begin(storage, dead, "a", "b", queue="q")
    claim(storage, dead, limits)
    kill(storage, dead)
    assert claim(storage, executor, limits) == []
    assert ids(storage.taking.adopt(Taker(executor, APP, "v1", ["work"]), {"work": None}, 9)) == ["a"]
    write(storage, executor, end("a", take=2))
    assert claim(storage, executor, limits) == ["b"]


def test_concurrency_holds_when_processes_claim_at_once(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    limits = declared(storage, QueueLimits(concurrency=4))
    first, second = register(storage), register(storage)
    begin(storage, first, *names(30), queue="q")

    def rounds(one: SqlStorage, executor: int) -> int:
        most = 0
        for _ in range(6):
            for name in claim(one, executor, limits, count=3):
                running = read(one, "SELECT count(*) AS n FROM {schema}.workflows WHERE status = 'PENDING'")
                most = max(most, running[0].n)
                write(one, executor, end(name))
        return most

    assert max(at_once(lambda: rounds(storage, first), lambda: rounds(other_storage, second))) <= 4


# ------------------------------------------------------------------ starts per period


def test_the_limiter_counts_starts_of_all_processes_in_an_exact_window(
    storage: SqlStorage, clock: ManualClock
) -> None:
    limits = declared(storage, QueueLimits(limiter={"limit": 3, "period": 2.0}))
    first, second = register(storage), register(storage)
    begin(storage, first, *names(12), queue="q")
    at = clock.now_ms()
    assert len(claim(storage, first, limits, count=2)) == 2
    clock.move_to(at + 500)
    assert len(claim(storage, second, limits)) == 1
    clock.move_to(at + 1999)
    assert claim(storage, first, limits) == []
    clock.move_to(at + 2000)
    assert len(claim(storage, second, limits)) == 2, "those of two seconds ago have left the window"
    clock.move_to(at + 2499)
    assert claim(storage, first, limits) == []
    clock.move_to(at + 2500)
    assert len(claim(storage, first, limits)) == 1


def test_the_limiter_counts_a_start_also_when_it_has_ended(storage: SqlStorage) -> None:
    limits = declared(storage, QueueLimits(limiter={"limit": 1, "period": 60}))
    executor = register(storage)
    begin(storage, executor, "a", "b", queue="q")
    write(storage, executor, *(end(name) for name in claim(storage, executor, limits)))
    assert claim(storage, executor, limits) == []


def test_the_limiter_holds_when_processes_claim_at_once(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    limits = declared(storage, QueueLimits(limiter={"limit": 5, "period": 60}))
    first, second = register(storage), register(storage)
    begin(storage, first, *names(40), queue="q")

    def rounds(one: SqlStorage, executor: int) -> list[str]:
        return [name for _ in range(4) for name in claim(one, executor, limits, count=2)]

    [one, two] = at_once(lambda: rounds(storage, first), lambda: rounds(other_storage, second))
    assert len({*one, *two}) == len([*one, *two]) == 5


def test_starts_that_have_left_the_window_are_forgotten(storage: SqlStorage, clock: ManualClock) -> None:
    limits = declared(storage, QueueLimits(limiter={"limit": 2, "period": 1}))
    executor = register(storage)
    begin(storage, executor, *names(6), queue="q")
    for _ in range(3):
        claim(storage, executor, limits)
        clock.move_to(clock.now_ms() + 1000)
    assert len(read(storage, "SELECT 1 FROM {schema}.queue_starts")) == 2


def test_both_limits_hold_together(storage: SqlStorage) -> None:
    limits = declared(storage, QueueLimits(concurrency=2, limiter={"limit": 3, "period": 60}))
    executor = register(storage)
    begin(storage, executor, *names(9), queue="q")
    assert len(claim(storage, executor, limits)) == 2
    write(storage, executor, end("w00"), end("w01"))
    assert claim(storage, executor, limits) == ["w02"]


def test_limits_of_one_application_do_not_bind_another(storage: SqlStorage) -> None:
    limits = declared(storage, QueueLimits(concurrency=1, limiter={"limit": 1, "period": 60}))
    storage.queues.save_declared("another", {"q": limits})
    executor = register(storage)
    begin(storage, executor, "mine", queue="q")
    begin(storage, executor, "theirs", queue="q", application="another")
    assert claim(storage, executor, limits) == ["mine"]
    assert ids(claim_from(storage, executor, "another", "v1", "q", limits, ["work"], 9)) == ["theirs"]


@pytest.mark.parametrize("limits", [FREE, QueueLimits(concurrency=9)], ids=["none", "some"])
def test_a_claim_takes_at_most_what_it_asks_for(storage: SqlStorage, limits: QueueLimits) -> None:
    declared(storage, limits)
    executor = register(storage)
    begin(storage, executor, *names(5), queue="q")
    assert len(claim(storage, executor, limits, count=3)) == 3


def test_a_queue_that_is_declared_again_has_the_new_limits(storage: SqlStorage) -> None:
    declared(storage, QueueLimits(concurrency=1, limiter={"limit": 1, "period": 2}))
    declared(storage, QueueLimits(worker_concurrency=4))
    [row] = read(storage, "SELECT * FROM {schema}.queues")
    assert (row.concurrency, row.worker_concurrency, row.limiter_limit, row.limiter_period) == (
        None,
        4,
        None,
        None,
    )


# ------------------------------------------------------------------ looking


@pytest.mark.parametrize("kind", ["claim", "claim_resumed", "adopt_from_dead"])
def test_who_looks_and_finds_nothing_commits_nothing(storage: SqlStorage, kind: str) -> None:
    executor = register(storage)
    looks = {
        "claim": lambda: list(
            storage.queues.claim(Taker(executor, APP, "v1", ["work"]), QueueState(APP, "q", FREE), 9).rows
        ),
        "claim_resumed": lambda: claim_resumed_from(storage, executor, APP, "v1", ["work"], 9),
        "adopt_from_dead": lambda: storage.taking.adopt(
            Taker(executor, APP, "v1", ["work"]), {"work": None}, 9
        ),
    }
    ends: list[str] = []
    for end_of in ("commit", "rollback"):
        event.listen(storage.database.engine, end_of, lambda _, name=end_of: ends.append(name))
    assert looks[kind]() == []
    assert ends[-1] == "rollback", "a fence that is committed waits for the disk"
    assert "commit" not in ends
