"""The checker sees each thing that may go wrong on queues and in the schedule of a chaos run."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.chaos.conversations import NARROW_LIMIT, PACED_LIMIT
from tests.chaos.findings import LIMIT, LOST, STRANGE, TWICE, Findings
from tests.chaos.timetable import (
    Move,
    Tick,
    look_at_duplicates,
    look_at_pace,
    look_at_slots,
    look_at_ticks,
)


def moved(*moves: tuple[str, str]) -> list[Move]:
    return [Move(workflow, None, move) for workflow, move in moves]


def looked(look: Callable[..., object], *arguments: object) -> dict[str, int]:
    findings = Findings()
    look(*arguments, findings)
    return dict(findings.counts)


def test_one_more_than_may_run_at_once_is_found() -> None:
    names = [f"w{number}" for number in range(NARROW_LIMIT + 1)]
    all_at_once = moved(*((name, "runs") for name in names), *((name, "stops") for name in names))
    assert looked(look_at_slots, all_at_once) == {LIMIT: 1}
    one_after_the_other = moved(*((name, move) for name in names for move in ("runs", "stops")))
    assert looked(look_at_slots, one_after_the_other) == {}


def test_a_slot_that_is_never_given_back_is_found() -> None:
    assert looked(look_at_slots, moved(("w", "runs"))) == {LOST: 1}


def test_two_at_once_under_one_deduplication_id_are_found() -> None:
    first, second = (Move(name, "d", "comes") for name in ("a", "b"))
    assert looked(look_at_duplicates, [first, Move("a", "d", "goes"), second]) == {}
    assert looked(look_at_duplicates, [first, second, Move("a", "d", "goes")]) == {TWICE: 1}


@pytest.mark.parametrize(("last", "kinds"), [(1000, {}), (999, {LIMIT: 1})])
def test_one_more_start_than_may_be_within_a_period_is_found(last: int, kinds: dict[str, int]) -> None:
    assert looked(look_at_pace, [*[0] * PACED_LIMIT, last]) == kinds


# ------------------------------------------------------------------ the schedule


def ticked() -> tuple[list[Tick], dict[str, str]]:
    """Three that ran, and two seconds of a pause in one row."""
    ran = [Tick(f"2026-11-30T00:00:0{second}", None, "ran", f"tick {second}") for second in range(3)]
    until = int(datetime(2026, 11, 30, 0, 0, 4, tzinfo=UTC).timestamp() * 1000)
    ticks = [*ran, Tick("2026-11-30T00:00:03", until, "paused", None)]
    return ticks, {f"tick {second}": "SUCCESS" for second in range(3)}


def test_ticks_with_one_outcome_each_pass() -> None:
    ticks, workflows = ticked()
    assert [second.second for second in ticks[-1].seconds()] == [3, 4]
    assert looked(look_at_ticks, ticks, workflows) == {}


def drop_a_tick(ticks: list[Tick], workflows: dict[str, str]) -> None:
    del ticks[1], workflows["tick 1"]


def decide_twice(ticks: list[Tick], _workflows: dict[str, str]) -> None:
    ticks.append(Tick("2026-11-30T00:00:04", None, "paused", None))


def run_twice(_ticks: list[Tick], workflows: dict[str, str]) -> None:
    workflows["tick 1 again"] = "SUCCESS"


def lose_a_run(_ticks: list[Tick], workflows: dict[str, str]) -> None:
    del workflows["tick 1"]


def never_end(_ticks: list[Tick], workflows: dict[str, str]) -> None:
    workflows["tick 1"] = "PENDING"


def share_a_run(ticks: list[Tick], workflows: dict[str, str]) -> None:
    ticks[1] = ticks[1]._replace(workflow="tick 0")
    del workflows["tick 1"]


def miss_one(ticks: list[Tick], workflows: dict[str, str]) -> None:
    ticks[1] = ticks[1]._replace(outcome="missed", workflow=None)
    del workflows["tick 1"]


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (drop_a_tick, {LOST: 1}),
        (decide_twice, {TWICE: 1}),
        (run_twice, {STRANGE: 1}),
        (lose_a_run, {LOST: 1}),
        (never_end, {LOST: 1}),
        (share_a_run, {TWICE: 1}),
        (miss_one, {STRANGE: 1}),
    ],
)
def test_what_goes_wrong_with_a_tick_is_found(
    plant: Callable[[list[Tick], dict[str, str]], None], kinds: dict[str, int]
) -> None:
    ticks, workflows = ticked()
    plant(ticks, workflows)
    assert looked(look_at_ticks, ticks, workflows) == kinds


def test_a_schedule_that_never_ticked_is_found() -> None:
    assert looked(look_at_ticks, [], {}) == {LOST: 1}
