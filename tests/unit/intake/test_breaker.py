"""When a breaker opens, for how long, and what its trial has shown."""

import threading

import pytest

from dbos_events.model.consumer import Trial
from dbos_events.model.event import Breaker
from dbos_events.runtime.intake.breaker import MOST_RECENT, RecentEvents, pause_ms, verdict_on
from dbos_events.runtime.intake.gate import Gate


class Time:
    """Seconds, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def recent(time: Time, **options: float | None) -> RecentEvents:
    given = {"failure_share": 0.5, "min_events": 4, "window_seconds": 60.0, "consecutive_failures": None}
    return RecentEvents(Breaker(**{**given, **options}), time)  # type: ignore[arg-type]


def tell(events: RecentEvents, endings: str, begin: int = 0) -> list[str]:
    """End one event for each letter: `g` well, `b` badly; gives the reasons to open that were given."""
    reasons = [events.ended(str(begin + n), failed=letter == "b") for n, letter in enumerate(endings)]
    return [reason for reason in reasons if reason]


# ------------------------------------------------------------------ when it opens


def test_it_opens_when_the_share_of_failed_events_is_reached(time: Time) -> None:
    events = recent(time)
    assert tell(events, "ggb") == []
    assert tell(events, "b", 3) == ["2 of the last 4 events failed"]


def test_too_few_events_say_nothing(time: Time) -> None:
    assert tell(recent(time), "bbb") == []


def test_events_that_are_long_past_do_not_count(time: Time) -> None:
    events = recent(time)
    tell(events, "bbb")
    time.now += 61
    assert tell(events, "gggb", 10) == []
    time.now += 30
    assert tell(events, "bb", 20) == ["3 of the last 6 events failed"]


def test_an_event_that_fails_again_and_again_counts_once(time: Time) -> None:
    events = recent(time, consecutive_failures=3)
    assert tell(events, "ggg") == []
    for _ in range(50):
        assert events.ended("poison", failed=True) is None


def test_an_event_counts_by_its_last_attempt(time: Time) -> None:
    events = recent(time)
    tell(events, "bbb")
    for name in ("0", "1", "2"):
        events.ended(name, failed=False)
    assert tell(events, "gb", 3) == []


def test_so_many_failures_one_after_the_other_open_it_however_slow_they_come(time: Time) -> None:
    events = recent(time, consecutive_failures=3)
    reasons = []
    for number in range(3):
        time.now += 3600
        reasons.append(events.ended(str(number), failed=True))
    assert reasons == [None, None, "3 events failed one after the other"]


def test_one_success_begins_the_count_anew(time: Time) -> None:
    events = recent(time, consecutive_failures=3, min_events=100)
    assert tell(events, "bbgbbgbb") == []


def test_a_poison_key_among_good_ones_does_not_open_it_by_default(time: Time) -> None:
    events = RecentEvents(Breaker(), time)
    assert tell(events, "gggb" * 200) == []
    assert tell(events, "bbbbbbbbbb", 5000) == []


def test_a_bad_deploy_opens_it_by_default(time: Time) -> None:
    events = RecentEvents(Breaker(), time)
    tell(events, "g" * 5)
    assert tell(events, "b" * 15, 10)[0] == "15 of the last 20 events failed"


def test_what_was_before_the_breaker_closed_does_not_count(time: Time) -> None:
    events = recent(time, consecutive_failures=4)
    tell(events, "bbb")
    events.clear()
    assert tell(events, "bbb", 10) == []


def test_the_count_of_events_that_were_tried_again_stays_true(time: Time) -> None:
    """A thousand attempts at few events are those few events."""
    events = recent(time)
    for number in range(5 * MOST_RECENT):
        events.ended(f"poison-{number % 3}", failed=True)
    assert len(events._attempts) - events._outdated == 3
    time.now += 61
    assert tell(events, "b") == []
    assert (len(events._attempts), events._outdated, len(events._failing)) == (1, 0, 1)


def test_memory_is_bounded_however_many_events_a_window_has(time: Time) -> None:
    events = recent(time)
    tell(events, "b" * (MOST_RECENT // 2 - 1) + "g" * (10 * MOST_RECENT))
    assert len(events._attempts) == MOST_RECENT
    assert not events._failing
    tell(events, "b" * (MOST_RECENT // 2 - 1), 100_000)
    assert (
        events.ended("one more", failed=True) == f"{MOST_RECENT // 2} of the last {MOST_RECENT} events failed"
    )


@pytest.mark.parametrize(
    ("openings", "seconds"), [(0, 30), (1, 60), (2, 120), (4, 480), (5, 600), (10_000, 600)]
)
def test_each_failed_trial_doubles_the_pause_up_to_a_bound(openings: int, seconds: int) -> None:
    assert pause_ms(Breaker(), openings) == seconds * 1000


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"failure_share": 0.0}, "failure_share"),
        ({"failure_share": 1.5}, "failure_share"),
        ({"min_events": 0}, "min_events"),
        ({"min_events": 2000}, "min_events"),
        ({"consecutive_failures": 0}, "consecutive_failures"),
        ({"window_seconds": 0}, "window_seconds"),
        ({"open_seconds": -1}, "open_seconds"),
        ({"open_seconds": 60, "max_open_seconds": 30}, "max_open_seconds"),
    ],
)
def test_values_that_cannot_be_meant_are_named(options: dict[str, float], problem: str) -> None:
    assert problem in (Breaker(**options).problem() or "")  # type: ignore[arg-type]
    assert Breaker().problem() is None


# ------------------------------------------------------------------ the trial


def trial(status: str = "PENDING", *, owned: bool = False, waits: bool = False, attempt: int = 0) -> Trial:
    return Trial("w", status, owned, waits, attempt)


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (trial("SUCCESS", owned=True), "passed"),
        (trial(waits=True), "passed"),
        (trial("ERROR", owned=True), "failed"),
        (trial("CANCELLED"), "failed"),
        (trial("MAX_RECOVERY_ATTEMPTS_EXCEEDED"), "failed"),
        (trial(waits=True, attempt=1), "failed"),
        (trial(owned=True), "running"),
        (trial(), "unsettled"),
        (trial("ENQUEUED"), "unsettled"),
    ],
)
def test_the_verdict_on_a_trial(shown: Trial, verdict: str) -> None:
    assert verdict_on(shown) == verdict


# ------------------------------------------------------------------ the gate


def test_an_open_gate_lets_all_in_and_a_closed_one_nothing() -> None:
    gate = Gate()
    assert gate.admits(500) == 500
    gate.close("paused by ann")
    assert (gate.admits(500), gate.closed_by) == (0, "paused by ann")
    gate.open()
    assert (gate.admits(500), gate.closed_by) == (500, "")


def test_a_trial_lets_one_event_in_and_closes_behind_it() -> None:
    gate = Gate()
    gate.try_one(7, "half-open")
    assert (gate.admits(500), gate.admits(0)) == (1, 0)
    assert not gate.admitted([]), "a record that started nothing is no trial"
    assert gate.admits(500) == 1
    assert gate.admitted(["a"])
    assert (gate.admits(500), gate.trial) == (0, (7, "a"))
    gate.try_one(7, "half-open")
    assert gate.admits(500) == 0, "the same trial lets no second event in"
    gate.try_one(9, "half-open")
    assert gate.admits(500) == 1


def test_events_that_come_in_through_an_open_gate_are_no_trial() -> None:
    gate = Gate()
    assert not gate.admitted(["a"])
    assert gate.trial is None


def test_who_waits_at_a_closed_gate_says_so_and_is_woken_when_it_opens() -> None:
    gate = Gate()
    assert not gate.wait(0.0)
    gate.close("breaker")
    assert not gate.wanted
    waiting = threading.Thread(target=gate.wait, args=(30.0,))
    waiting.start()
    while not gate.wanted:
        pass
    gate.open()
    waiting.join(10.0)
    assert not waiting.is_alive()
    assert not gate.wanted
