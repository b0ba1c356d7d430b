"""Rules 6 and 11: what operators and breakers decide, against each other and against what is still being written."""

from dataclasses import dataclass
from itertools import combinations_with_replacement

import pytest

from dbos_events.model.quarantine import Redrive
from dbos_events.model.workflow import PENDING
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.storage.subjects.taking import Taker
from dbos_events.storage.writes import Failure, NextAttempt, Write, Written
from tests.races.interleaving import Operation, Race
from tests.storage.building import APP, change, ids, quarantine, read, register, step, workflow, write
from tests.storage.topics import Topic, topic

BY = OperatorDecision("ada@desk", "because")
EVENT, OTHER = "e-0-0", "e-0-1"
FAILURE = Failure("json", "boom", "shop.Down", "boom", (1,))


@dataclass
class Desk:
    """An executor that has taken two events in; a step of the first one has failed."""

    orders: Topic
    executor: int


def desk(storage: SqlStorage) -> Desk:
    orders = topic(storage, lane=True)
    executor = register(storage)
    orders.intake(executor, {0: (orders.epoch(executor), 0, 2)})
    write(storage, executor, step(EVENT, 1, error="boom"))
    return Desk(orders, executor)


def put_aside(storage: SqlStorage) -> Desk:
    made = desk(storage)
    write(storage, made.executor, quarantine(EVENT, made.orders.consumer))
    return made


def both_put_aside(storage: SqlStorage) -> Desk:
    made = put_aside(storage)
    write(storage, made.executor, quarantine(OTHER, made.orders.consumer))
    return made


def cancelled(storage: SqlStorage) -> Desk:
    made = desk(storage)
    storage.workflows.cancel([EVENT])
    return made


def redrive(_: Desk, storage: SqlStorage) -> object:
    return storage.quarantine.redrive([OTHER, EVENT], Redrive(), BY)


def redrive_fresh(_: Desk, storage: SqlStorage) -> object:
    return storage.quarantine.redrive([EVENT, OTHER], Redrive(fresh=True, value=b"mended"), BY)


def discard(_: Desk, storage: SqlStorage) -> object:
    return storage.quarantine.discard([EVENT, OTHER], BY)


def discard_the_other(_: Desk, storage: SqlStorage) -> object:
    return storage.quarantine.discard([OTHER], BY)


def resume(_: Desk, storage: SqlStorage) -> object:
    return storage.workflows.resume([EVENT])


def cancel(_: Desk, storage: SqlStorage) -> object:
    return storage.workflows.cancel([EVENT])


def fail(made: Desk, storage: SqlStorage) -> object:
    """The committer repeats this when the answer to the commit is lost."""
    [result] = write(storage, made.executor, quarantine(EVENT, made.orders.consumer))
    return isinstance(result, Written)


def retry(made: Desk, storage: SqlStorage) -> object:
    again = NextAttempt(1000, 1, "handler-failed", FAILURE)
    [result] = write(storage, made.executor, Write(EVENT, 1, 0, change=again))
    return isinstance(result, Written)


def go_on(made: Desk, storage: SqlStorage) -> object:
    """A zombie of the event that failed, and the event behind it."""
    results = write(storage, made.executor, step(EVENT, 2), step(OTHER))
    return [isinstance(result, Written) for result in results]


def take(made: Desk, storage: SqlStorage) -> object:
    found = storage.lanes.take(made.executor, made.orders.place(1), ["0"], 9, {"handle": None})
    assert found is not None
    return ids(found["0"].rows)


DECISIONS = [*combinations_with_replacement([redrive, redrive_fresh, discard, discard_the_other], 2)]


def decided_once(_: Desk, storage: SqlStorage) -> None:
    """What is in quarantine has not been released; what runs, or has been discarded, is not in quarantine."""
    query = "SELECT workflow_id FROM {schema}.quarantine WHERE released_at IS NULL"
    waiting = {row.workflow_id for row in read(storage, query)}
    for row in read(storage, "SELECT * FROM {schema}.workflows"):
        if row.status == PENDING or not row.lane_open:
            assert row.id not in waiting, f"{row.id} was decided about, and waits for a decision"


# ------------------------------------------------------------------ quarantine


@pytest.mark.parametrize("two", DECISIONS, ids=lambda two: f"{two[0].__name__}-{two[1].__name__}")
def test_rule_11_two_decisions_about_the_same_events_are_one(
    race: Race, two: tuple[Operation[Desk], Operation[Desk]]
) -> None:
    race(both_put_aside, *two, must_hold=decided_once)


@pytest.mark.parametrize("decision", [redrive, discard, redrive_fresh])
def test_rule_2_a_decision_against_the_failure_that_is_written_again_for_its_answer_was_lost(
    race: Race, decision: Operation[Desk]
) -> None:
    race(put_aside, decision, fail, must_hold=decided_once)


@pytest.mark.parametrize("decision", [redrive, discard])
@pytest.mark.parametrize("other", [fail, retry, go_on, take])
def test_rule_6_a_decision_against(race: Race, decision: Operation[Desk], other: Operation[Desk]) -> None:
    if other in (fail, retry):
        race(desk, decision, other, must_hold=decided_once)
    else:
        race(put_aside, decision, other, must_hold=decided_once)


@pytest.mark.parametrize("decision", [redrive, discard])
@pytest.mark.parametrize("other", [cancel, resume, take])
def test_rule_11_a_decision_about_a_cancelled_event_against(
    race: Race, decision: Operation[Desk], other: Operation[Desk]
) -> None:
    race(cancelled, decision, other)


@pytest.mark.parametrize("other", [cancel, resume])
def test_rule_6_a_retry_against(race: Race, other: Operation[Desk]) -> None:
    race(desk, retry, other, must_hold=lambda _, storage: _consistent(storage))


def _consistent(storage: SqlStorage) -> None:
    row = workflow(storage, EVENT)
    assert len(read(storage, "SELECT 1 FROM {schema}.generations")) == row.generation


def test_rule_6_a_retry_that_is_written_again_against_the_wake_up_of_the_next_attempt(race: Race) -> None:
    def retried(storage: SqlStorage) -> Desk:
        made = desk(storage)
        retry(made, storage)
        change(storage, "UPDATE {schema}.workflows SET wake_at = 0 WHERE wake_at IS NOT NULL")
        return made

    def wake(made: Desk, storage: SqlStorage) -> object:
        return storage.taking.wake_due(Taker(made.executor, APP, "v1", ["handle"]), 9)

    race(retried, retry, wake)


# ------------------------------------------------------------------ pauses and breakers


def on_trial(storage: SqlStorage) -> int:
    number = storage.consumers.save(APP, "orders", "handle", "group", ["orders"], "{}")
    assert storage.breakers.open(number, 0, "failing", 0)
    assert storage.breakers.begin_trial(register(storage), number, 1, 0)
    return number


CHANGES: dict[str, Operation[int]] = {
    "pause": lambda _, storage: storage.consumers.pause(APP, "orders", "ada", "lunch"),
    "resume": lambda _, storage: storage.consumers.resume(APP, "orders"),
    "open": lambda number, storage: storage.breakers.open(number, 2, "failing", 0),
    "begin": lambda number, storage: storage.breakers.begin_trial(9, number, 2, 0),
    "note": lambda number, storage: storage.breakers.note_trial(number, 2, EVENT),
    "close": lambda number, storage: storage.breakers.close(number, 2),
}


@pytest.mark.parametrize("two", [*combinations_with_replacement(CHANGES, 2)], ids="-".join)
def test_rule_11_two_changes_of_what_a_consumer_takes_in(race: Race, two: tuple[str, str]) -> None:
    """All of the second process's changes compare the epoch of the trial that both have seen."""
    race(on_trial, CHANGES[two[0]], CHANGES[two[1]])
