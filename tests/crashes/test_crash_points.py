"""Whatever a process was doing with its database when it died, what it began ends as if nothing had happened.

Points are found by recording a sound run (points.py), so new code is struck as soon as a scenario passes there. Here
a sample of the states that a crash can leave is struck, more of them on SQLite, and a sample of the Kafka client's
calls; `make crash-points` strikes all of them, before and after each call.
"""

import random

import pytest

from tests.crashes.running import Report, Runs, every_state, some_points
from tests.crashes.scenarios import KAFKA_SCENARIOS, SCENARIOS

SOME = 6
FEW = 2

pytestmark = pytest.mark.timeout(600)


def assert_sound(report: Report) -> None:
    print(report)
    assert not report.failures, "\n".join(report.failures[:10])
    assert report.struck, "none of the points was come by"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_process_that_dies_at_any_point_leaves_nothing_undone(
    scenario: str, sqlite_runs: Runs, sample: random.Random
) -> None:
    report = sqlite_runs.strike(scenario, choose=every_state(sample, SOME))
    assert_sound(report)
    assert report.struck > report.missed, "most of the points were not come by"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_process_that_dies_on_postgresql_leaves_nothing_undone(
    scenario: str, postgres_runs: Runs, sample: random.Random
) -> None:
    assert_sound(postgres_runs.strike(scenario, choose=every_state(sample, FEW)))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_answer_that_is_lost_changes_nothing(
    scenario: str, postgres_runs: Runs, sample: random.Random
) -> None:
    assert_sound(postgres_runs.strike(scenario, "lose", choose=every_state(sample, FEW)))


@pytest.mark.parametrize("scenario", KAFKA_SCENARIOS)
def test_a_process_that_dies_at_a_call_of_the_kafka_client_leaves_nothing_undone(
    scenario: str, sqlite_runs: Runs, sample: random.Random
) -> None:
    assert_sound(sqlite_runs.strike(scenario, choose=some_points(sample, FEW)))
