"""What handlers leave behind is read back as it was written, by processes that were killed as well."""

import os
import time
from array import array
from asyncio import CancelledError
from pathlib import Path

import pytest

from dbos_events.clock import SystemClock
from tests.chaos import raising
from tests.chaos.events import POISON, POISONED_PARTITIONS, RAISE, make_events
from tests.chaos.faults import FAULTS, schedule
from tests.chaos.marks import RECORD, Mark, Marks, read_marks, sort_by_partition
from tests.chaos.plan import ORDERINGS, Plan, read_plan
from tests.chaos.raising import RAISED, raised_by
from tests.chaos.skewed import SkewedClock
from tests.chaos.test_chaos import SECONDS as SHORT_SECONDS


def test_a_mark_is_read_back_and_ends_after_it_began(tmp_path: Path) -> None:
    begun = time.monotonic_ns()
    Marks(tmp_path / "w1").append(begun, 7, 3, 15, 2, 1)
    [mark] = read_marks(tmp_path / "w1")
    assert mark == Mark(begun, mark.done, offset=7, executor=3, key=15, partition=2, step=1)
    assert mark.done > begun


def test_a_record_that_is_not_whole_at_the_end_of_a_file_is_left_out(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "w1")
    for offset in range(3):
        marks.append(0, offset, 1, 0, 0, 1)
    os.truncate(tmp_path / "w1", 3 * RECORD.size - 1)
    assert [mark.offset for mark in read_marks(tmp_path / "w1")] == [0, 1]


def test_marks_of_all_processes_are_sorted_by_partition(tmp_path: Path) -> None:
    for name, partition in (("w1", 0), ("w2", 2), ("w3", 0)):
        Marks(tmp_path / name).append(0, 5, 1, 0, partition, 1)
    paths = sort_by_partition([tmp_path / name for name in ("w1", "w2", "w3")], tmp_path / "sorted", 3)
    assert [len(list(read_marks(path))) for path in paths] == [2, 0, 1]


def test_a_seed_gives_the_same_events_and_the_same_faults_again() -> None:
    plan = Plan(seed=7)
    assert make_events(plan, 3) == make_events(plan, 3)
    assert schedule(plan) == schedule(plan)
    assert schedule(plan) != schedule(Plan(seed=8))
    assert make_events(plan, 3) != make_events(Plan(seed=8), 3)


def test_the_command_of_a_plan_gives_the_plan_again() -> None:
    plan = Plan(seed=7, ordering="key", faults=("kill", "freeze"), seconds=33.5)
    assert read_plan(plan.command.split()[3:]) == plan
    assert read_plan(Plan(seed=7).command.split()[3:]) == Plan(seed=7)


@pytest.mark.parametrize("seconds", [SHORT_SECONDS, 60, 120, 400])
def test_each_kind_of_fault_strikes_where_there_is_time_for_all(seconds: float) -> None:
    for seed in range(20):
        assert {strike.fault for strike in schedule(Plan(seed=seed, seconds=seconds))} == set(FAULTS)


def test_all_events_are_dealt_out_and_a_key_lies_in_one_partition() -> None:
    plan = Plan(seed=7, events=1003, partitions=4, keys=40)
    made = [make_events(plan, number) for number in range(4)]
    assert sum(map(len, made)) == 1003
    for number, events in enumerate(made):
        assert isinstance(events.keys, array)
        assert {key % 4 for key in events.keys} == {number}
    assert any(POISON in events.kinds for events in made)


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_events_that_raise_are_there_under_every_ordering_and_where_lanes_are_few_only_at_their_ends(
    ordering: str,
) -> None:
    plan = Plan(seed=7, events=4000, partitions=6, ordering=ordering)
    made = [make_events(plan, number) for number in range(plan.partitions)]
    if ordering in ("partition", "topic"):
        assert [events.kinds.find(RAISE) for events in made] == [-1] * POISONED_PARTITIONS + [
            len(events) - 1 for events in made[POISONED_PARTITIONS:]
        ]
    else:
        assert (
            sum(events.kinds.count(RAISE) for events in made) >= plan.raising - 4
        )  # two may fall on one place


def test_every_base_class_is_raised_and_each_call_makes_one_anew() -> None:
    bases = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError, BaseExceptionGroup)
    made = [raised_by(2, offset) for offset in range(len(RAISED))]
    assert {base for base in bases if any(isinstance(one, base) for one in made)} == set(bases)
    assert any(
        type(one).__bases__ == (BaseException,) and type(one).__module__ == raising.__name__ for one in made
    )
    with pytest.raises(RuntimeError):
        str(next(one for one in made if isinstance(one, raising.Unprintable)))
    assert raised_by(0, 0) is not raised_by(0, 0)


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_no_event_raises_when_none_is_to(ordering: str) -> None:
    plan = Plan(seed=7, events=400, partitions=6, ordering=ordering, raising=0)
    assert all(RAISE not in make_events(plan, number).kinds for number in range(plan.partitions))


@pytest.mark.parametrize("seconds", [-600.0, 60.0])
def test_the_clock_of_a_host_that_is_off_goes_on_and_is_as_far_off_as_it_should(seconds: float) -> None:
    clock, right = SkewedClock(seconds), SystemClock()
    first = clock.now_ms()
    assert first - right.now_ms() == pytest.approx(seconds * 1000, abs=5000)
    assert clock.now_ms() >= first
    assert clock.monotonic() == pytest.approx(right.monotonic(), abs=5), (
        "bounds are measured, and right everywhere"
    )
