"""The suites find what they are made for: each defect is put in on purpose, and the suite's own checks must fail.

Without it the same checks must pass. docs/guarantees.md has the whole table of defects and suites.
"""

import pytest

from tests.defects import looks
from tests.defects.looks import Look
from tests.defects.planted import DEFECTS, plant

FOUND = [
    ("offset first", looks.a_member_dies_with_what_it_has_polled, "committed before it was durable"),
    ("offset first", looks.a_member_that_died_is_followed_by_another, "a record was there"),
    ("token unchecked", looks.a_run_writes_that_was_resumed_elsewhere, "by the model .*Fenced"),
    ("watermark unchecked", looks.a_former_holder_takes_in, "by the model .*stale=frozenset..0"),
    ("unread dropped", looks.a_poll_meets_an_error, "records were left out"),
    ("order forgotten", looks.a_dead_process_leaves_a_lane, "begins be(side|hind)"),
    ("answered first", looks.a_sender_is_answered_while_the_database_stands_still, "200 was told"),
]
"""With the words in which it is told."""
FOUND_BY_RACES = [
    ("token unchecked", looks.a_run_that_was_resumed_elsewhere_falls_asleep, "it is neither"),
    ("watermark unchecked", looks.a_zombie_takes_in_beside_the_new_holder, "assert .* == "),
    ("outcome first", looks.a_batch_beside_a_cancel, "has its step and its outcome, or neither"),
    ("limit unlocked", looks.two_claims_of_a_queue_with_a_limit, "assert 3 <= 2"),
    ("fence of a snapshot", looks.a_batch_waits_for_a_taking, "wrote after the history was read"),
]
FOUND_BY_CRASHES = [
    ("outcome first", "steps", "COMMIT of insert_results", "2 rows in steps, 3 after a sound run"),
    ("watermark first", "intake", "move_watermarks", "die after COMMIT of move_watermarks #1: 0/0 is lost"),
    ("id apart", "pushed", "insert_pushed_workflows", "die before insert_pushed_workflows #1: "),
]


def assert_found(request: pytest.FixtureRequest, defect: str, look: Look, words: str) -> None:
    look(request)
    with pytest.MonkeyPatch.context() as patch:
        plant(defect, patch.setattr)
        with pytest.raises(AssertionError, match=words):
            look(request)
    look(request)


@pytest.mark.parametrize(("defect", "look", "words"), FOUND)
def test_the_models_find_a_planted_defect(
    request: pytest.FixtureRequest, defect: str, look: Look, words: str
) -> None:
    assert_found(request, defect, look, words)


@pytest.mark.postgres
@pytest.mark.parametrize(("defect", "look", "words"), FOUND_BY_RACES)
def test_the_races_find_a_planted_defect(
    request: pytest.FixtureRequest, defect: str, look: Look, words: str
) -> None:
    assert_found(request, defect, look, words)


@pytest.mark.parametrize(("defect", "scenario", "where", "words"), FOUND_BY_CRASHES)
def test_the_crash_points_find_a_planted_defect(
    request: pytest.FixtureRequest, defect: str, scenario: str, where: str, words: str
) -> None:
    runs = request.getfixturevalue("sqlite_runs")
    assert not runs.record(scenario, defect=defect).problems, "it does not show without a crash"
    looks.strike(request, scenario, "", where)
    with pytest.raises(AssertionError, match=words):
        looks.strike(request, scenario, defect, where)


def test_the_crash_points_find_lanes_that_are_adopted_without_order(request: pytest.FixtureRequest) -> None:
    scenario = "recovery_of_partition_order"
    runs = request.getfixturevalue("sqlite_runs")
    assert not runs.record(scenario).problems
    problems = runs.record(scenario, defect="order forgotten").problems
    assert "0/1 began before 0/0 was done, which is ahead of it in its lane" in problems


def test_each_defect_is_found_by_a_suite_that_every_run_of_the_tests_has() -> None:
    assert {case[0] for case in (*FOUND, *FOUND_BY_RACES, *FOUND_BY_CRASHES)} == DEFECTS.keys()
