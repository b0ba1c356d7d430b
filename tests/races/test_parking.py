"""Rule 5: who waits is woken, whatever ends or is decided while it goes to sleep; and queues beside it."""

from dataclasses import dataclass

import pytest

from dbos_events.model.queue import QueueLimits
from dbos_events.model.workflow import ENQUEUED, PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import Written
from tests.races.interleaving import Operation, Race
from tests.storage.building import (
    APP,
    begin,
    change,
    claim_from,
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

NAMES = ["work"]


@dataclass
class Family:
    """The parent runs on the first executor, its child on the second one."""

    first: int
    second: int


def family(storage: SqlStorage) -> Family:
    made = Family(register(storage, "a"), register(storage, "b"))
    begin(storage, made.first, "parent")
    write(storage, made.second, start("child", parent_id="parent"))
    return made


def asleep(storage: SqlStorage) -> Family:
    """The parent waits for its child."""
    made = family(storage)
    write(storage, made.first, park("parent", awaited="child"))
    return made


def due(storage: SqlStorage) -> Family:
    made = family(storage)
    write(storage, made.first, park("parent", 0))
    return made


def written(storage: SqlStorage, executor: int, *writes: object) -> object:
    return [isinstance(result, Written) for result in write(storage, executor, *writes)]  # type: ignore[arg-type]


def go_to_sleep(made: Family, storage: SqlStorage) -> object:
    return written(storage, made.first, park("parent", awaited="child"))


def end_child(made: Family, storage: SqlStorage) -> object:
    return written(storage, made.second, end("child", parent_id="parent"))


def cancel_child(_: Family, storage: SqlStorage) -> object:
    return storage.workflows.cancel(["child"])


def give_child_up(made: Family, storage: SqlStorage) -> object:
    """Its process died once too often."""
    return ids(storage.taking.adopt(Taker(made.first, APP, "v1", ["work"]), {"work": 0}, 9))


def cancel_parent(_: Family, storage: SqlStorage) -> object:
    return storage.workflows.cancel(["parent"])


def resume_parent(_: Family, storage: SqlStorage) -> object:
    return storage.workflows.resume(["parent"])


def wake(by: str) -> Operation[Family]:
    return lambda made, storage: ids(storage.taking.wake_due(Taker(getattr(made, by), APP, "v1", NAMES), 9))


def parent_wakes(_: Family, storage: SqlStorage) -> None:
    """It waits for nothing that has ended already, and is found by the timers."""
    row = workflow(storage, "parent")
    assert (row.status, row.owner, row.awaits) == (PENDING, None, None)
    assert row.wake_at is not None


@pytest.mark.parametrize("ending", [end_child, cancel_child])
def test_rule_5_a_parent_that_goes_to_sleep_hears_of_the_end_of_its_child(
    race: Race, ending: Operation[Family]
) -> None:
    race(family, go_to_sleep, ending, must_hold=parent_wakes)


def test_rule_5_a_parent_that_goes_to_sleep_hears_that_its_child_was_given_up(race: Race) -> None:
    def dead_child(storage: SqlStorage) -> Family:
        made = family(storage)
        kill(storage, made.second)
        return made

    race(dead_child, go_to_sleep, give_child_up, then=give_child_up, must_hold=parent_wakes)


@pytest.mark.parametrize("ending", [end_child, cancel_child])
@pytest.mark.parametrize("other", [cancel_parent, resume_parent])
def test_rule_5_the_end_of_a_child_against_a_decision_about_its_sleeping_parent(
    race: Race, ending: Operation[Family], other: Operation[Family]
) -> None:
    race(asleep, ending, other)


def test_rule_5_two_ends_of_one_child_wake_the_parent_once(race: Race) -> None:
    race(asleep, end_child, cancel_child, must_hold=parent_wakes)


def test_rule_2_batches_that_wait_for_each_others_workflows_are_written_again(race: Race) -> None:
    """Each ends what the other one goes to sleep for, so one of them is chosen to give way."""

    def two_families(storage: SqlStorage) -> Family:
        made = family(storage)
        begin(storage, made.second, "mother")
        write(storage, made.first, start("daughter", parent_id="mother"))
        return made

    def of_the_first(made: Family, storage: SqlStorage) -> object:
        writes = [end("daughter", parent_id="mother"), park("parent", awaited="child")]
        return written(storage, made.first, *writes)

    def of_the_second(made: Family, storage: SqlStorage) -> object:
        writes = [end("child", parent_id="parent"), park("mother", awaited="daughter")]
        return written(storage, made.second, *writes)

    def all_wake(made: Family, storage: SqlStorage) -> None:
        assert sorted(wake("first")(made, storage)) == ["mother", "parent"]  # type: ignore[call-overload]

    race(two_families, of_the_first, of_the_second, must_hold=all_wake, repeated=True)


@pytest.mark.parametrize("other", [wake("second"), cancel_parent, resume_parent])
def test_rule_5_a_wake_up_against(race: Race, other: Operation[Family]) -> None:
    race(due, wake("first"), other, then=wake("first"))


def test_rule_5_a_wake_up_against_a_park_that_is_written_again(race: Race) -> None:
    """The answer to the first one was lost; whoever woke it owns it."""
    race(due, wake("second"), lambda made, storage: written(storage, made.first, park("parent", 0)))


def test_rule_1_a_process_that_dies_while_it_takes_what_is_due_leaves_it_to_be_adopted(race: Race) -> None:
    race(
        due,
        wake("first"),
        lambda made, storage: storage.executors.declare_dead(made.first, 0, "silent"),
        then=lambda made, storage: (
            wake("second")(made, storage),
            storage.taking.adopt(Taker(made.second, APP, "v1", ["work"]), {"work": None}, 9),
        ),
        must_hold=lambda made, storage: _owned(storage, made.second),
        serial=False,
    )


def _owned(storage: SqlStorage, executor: int) -> None:
    assert workflow(storage, "parent").owner == executor


# ------------------------------------------------------------------ queues


@dataclass
class Workers:
    """Three workflows wait on the queue `q`, with or without a limit that both processes share."""

    first: int
    second: int
    limits: QueueLimits


def queued(limits: QueueLimits) -> object:
    def scene(storage: SqlStorage) -> Workers:
        made = Workers(register(storage, "a"), register(storage, "b"), limits)
        storage.queues.save_declared(APP, {"q": limits})
        begin(storage, made.first, "one", "two", "three", queue="q")
        return made

    return scene


SCENES = {
    "no limit": queued(QueueLimits()),
    "concurrency": queued(QueueLimits(concurrency=2)),
    "rate": queued(QueueLimits(limiter={"limit": 2, "period": 60.0})),
}


def claim(by: str, count: int = 2) -> Operation[Workers]:
    def work(made: Workers, storage: SqlStorage) -> object:
        return sorted(ids(claim_from(storage, getattr(made, by), APP, "v1", "q", made.limits, NAMES, count)))

    return work


def within_limits(made: Workers, storage: SqlStorage) -> None:
    started = [row for row in read(storage, "SELECT * FROM {schema}.workflows") if row.take]
    assert all(row.take == 1 and row.owner is not None for row in started), "nothing is claimed twice"
    assert len(started) <= (2 if made.limits.shared else 3)


@pytest.mark.parametrize("scene", SCENES)
def test_of_two_claims_of_one_queue_each_takes_its_own_within_the_limits(race: Race, scene: str) -> None:
    race(SCENES[scene], claim("first"), claim("second"), must_hold=within_limits, serial=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("scene", SCENES)
def test_a_claim_against_a_cancel_of_what_it_claims(race: Race, scene: str) -> None:
    race(
        SCENES[scene],  # type: ignore[arg-type]
        claim("first", 3),
        lambda _, storage: storage.workflows.cancel(["two"]),
        then=claim("first", 3),
        must_hold=_cancelled_once,
        serial=False,
    )


def _cancelled_once(_: Workers, storage: SqlStorage) -> None:
    assert workflow(storage, "two").status == "CANCELLED"
    for name in ("one", "three"):
        assert workflow(storage, name).status in (PENDING, ENQUEUED)


def test_a_claim_against_an_enqueue(race: Race) -> None:
    def enqueue(made: Workers, storage: SqlStorage) -> object:
        return written(storage, made.second, start("four", queue="q"))

    race(SCENES["no limit"], claim("first", 9), enqueue)  # type: ignore[arg-type]


def test_a_slot_that_is_given_back_against_a_claim_within_a_limit(race: Race) -> None:
    def full(storage: SqlStorage) -> Workers:
        made: Workers = SCENES["concurrency"](storage)  # type: ignore[operator]
        claim("first")(made, storage)
        change(storage, "UPDATE {schema}.workflows SET priority = 5 WHERE owner IS NULL")
        return made

    def finish(made: Workers, storage: SqlStorage) -> object:
        [running, *_] = [
            row.id for row in read(storage, "SELECT * FROM {schema}.workflows ORDER BY id") if row.owner
        ]
        return written(storage, made.first, end(running))

    race(full, claim("second"), finish, then=claim("second"))
