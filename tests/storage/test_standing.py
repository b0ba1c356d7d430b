"""Pauses and breakers are on the consumer's row: seen by all, changed by one."""

from dataclasses import replace

import pytest

from dbos_events.model.consumer import ConsumerState, Trial
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.testing import ManualClock
from tests.storage.building import APP, begin, change, end, park, register, write
from tests.storage.racing import at_once

SECOND = 1000


def consumer(storage: SqlStorage, name: str = "orders") -> int:
    return storage.consumers.save(APP, name, "handle", f"shop.{name}", [name], "{}")


def state(storage: SqlStorage, name: str = "orders") -> ConsumerState:
    [found] = [one for one in storage.consumers.states(APP) if one.name == name]
    return found


def opened(storage: SqlStorage, number: int, pause_ms: int = 30 * SECOND) -> ConsumerState:
    assert storage.breakers.open(number, state(storage).epoch, "20 of 20 events failed", pause_ms)
    return state(storage)


# ------------------------------------------------------------------ pauses


def test_a_pause_is_seen_by_other_processes_with_its_reason(
    storage: SqlStorage, other_storage: SqlStorage, clock: ManualClock
) -> None:
    consumer(storage)
    assert storage.consumers.pause(APP, "orders", "ann@host", "migration")

    seen = state(other_storage)
    assert (seen.paused_at, seen.paused_by, seen.paused_reason) == (clock.now_ms(), "ann@host", "migration")
    assert other_storage.consumers.resume(APP, "orders")
    assert state(storage).paused_at is None


def test_a_second_pause_leaves_the_first_as_it_was(storage: SqlStorage) -> None:
    consumer(storage)
    assert storage.consumers.pause(APP, "orders", "ann", "migration")
    assert not storage.consumers.pause(APP, "orders", "bob", None)
    assert state(storage).paused_by == "ann"


def test_what_is_not_known_or_runs_is_not_changed(storage: SqlStorage) -> None:
    consumer(storage)
    assert not storage.consumers.pause("other", "orders", "ann", None)
    assert not storage.consumers.pause(APP, "unknown", "ann", None)
    assert not storage.consumers.resume(APP, "orders")


def test_a_consumer_that_registers_again_stays_paused(storage: SqlStorage) -> None:
    consumer(storage)
    storage.consumers.pause(APP, "orders", "ann", None)
    consumer(storage)
    assert state(storage).paused_by == "ann"


# ------------------------------------------------------------------ breakers


def test_of_several_processes_that_open_a_breaker_one_does(
    storage: SqlStorage, other_storage: SqlStorage
) -> None:
    number = consumer(storage)
    epoch = state(storage).epoch
    answers = at_once(
        lambda: storage.breakers.open(number, epoch, "a", 1000),
        lambda: other_storage.breakers.open(number, epoch, "b", 1000),
    )
    assert sorted(answers) == [False, True]
    assert state(storage).openings == 1


def test_a_trial_begins_when_the_pause_is_over_and_for_one_process(
    storage: SqlStorage, other_storage: SqlStorage, clock: ManualClock
) -> None:
    number = consumer(storage)
    first, second = register(storage), register(other_storage)
    closed = opened(storage, number)
    assert not closed.due
    assert not storage.breakers.begin_trial(first, number, closed.epoch, SECOND), "too early"

    clock.move_to(clock.now_ms() + 30 * SECOND)
    assert state(storage).due
    answers = at_once(
        lambda: storage.breakers.begin_trial(first, number, closed.epoch, SECOND),
        lambda: other_storage.breakers.begin_trial(second, number, closed.epoch, SECOND),
    )
    assert sorted(answers) == [False, True]
    assert state(storage).breaker == "half-open"
    assert state(storage).breaker_executor in (first, second)


def test_a_trial_that_came_to_nothing_is_followed_by_another(storage: SqlStorage, clock: ManualClock) -> None:
    number = consumer(storage)
    executor = register(storage)
    epoch = opened(storage, number, 0).epoch
    assert storage.breakers.begin_trial(executor, number, epoch, 5 * SECOND)
    tried = state(storage)
    assert not tried.due
    assert not storage.breakers.begin_trial(executor, number, tried.epoch, SECOND)
    clock.move_to(clock.now_ms() + 5 * SECOND)
    assert storage.breakers.begin_trial(executor, number, tried.epoch, SECOND)


def test_the_trial_is_told_as_its_workflow_stands(storage: SqlStorage, clock: ManualClock) -> None:
    number = consumer(storage)
    executor = register(storage)
    assert storage.breakers.begin_trial(executor, number, opened(storage, number, 0).epoch, SECOND)
    assert storage.breakers.note_trial(number, state(storage).epoch, "trial")
    assert state(storage).trial is None, "its row is not there"

    begin(storage, executor, "trial")
    running = Trial("trial", "PENDING", owned=True, waits=False, attempt=0)
    assert state(storage).trial == running
    write(storage, executor, park("trial", clock.now_ms() + SECOND))
    assert state(storage).trial == replace(running, owned=False, waits=True)
    change(storage, "UPDATE {schema}.workflows SET attempt = 1 WHERE id = 'trial'")
    assert state(storage).trial == replace(running, owned=False, waits=True, attempt=1)


def test_the_trials_end_closes_the_breaker_or_opens_it_for_longer(storage: SqlStorage) -> None:
    number = consumer(storage)
    executor = register(storage)
    since = opened(storage, number, 0).breaker_since
    assert storage.breakers.begin_trial(executor, number, state(storage).epoch, SECOND)
    begin(storage, executor, "trial")
    storage.breakers.note_trial(number, state(storage).epoch, "trial")
    write(storage, executor, end("trial", status="ERROR"))
    assert state(storage).trial is not None
    assert state(storage).trial.status == "ERROR"  # type: ignore[union-attr]

    again = opened(storage, number, 60 * SECOND)
    assert (again.breaker, again.openings, again.breaker_since, again.trial) == ("open", 2, since, None)
    assert storage.breakers.close(number, again.epoch)
    closed = state(storage)
    assert (closed.breaker, closed.openings, closed.breaker_since, closed.breaker_reason) == (
        None,
        0,
        None,
        None,
    )


@pytest.mark.parametrize("late", ["open_breaker", "begin_trial", "note_trial", "close_breaker"])
def test_who_has_not_seen_the_last_change_changes_nothing(storage: SqlStorage, late: str) -> None:
    number = consumer(storage)
    executor = register(storage)
    old = opened(storage, number, 0).epoch
    assert storage.breakers.begin_trial(executor, number, old, SECOND)
    before = state(storage)
    calls = {
        "open_breaker": lambda: storage.breakers.open(number, old, "late", SECOND),
        "begin_trial": lambda: storage.breakers.begin_trial(executor, number, old, SECOND),
        "note_trial": lambda: storage.breakers.note_trial(number, old, "late"),
        "close_breaker": lambda: storage.breakers.close(number, old),
    }
    assert not calls[late]()
    assert state(storage) == before


def test_to_resume_by_hand_closes_the_breaker_as_well(storage: SqlStorage) -> None:
    number = consumer(storage)
    epoch = opened(storage, number).epoch
    storage.consumers.pause(APP, "orders", "ann", None)
    assert storage.consumers.resume(APP, "orders")
    resumed = state(storage)
    assert (resumed.breaker, resumed.paused_at, resumed.openings) == (None, None, 0)
    assert not storage.breakers.open(number, epoch, "late", SECOND), "it was decided without knowing of it"
