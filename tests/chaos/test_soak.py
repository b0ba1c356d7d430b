"""A soak holds its rate, checks effects and rows, and fails when something grows; a short one, and made-up samples."""

import os
import random
from pathlib import Path

import pytest

from tests.chaos.leaks import LEAKS
from tests.chaos.samples import TOLERANCES, Course, Sample, look_at
from tests.chaos.soak import Outcome, Soak, SoakPlan, read_soak_plan

SECONDS = 20.0
RATE = 60
GROWING = {
    "memory": ("rss_mb", "uss_mb"),
    "threads": ("threads",),
    "descriptors": ("descriptors",),
    "connections": ("connections", "descriptors"),
}
"""What a leak must show in."""


def steady(count: int = 60) -> list[Sample]:
    """A sample every ten seconds, in which nothing grows."""
    return [Sample(10.0 * number, 90.0, 60.0, 20, 30, 8, 1000 * number, 5) for number in range(count)]


# ------------------------------------------------------------------ samples


def test_nothing_grows_in_samples_that_are_all_the_same() -> None:
    assert Course(steady(), 100).growths() == []


@pytest.mark.parametrize("name", TOLERANCES)
def test_growth_beyond_the_tolerance_is_found_and_within_it_is_none(name: str) -> None:
    samples = steady()
    first = getattr(samples[0], name)
    allowed = max(TOLERANCES[name].amount, TOLERANCES[name].share * first)
    for more, found in ((allowed, 0), (allowed * 1.01, 1), (-50, 0)):
        grown = samples[:-10] + [sample._replace(**{name: first + more}) for sample in samples[-10:]]
        growths = Course(grown, 100).growths()
        assert len(growths) == found
        assert all(growth.startswith(f"{name} grew") for growth in growths)


def test_what_grows_while_the_process_warms_up_is_no_growth_and_a_peak_is_none() -> None:
    samples = [sample._replace(rss_mb=90 + min(sample.at, 90)) for sample in steady()]
    samples[-3] = samples[-3]._replace(rss_mb=900, threads=90)
    assert Course(samples, 100).growths() == []


def test_a_little_more_in_every_window_is_found_in_the_end() -> None:
    samples = [sample._replace(uss_mb=60 + sample.at / 60) for sample in steady()]
    assert [growth[:6] for growth in Course(samples, 100).growths()] == ["uss_mb"]


def test_of_too_few_windows_nothing_is_said() -> None:
    [growth] = Course(steady(19), 100).growths()
    assert "at least 3 are needed" in growth


def test_the_table_has_a_line_for_each_window_and_its_rate() -> None:
    lines = str(Course(steady(), 100)).splitlines()
    assert len(lines) == 1 + 6
    assert lines[1].split() == ["0", "90", "90.0", "60.0", "20", "30", "8", "100", "5"]
    assert len(Course([*steady(), steady()[0]._replace(at=601.0)], 100).windows()) == 6, "a rest is no window"


def test_samples_are_kept_as_a_table(tmp_path: Path) -> None:
    Course(steady(3), 100).write(tmp_path / "samples.csv")
    lines = (tmp_path / "samples.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].split(",") == list(Sample._fields)


def test_a_process_is_looked_at_as_it_is_now() -> None:
    def look() -> Sample:
        return look_at(os.getpid(), at=1.0, connections=2, taken_in=3, behind=4)

    before = look()
    assert 0 < before.uss_mb <= before.rss_mb
    kept, opened = os.urandom(64 << 20), os.open(os.devnull, os.O_RDONLY)
    after = look()
    os.close(opened)
    assert len(kept) / (1 << 20) == pytest.approx(after.uss_mb - before.uss_mb, abs=16)
    assert after.descriptors == before.descriptors + 1
    assert look().descriptors == before.descriptors


def test_the_command_of_a_soak_gives_its_plan_again() -> None:
    plan = SoakPlan(seconds=33.5, rate=7, seed=5, handler="sync", leaks=("memory", "threads"))
    assert read_soak_plan(plan.command.split()[3:]) == plan


# ------------------------------------------------------------------ a short soak


def soak(tmp_path: Path, **options: object) -> Outcome:
    plan = SoakPlan(
        seconds=SECONDS,
        rate=RATE,
        partitions=4,
        keys=50,
        seed=int(os.environ.get("DBOS_EVENTS_FAULT_SEED", "0")) or random.randrange(1, 1_000_000),
        tolerance_mb=12.0,
        folder=str(tmp_path),
        **options,  # type: ignore[arg-type]
    )
    print(f"seed {plan.seed}: DBOS_EVENTS_FAULT_SEED={plan.seed} repeats it, and {plan.command}")
    outcome = Soak(plan).carry_out()
    print(outcome)
    return outcome


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.kafka
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("handler", "ordering"), [("async", "none"), ("sync", "key")])
def test_a_short_soak_holds_its_rate_loses_nothing_and_does_not_grow(
    handler: str, ordering: str, tmp_path: Path
) -> None:
    outcome = soak(tmp_path, handler=handler, ordering=ordering)
    assert outcome.passed, str(outcome)
    assert outcome.steps >= SECONDS * RATE
    assert outcome.facts["redriven"] >= 1
    assert outcome.facts["tried again"] >= 1
    assert outcome.facts["slept"] >= 1
    windows = outcome.course.windows()
    assert len(windows) == 6
    assert all(len(samples) >= 3 for samples in windows)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_a_short_soak_finds_each_leak_that_was_put_in(tmp_path: Path) -> None:
    assert GROWING.keys() == LEAKS.keys()
    outcome = soak(tmp_path, leaks=tuple(LEAKS))
    assert not outcome.passed
    assert not outcome.findings, "a leak loses nothing"
    grown = {growth.split()[0] for growth in outcome.growths}
    assert grown == {name for names in GROWING.values() for name in names}
