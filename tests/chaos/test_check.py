"""The checker sees each kind of violation in effects and rows that were made up, and none where there is none."""

import pytest

from tests.chaos.check import EARLY_NS, LATE_SECONDS, EventRow, by_partition
from tests.chaos.events import (
    CHILD,
    FLAKY,
    IN_CHILD,
    ONE,
    PAIR,
    PLAIN,
    POISON,
    RAISE,
    RAISED,
    RETRY,
    SLEEP,
    SLEEP_SECONDS,
    STEPS,
    TALK,
    TWO,
)
from tests.chaos.findings import AFTER_DEATH, ASLEEP, DISORDER, LOST, STRANGE, TWICE, UNHEARD
from tests.chaos.made_up import MS, MadeUp

LANES = ["key", "partition", "topic"]


def run(ordering: str = "partition") -> MadeUp:
    """Plain, of two steps, and plain again; all of one key."""
    return MadeUp([PLAIN, PAIR, PLAIN], [8, 8, 8], ordering)


def moved(made: MadeUp, offset: int, by_ms: int) -> None:
    """Shift all that an event did in time."""
    for number, mark in enumerate(made.marks):
        if mark.offset == offset:
            made.marks[number] = mark._replace(begun=mark.begun + by_ms * MS, done=mark.done + by_ms * MS)


def recorded_by(made: MadeUp, offset: int, executor: int) -> None:
    """The checkpoints of an event are another executor's."""
    row = made.rows[offset]
    made.rows[offset] = row._replace(writers=tuple((step, executor) for step, _ in row.writers))


@pytest.mark.parametrize("ordering", ["none", *LANES])
def test_a_run_in_which_all_is_well_passes(ordering: str) -> None:
    kinds = [PLAIN, PAIR, RETRY, SLEEP, CHILD, POISON, RAISE, TALK]
    found, checker = MadeUp(kinds, [8] * len(kinds), ordering).checked()
    assert found == {}
    assert checker.executions == sum(len(STEPS[kind]) for kind in kinds)
    assert checker.repeats == 0


# ------------------------------------------------------------------ lost


def test_an_event_without_a_workflow_is_lost() -> None:
    made = run()
    del made.rows[1]
    assert made.found()[LOST] == 1


def test_the_last_event_without_a_workflow_is_lost() -> None:
    made = run()
    del made.rows[2]
    made.marks = [mark for mark in made.marks if mark.offset != 2]
    assert made.found() == {LOST: 1}


def test_an_event_that_has_not_succeeded_is_lost() -> None:
    made = run()
    made.rows[1] = made.rows[1]._replace(status="PENDING")
    assert made.found() == {LOST: 1}


def test_a_step_that_left_no_effect_is_lost() -> None:
    made = run()
    made.marks = [mark for mark in made.marks if mark.step != TWO]
    assert made.found() == {LOST: 1}


def test_a_step_without_a_checkpoint_is_lost() -> None:
    made = run()
    made.rows[1] = made.rows[1]._replace(writers=((ONE, 1),))
    assert made.found()[LOST] == 1


def test_a_checkpoint_of_an_executor_that_left_no_effect_is_found() -> None:
    made = run()
    made.harmed = frozenset({1})
    recorded_by(made, 0, 2)
    assert made.found() == {LOST: 1}


# ------------------------------------------------------------------ twice


def test_a_step_that_ran_twice_without_a_fault_is_found() -> None:
    made = run("none")
    made.mark(0, ONE)
    assert made.found() == {TWICE: 1}


def test_a_step_that_ran_again_after_its_executor_was_harmed_is_a_repeat_that_is_explained() -> None:
    made = run("none")
    made.harmed = frozenset({1})
    made.mark(0, ONE, executor=2)
    recorded_by(made, 0, 2)
    found, checker = made.checked()
    assert found == {}
    assert checker.repeats == 1


def test_a_step_that_ran_in_an_unharmed_executor_and_was_recorded_by_another_is_found() -> None:
    made = run("none")
    made.harmed = frozenset({2})
    made.mark(0, ONE, executor=2)
    recorded_by(made, 0, 2)
    assert made.found() == {TWICE: 1}


def test_two_workflows_of_one_event_are_found() -> None:
    made = run()
    made.rows.insert(1, made.rows[0])
    assert made.found() == {TWICE: 1}


def test_two_checkpoints_of_one_step_are_found() -> None:
    made = run()
    made.rows[0] = made.rows[0]._replace(writers=((ONE, 1), (ONE, 1)))
    assert made.found() == {TWICE: 1}


def test_a_step_that_fails_at_first_may_run_as_often_as_it_fails_and_once_more() -> None:
    made = MadeUp([RETRY], [8])  # at offset 0 it fails once
    made.mark(0, FLAKY)
    assert made.found() == {}
    made.mark(0, FLAKY)
    assert made.found() == {TWICE: 1}


def test_a_child_that_ran_twice_without_a_fault_is_found() -> None:
    made = MadeUp([CHILD], [8])
    made.mark(0, IN_CHILD)
    assert made.found() == {TWICE: 1}


# ------------------------------------------------------------------ never asked for


def test_an_effect_that_its_event_did_not_ask_for_is_found() -> None:
    made = run()
    made.mark(2, TWO)
    assert made.found()[STRANGE] == 1


def test_an_effect_under_another_key_is_found() -> None:
    made = run()
    made.marks[0] = made.marks[0]._replace(key=9)
    assert made.found()[STRANGE] == 1


def test_an_event_that_was_never_produced_is_found() -> None:
    made = run()
    made.rows.append(EventRow(3, "SUCCESS", 0, 3, ()))
    assert made.found() == {STRANGE: 1}


def test_an_effect_of_an_event_that_was_never_produced_is_found() -> None:
    made = run()
    made.marks.append(made.marks[0]._replace(offset=7))
    assert made.found() == {STRANGE: 1}


def test_an_event_that_was_tried_again_though_it_asked_for_no_failure_is_found() -> None:
    made = run()
    made.rows[0] = made.rows[0]._replace(generation=1)
    assert made.found() == {STRANGE: 1}


# ------------------------------------------------------------------ what handlers raise


def raising(generation: int, executor: int = 1) -> MadeUp:
    """An event whose handler raised once before its second step."""
    made = MadeUp([RAISE], [8])
    made.marks.insert(1, made.mark(0, RAISED, at=6, executor=executor))
    made.marks.pop()
    made.rows[0] = made.rows[0]._replace(generation=generation)
    return made


def test_an_event_whose_handler_raised_and_that_was_tried_again_passes() -> None:
    found, checker = raising(generation=1).checked()
    assert found == {}
    assert checker.executions == len(STEPS[RAISE])


def test_what_a_handler_raised_and_no_try_ended_with_is_found() -> None:
    assert raising(generation=0).found() == {UNHEARD: 1}


def test_what_was_raised_in_an_executor_that_was_harmed_need_not_have_been_heard() -> None:
    made = raising(generation=0, executor=2)
    made.harmed = frozenset({2})
    assert made.found() == {}


def test_an_event_that_raised_and_never_went_on_is_lost() -> None:
    made = raising(generation=0)
    made.marks = [mark for mark in made.marks if mark.step != TWO]
    made.rows[0] = made.rows[0]._replace(status="PENDING", writers=((ONE, 1),))
    assert made.found() == {LOST: 3, UNHEARD: 1}


def test_a_raise_of_an_event_that_was_not_asked_to_is_found() -> None:
    made = run("none")
    made.mark(0, RAISED)
    assert made.found() == {STRANGE: 1}


# ------------------------------------------------------------------ sleep


@pytest.mark.parametrize(
    ("slept_ms", "right"),
    [
        (SLEEP_SECONDS * 1000, True),
        (SLEEP_SECONDS * 1000 - EARLY_NS // MS - 10, False),
        (0, False),
        ((SLEEP_SECONDS + LATE_SECONDS) * 1000 - 10, True),
        ((SLEEP_SECONDS + LATE_SECONDS) * 1000 + 10, False),
    ],
)
def test_a_sleep_that_is_too_short_or_much_too_long_is_found(slept_ms: float, right: bool) -> None:
    made = MadeUp([SLEEP], [8])
    made.marks.pop()
    made.mark(0, TWO, at=made.end_of(0, ONE) + int(slept_ms))
    assert made.found() == ({} if right else {ASLEEP: 1})


@pytest.mark.parametrize(("nobody_seconds", "right"), [(19.0, False), (21.0, True)])
def test_a_sleep_may_be_longer_by_the_time_in_which_no_process_was_at_work(
    nobody_seconds: float, right: bool
) -> None:
    made = MadeUp([SLEEP], [8], nobody_seconds=nobody_seconds)
    made.marks.pop()
    made.mark(0, TWO, at=made.end_of(0, ONE) + int((SLEEP_SECONDS + LATE_SECONDS + 20.0) * 1000))
    assert made.found() == ({} if right else {ASLEEP: 1})


def test_a_sleep_is_counted_from_the_first_execution_of_the_step_before_it() -> None:
    made = MadeUp([SLEEP], [8], "none")
    made.harmed = frozenset({2})
    made.mark(0, ONE, at=500)
    made.mark(0, ONE, at=0, executor=2)
    made.marks = [mark for mark in made.marks if (mark.step, mark.begun, mark.executor) != (ONE, 0, 1)]
    assert made.found() == {}


# ------------------------------------------------------------------ order


@pytest.mark.parametrize("ordering", LANES)
def test_an_event_that_began_before_the_one_ahead_of_it_was_done_is_found(ordering: str) -> None:
    made = run(ordering)
    moved(made, 2, -6)  # the step before it took five milliseconds, and ended five before it began
    assert made.found() == {DISORDER: 1}


@pytest.mark.parametrize("ordering", LANES)
def test_an_event_that_overtook_the_whole_of_another_is_found(ordering: str) -> None:
    made = run(ordering)
    moved(made, 0, 100)
    assert made.found() == {DISORDER: 2}


def test_without_order_events_may_overlap() -> None:
    made = run("none")
    moved(made, 2, -6)
    assert made.found() == {}


def test_events_of_two_keys_may_overlap_and_those_of_one_may_not() -> None:
    made = MadeUp([PLAIN] * 3, [8, 16, 8], "key")
    moved(made, 1, -9)
    assert made.found() == {}
    moved(made, 2, -19)
    assert made.found() == {DISORDER: 1}


def test_in_a_topic_the_order_is_that_of_the_lane_and_not_of_the_partition_alone() -> None:
    made = run("topic")
    made.rows[1], made.rows[2] = made.rows[1]._replace(sequence=2), made.rows[2]._replace(sequence=1)
    assert made.found()[DISORDER] == 2  # the places do not grow with the offsets, and nobody kept to them


def test_a_repeat_of_an_earlier_event_behind_a_later_one_is_found_when_its_executor_lives() -> None:
    made = run()
    made.harmed = frozenset({2})
    made.mark(0, ONE, executor=2)
    assert made.found()[DISORDER] == 2


def test_what_a_dead_executor_was_in_the_middle_of_may_end_late() -> None:
    made = run()
    made.harmed = frozenset({2})
    late = made.mark(0, ONE, at=1, executor=2)
    made.marks[-1] = late._replace(done=10_000 * MS)
    made.last_begin[2] = 5 * MS
    assert made.found() == {}


def test_what_a_dead_executor_begins_after_its_death_is_found() -> None:
    made = run("none")
    made.harmed = frozenset({2})
    made.mark(0, ONE, at=6, executor=2)
    made.last_begin[2] = 5 * MS
    assert made.found() == {AFTER_DEATH: 1}


def test_a_dead_executor_that_began_an_event_before_the_one_ahead_was_done_is_found() -> None:
    made = run()
    made.harmed = frozenset({2})
    made.last_begin[2] = 50 * MS
    made.mark(2, ONE, at=made.end_of(1, TWO) - 1, executor=2)
    assert made.found() == {DISORDER: 1}


# ------------------------------------------------------------------ rows by partition


def test_rows_are_dealt_out_by_partition_and_a_partition_without_rows_is_empty() -> None:
    row = EventRow(0, "SUCCESS", 0, 0, ())
    dealt = by_partition(iter([(0, row), (2, row), (2, row)]), 4)
    assert [len(rows) for rows in dealt] == [1, 0, 2, 0]
