"""Rule 20: a deadline, or a cancel, against whatever else is decided about the workflow at this moment."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from dbos_events.errors import ExecutorFenced
from dbos_events.model.queue import QueueLimits
from dbos_events.model.workflow import CANCELLED, SUCCESS
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import Write, Written
from tests.races.interleaving import Operation, Race
from tests.storage.building import (
    APP,
    begin,
    claim_from,
    end,
    ids,
    kill,
    park,
    read,
    register,
    start,
    step,
    workflow,
    write,
)

NAMES = ["work"]
PAST = 1
FAR = 4_000_000_000_000
NO_LIMITS = QueueLimits(None, None, None)


@dataclass
class Processes:
    first: int
    second: int


def running(storage: SqlStorage) -> Processes:
    """The first executor runs `w`, a child of `parent`, whose deadline has passed; `parent` is parked on it."""
    made = Processes(register(storage, "a"), register(storage, "b"))
    begin(storage, made.first, "parent")
    write(storage, made.first, start("w", parent_id="parent", deadline=PAST))
    write(storage, made.first, park("parent", awaited="w"))
    return made


def asleep(storage: SqlStorage) -> Processes:
    """It is parked, and due as well."""
    made = running(storage)
    write(storage, made.first, park("w", PAST))
    return made


def queued(storage: SqlStorage) -> Processes:
    """It waits on a queue, and is to be claimed by a moment that has passed."""
    made = Processes(register(storage, "a"), register(storage, "b"))
    begin(storage, made.first, "w", queue="q", start_by=PAST)
    return made


def queued_in_time(storage: SqlStorage) -> Processes:
    made = Processes(register(storage, "a"), register(storage, "b"))
    begin(storage, made.first, "w", queue="q", timeout_ms=60_000)
    return made


def abandoned(storage: SqlStorage) -> Processes:
    made = running(storage)
    kill(storage, made.first)
    return made


def of_the_first(made: Processes, storage: SqlStorage, *writes: Write) -> Sequence[bool]:
    try:
        return [isinstance(result, Written) for result in write(storage, made.first, *writes)]
    except ExecutorFenced:
        return [False for _ in writes]


def pass_the_deadline(_: Processes, storage: SqlStorage) -> object:
    """The service looks again and again, since it passes over what another transaction holds; so `then` does."""
    return sorted(one.id for one in storage.endings.end_due(APP, 9))


def finish(made: Processes, storage: SqlStorage) -> object:
    return of_the_first(made, storage, step("w"), end("w", output="done", parent_id="parent"))


def fail(made: Processes, storage: SqlStorage) -> object:
    return of_the_first(made, storage, end("w", status="ERROR", error="boom", parent_id="parent"))


def go_on(made: Processes, storage: SqlStorage) -> object:
    return of_the_first(made, storage, step("w"))


def sleep(made: Processes, storage: SqlStorage) -> object:
    return of_the_first(made, storage, park("w", FAR))


def start_a_child(made: Processes, storage: SqlStorage) -> object:
    both = step("w", 1, child_id="w-1")
    both.change = start("w-1", parent_id="w", input="[]", deadline=PAST).change
    return of_the_first(made, storage, both)


def claim(made: Processes, storage: SqlStorage) -> object:
    return ids(claim_from(storage, made.second, APP, "v1", "q", NO_LIMITS, NAMES, 9))


def wake(made: Processes, storage: SqlStorage) -> object:
    return ids(storage.taking.wake_due(Taker(made.second, APP, "v1", ["work"]), 9))


def adopt(made: Processes, storage: SqlStorage) -> object:
    return ids(storage.taking.adopt(Taker(made.second, APP, "v1", ["work"]), {"work": None}, 9))


def cancel(_: Processes, storage: SqlStorage) -> object:
    return storage.workflows.cancel(["w"])


def cancel_tree(_: Processes, storage: SqlStorage) -> object:
    return sorted(storage.endings.cancel_trees(["w"]))


def resume(_: Processes, storage: SqlStorage) -> object:
    return storage.workflows.resume(["w"])


def one_end(_: Processes, storage: SqlStorage) -> None:
    """It has ended once, and whoever waits for it is awake."""
    row = workflow(storage, "w")
    assert row.status in (CANCELLED, SUCCESS, "ERROR")
    assert (row.end_reason is None) == (row.status != CANCELLED)
    results = read(storage, "SELECT * FROM {schema}.results WHERE workflow_id = 'w'")
    assert len(results) == (0 if row.status == CANCELLED else 1)
    parent = workflow(storage, "parent")
    assert parent.wake_at is not None or parent.owner is not None
    assert row.wake_at is None


@pytest.mark.parametrize("other", [finish, fail], ids=lambda one: one.__name__)
def test_rule_20_a_deadline_against_an_outcome_has_one_winner_and_the_loser_is_told(
    race: Race, other: Operation[Processes]
) -> None:
    race(running, pass_the_deadline, other, then=pass_the_deadline, must_hold=one_end)


@pytest.mark.parametrize("other", [go_on, sleep, start_a_child], ids=lambda one: one.__name__)
def test_rule_20_a_deadline_against_what_the_run_writes(race: Race, other: Operation[Processes]) -> None:
    def is_cancelled(made: Processes, storage: SqlStorage) -> None:
        one_end(made, storage)
        assert workflow(storage, "w").status == CANCELLED

    race(running, pass_the_deadline, other, then=pass_the_deadline, must_hold=is_cancelled, serial=False)


@pytest.mark.parametrize("scene", [running, asleep], ids=lambda one: one.__name__)
def test_rule_20_two_processes_that_keep_one_deadline_cancel_once(race: Race, scene: Operation[Race]) -> None:
    race(scene, pass_the_deadline, pass_the_deadline, then=pass_the_deadline, must_hold=one_end)  # type: ignore[arg-type]


def test_rule_20_a_deadline_against_a_wake_up_takes_nothing_late(race: Race) -> None:
    def never_woken(made: Processes, storage: SqlStorage) -> None:
        one_end(made, storage)
        row = workflow(storage, "w")
        assert (row.take, row.owner) == (1, None)

    race(asleep, pass_the_deadline, wake, then=pass_the_deadline, must_hold=never_woken, serial=False)


def test_rule_20_a_deadline_against_an_adoption_from_the_dead(race: Race) -> None:
    race(abandoned, pass_the_deadline, adopt, then=pass_the_deadline, must_hold=one_end, serial=False)


def test_rule_20_what_was_not_claimed_in_time_is_claimed_by_nobody(race: Race) -> None:
    def ended_without_a_run(_: Processes, storage: SqlStorage) -> None:
        row = workflow(storage, "w")
        assert (row.status, row.end_reason, row.take) == (CANCELLED, "queue-timeout", 0)

    race(queued, pass_the_deadline, claim, then=pass_the_deadline, must_hold=ended_without_a_run)


def test_rule_20_a_claim_against_a_cancel(race: Race) -> None:
    def is_cancelled(_: Processes, storage: SqlStorage) -> None:
        row = workflow(storage, "w")
        assert row.status == CANCELLED
        assert (row.deadline is not None) == (row.take == 1)

    race(queued_in_time, claim, cancel, must_hold=is_cancelled, serial=False)


def test_rule_20_a_deadline_against_a_cancel_and_a_resume(race: Race) -> None:
    race(running, pass_the_deadline, cancel, then=pass_the_deadline, must_hold=one_end)

    def lives_or_ended(_: Processes, storage: SqlStorage) -> None:
        row = workflow(storage, "w")
        assert row.status in (CANCELLED, "ENQUEUED")
        assert row.status == CANCELLED or (row.deadline, row.end_reason) == (None, None)

    race(running, pass_the_deadline, resume, then=pass_the_deadline, must_hold=lives_or_ended)


@pytest.mark.parametrize("other", [finish, fail], ids=lambda one: one.__name__)
def test_rule_20_a_cancel_against_an_outcome(race: Race, other: Operation[Processes]) -> None:
    race(running, cancel, other, must_hold=one_end)
    race(running, cancel_tree, other, must_hold=one_end)


def test_rule_20_a_child_that_starts_while_its_tree_is_cancelled_never_runs_on(race: Race) -> None:
    """Without the lock on the executor's row the batch shows the child to nobody, and sees its parent running."""

    def no_orphan(_: Processes, storage: SqlStorage) -> None:
        rows = read(storage, "SELECT id, status FROM {schema}.workflows WHERE id IN ('w', 'w-1')")
        assert {row.status for row in rows} == {CANCELLED}

    race(running, cancel_tree, start_a_child, must_hold=no_orphan)


def test_rule_20_a_tree_is_cancelled_whoever_takes_a_part_of_it_at_this_moment(race: Race) -> None:
    def all_cancelled(_: Processes, storage: SqlStorage) -> None:
        assert workflow(storage, "w").status == CANCELLED

    for scene, taking in ((queued_in_time, claim), (asleep, wake), (abandoned, adopt)):
        race(scene, cancel_tree, taking, must_hold=all_cancelled, serial=False)


def test_rule_20_what_a_shield_records_against_a_resume(race: Race) -> None:
    def record(made: Processes, storage: SqlStorage) -> object:
        cleaning = step("w", 5)
        cleaning.shielded = True
        return of_the_first(made, storage, cleaning)

    def cancelled(storage: SqlStorage) -> Processes:
        made = running(storage)
        storage.workflows.cancel(["w"])
        return made

    race(cancelled, record, resume)
