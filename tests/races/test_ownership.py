"""Rules 1 and 2: who is alive, who owns a workflow, and what is written meanwhile."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from dbos_events.errors import ExecutorFenced
from dbos_events.model.workflow import PENDING, SUCCESS
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import TakenWorkflow, Taker
from dbos_events.storage.writes import Write, Written
from tests.races.interleaving import PATIENCE, Operation, Race
from tests.storage.building import (
    APP,
    begin,
    claim_resumed_from,
    end,
    ids,
    kill,
    park,
    register,
    start,
    step,
    workflow,
    write,
)

NO_LIMITS = {"work": None}


@dataclass
class Processes:
    """The numbers of two executors; the first one runs the workflow `w`."""

    first: int
    second: int


def running(storage: SqlStorage) -> Processes:
    made = Processes(register(storage, "a"), register(storage, "b"))
    begin(storage, made.first, "w")
    write(storage, made.first, step("w", 1, output="one"))
    return made


def left_behind(storage: SqlStorage) -> Processes:
    """The first one is dead."""
    made = running(storage)
    kill(storage, made.first)
    return made


def of_the_first(made: Processes, storage: SqlStorage, *writes: Write) -> object:
    """Which of the writes were done. As what the workflow stood meanwhile may be told differently."""
    try:
        return [isinstance(result, Written) for result in write(storage, made.first, *writes)]
    except ExecutorFenced:
        return [False for _ in writes]


def go_on(made: Processes, storage: SqlStorage) -> object:
    return of_the_first(made, storage, step("w", 2, output="two"))


def finish(made: Processes, storage: SqlStorage) -> object:
    """The last step and the outcome, in one batch."""
    return of_the_first(made, storage, step("w", 2, output="two"), end("w", output="done"))


def start_a_child(made: Processes, storage: SqlStorage) -> object:
    """The checkpoint and the start, in one write."""
    both = step("w", 2, child_id="w-2")
    both.change = start("w-2", parent_id="w", input="[]").change
    return of_the_first(made, storage, both)


def sleep(made: Processes, storage: SqlStorage) -> object:
    return of_the_first(made, storage, park("w", 99))


WRITES = [go_on, finish, start_a_child, sleep]


def cancel(_: Processes, storage: SqlStorage) -> object:
    return storage.workflows.cancel(["w"])


def resume(_: Processes, storage: SqlStorage) -> object:
    return storage.workflows.resume(["w"])


def declare(made: Processes, storage: SqlStorage) -> object:
    return storage.executors.declare_dead(made.first, 0, "silent")


def history(storage: SqlStorage, taken: Sequence[TakenWorkflow]) -> object:
    """What a new owner begins with."""
    return [(one, [entry.output for entry in storage.workflows.list_steps(one)]) for one in ids(taken)]


def adopt(made: Processes, storage: SqlStorage) -> object:
    return history(
        storage, storage.taking.adopt(Taker(made.second, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9)
    )


def take_over(made: Processes, storage: SqlStorage) -> object:
    """Declare the first one dead and take its work."""
    return declare(made, storage), adopt(made, storage)


def claim_resumed(made: Processes, storage: SqlStorage) -> object:
    return history(storage, claim_resumed_from(storage, made.second, APP, "v1", ["work"], 9))


def resume_and_claim(made: Processes, storage: SqlStorage) -> object:
    """The service claims again and again: a claim passes over a row that a late write of the old owner is asking about."""
    resumed = storage.workflows.resume(["w"])
    taken = claim_resumed(made, storage)
    end = time.monotonic() + PATIENCE
    while resumed and not taken and time.monotonic() < end:
        taken = claim_resumed(made, storage)
    return resumed, taken


# ------------------------------------------------------------------ a batch under way


@pytest.mark.parametrize("late", WRITES)
@pytest.mark.parametrize("taking", [take_over, resume_and_claim, cancel, declare])
def test_rule_2_what_the_old_owner_writes_is_read_by_the_new_one_or_refused(
    race_of_many: Race, taking: Operation[Processes], late: Operation[Processes]
) -> None:
    race_of_many(running, taking, late)


def test_rule_2_a_start_of_an_id_against_another_start_of_it(race: Race) -> None:
    def start_it(name: str, number: int) -> Operation[Processes]:
        def work(made: Processes, storage: SqlStorage) -> object:
            return write(storage, (made.first, made.second)[number], start("x", name=name, input=name))

        return work

    race(running, start_it("one", 0), start_it("two", 1))


def test_rule_2_a_batch_over_several_workflows_against_a_cancel_of_some(race: Race) -> None:
    names = ["c", "a", "b"]

    def several(storage: SqlStorage) -> Processes:
        made = Processes(register(storage, "a"), register(storage, "b"))
        begin(storage, made.first, *names)
        return made

    race(
        several,
        lambda made, storage: of_the_first(made, storage, *map(step, names), *map(end, names)),
        lambda _, storage: sorted(storage.workflows.cancel(["a", "c"])),
        must_hold=lambda _, storage: _whole(storage, names),
    )


def _whole(storage: SqlStorage, names: Sequence[str]) -> None:
    for name in names:
        ended = workflow(storage, name).status == SUCCESS
        assert bool(storage.workflows.list_steps(name)) == ended, (
            f"{name} has its step and its outcome, or neither"
        )


# ------------------------------------------------------------------ takings beside each other


@pytest.mark.parametrize("other", [cancel, resume, adopt, take_over])
def test_rule_2_an_adoption_against(race_of_many: Race, other: Operation[Processes]) -> None:
    race_of_many(left_behind, adopt, other, then=adopt)


def test_rule_2_two_processes_that_take_over_from_a_dead_one_count_one_crash(race_of_many: Race) -> None:
    def by_a_third(made: Processes, storage: SqlStorage) -> object:
        return storage.taking.adopt(Taker(made.first + 2, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9)

    def three(storage: SqlStorage) -> Processes:
        made = running(storage)
        assert register(storage, "c") == made.first + 2
        return made

    def one_owner(_: Processes, storage: SqlStorage) -> None:
        row = workflow(storage, "w")
        assert (row.status, row.take, row.crashes) == (PENDING, 2, 1)

    race_of_many(three, take_over, lambda made, storage: (declare(made, storage), by_a_third(made, storage)),
                 must_hold=one_owner)  # fmt: skip


def test_rule_2_an_adoption_that_counts_one_crash_too_many_against_a_cancel(race_of_many: Race) -> None:
    def give_up(made: Processes, storage: SqlStorage) -> object:
        return ids(storage.taking.adopt(Taker(made.second, APP, "v1", ["work"]), {"work": 0}, 9))

    race_of_many(left_behind, give_up, cancel, then=give_up)


@pytest.mark.parametrize("other", [resume, cancel, claim_resumed])
def test_rule_2_a_resume_against(race_of_many: Race, other: Operation[Processes]) -> None:
    race_of_many(running, resume, other, then=claim_resumed)


def test_rule_2_a_resume_against_a_claim_of_what_was_resumed_before(race_of_many: Race) -> None:
    def resumed(storage: SqlStorage) -> Processes:
        made = running(storage)
        storage.workflows.resume(["w"])
        return made

    race_of_many(resumed, claim_resumed, resume, then=claim_resumed)


def test_rule_2_a_resume_of_what_was_given_up_against_another(race: Race) -> None:
    def given_up(storage: SqlStorage) -> Processes:
        made = left_behind(storage)
        storage.taking.adopt(Taker(made.second, APP, "v1", ["work"]), {"work": 0}, 9)
        return made

    race(given_up, resume, resume)


# ------------------------------------------------------------------ leases


def test_rule_1_a_heartbeat_against_a_declaration_of_death(race: Race) -> None:
    race(running, declare, lambda made, storage: storage.executors.renew(made.first, 1000))


def test_rule_1_a_graceful_stop_against_a_declaration_of_death(race: Race) -> None:
    race(running, declare, lambda made, storage: storage.executors.release(made.first),
         must_hold=lambda made, storage: _dead(storage, made.first), then=lambda *_: None)  # fmt: skip


def _dead(storage: SqlStorage, executor: int) -> None:
    assert not storage.executors.renew(executor, 1000)


def test_rule_1_a_graceful_stop_against_the_last_batch(race: Race) -> None:
    race(running, finish, lambda made, storage: storage.executors.release(made.first))


def test_rule_1_two_processes_that_declare_each_other_dead_lose_no_work(race_of_many: Race) -> None:
    """Both may be dead then; both go on under new numbers, and the work is taken once."""

    def both_busy(storage: SqlStorage) -> Processes:
        made = running(storage)
        begin(storage, made.second, "v")
        return made

    def against_the_first(made: Processes, storage: SqlStorage) -> object:
        return take_over(made, storage)

    def against_the_second(made: Processes, storage: SqlStorage) -> object:
        storage.executors.declare_dead(made.second, 0, "silent")
        return ids(storage.taking.adopt(Taker(made.first, APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9))

    def go_on_anew(_: Processes, storage: SqlStorage) -> object:
        return storage.taking.adopt(Taker(register(storage, "c"), APP, "v1", sorted(NO_LIMITS)), NO_LIMITS, 9)

    def all_taken(made: Processes, storage: SqlStorage) -> None:
        for name in ("w", "v"):
            assert workflow(storage, name).owner == max(made.first, made.second) + 1

    race_of_many(
        both_busy, against_the_first, against_the_second, then=go_on_anew, must_hold=all_taken, serial=False
    )
