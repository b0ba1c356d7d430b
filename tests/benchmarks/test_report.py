"""What a result says: medians, ratios, quantiles, and which runs count."""

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import _parser
from benchmarks.contestants.common import Outcome, latencies, quantile
from benchmarks.contestants.latency import half_rate
from benchmarks.contestants.producer import schedule
from benchmarks.costs import Costs
from benchmarks.model import Column, Contestant, Size, Topic, Workload
from benchmarks.plots import MISSING, draw
from benchmarks.report import render, summarise
from benchmarks.runs import Plan, Run, judge_counts, merge, read_outcome
from benchmarks.selection import choose, left_out
from benchmarks.servers import keys_of
from benchmarks.workloads import WORKLOADS

RATE = Column("per_second", "events/s")


def plan(*, better: Any = "more", limit: str | None = None) -> Plan:
    contestants = tuple(
        Contestant(name, "none", colours=("sync",)) for name in ("dbos", "ours", *([limit] if limit else []))
    )
    workload = Workload("w", "k", "Work", contestants, (RATE,), Size(10, 3), better=better, limit=limit)
    return Plan(workload, workload.full, 1.0, contestants, ("async", "sync"))


def run(contestant: str, number: float, *, round_: int = 0, executions: int = 10, void: str = "") -> Run:
    metrics = {"per_second": number}
    return Run("w", contestant, "sync", round_, 10, 10, executions=executions, metrics=metrics, void=void)


# ------------------------------------------------------------------ what counts


@pytest.mark.parametrize("executions", [9, 11])
def test_a_run_with_another_number_of_executions_is_void(executions: int) -> None:
    assert judge_counts(run("ours", 1.0, executions=10)).void == ""
    assert (
        judge_counts(run("ours", 1.0, executions=executions)).void == f"{executions} executions instead of 10"
    )


def test_a_void_run_is_in_no_number_but_is_told_with_its_reason() -> None:
    runs = [run("dbos", 10.0), run("ours", 100.0), judge_counts(run("ours", 900.0, round_=1, executions=11))]
    [_, ours] = summarise(plan(), runs)
    assert (ours.metrics["per_second"], ours.rounds) == (100.0, 1)
    assert "VOID: ours sync, round 2: 11 executions instead of 10" in render(
        plan(), summarise(plan(), runs), runs
    )


def test_who_has_only_void_runs_has_no_line() -> None:
    [line] = summarise(plan(), [run("dbos", 10.0), run("ours", 5.0, void="lost")])
    assert line.contestant == "dbos"


# ------------------------------------------------------------------ arithmetic


def test_the_median_round_counts_and_the_ratio_is_against_the_baseline() -> None:
    runs = [run("dbos", n) for n in (9.0, 10.0, 50.0)] + [run("ours", n) for n in (80.0, 100.0, 1.0)]
    dbos, ours = summarise(plan(), runs)
    assert (dbos.metrics["per_second"], ours.metrics["per_second"]) == (10.0, 80.0)
    assert (dbos.ratio, ours.ratio) == (1.0, 8.0)
    assert (ours.least, ours.most) == (1.0, 100.0)


def test_where_less_is_better_a_ratio_above_one_is_better_too() -> None:
    [_, ours] = summarise(plan(better="less"), [run("dbos", 500.0), run("ours", 5.0)])
    assert ours.ratio == 100.0


def test_the_limit_is_the_part_that_is_reached() -> None:
    limited = plan(limit="sql_only")
    lines = summarise(limited, [run("dbos", 10.0), run("ours", 50.0), run("sql_only", 200.0)])
    assert [line.of_limit for line in lines] == [0.05, 0.25, 1.0]


def test_several_processes_are_measured_from_the_first_start_to_the_last_end() -> None:
    first = Outcome(started=100.0, ended=104.0, units=40, cpu_seconds=1.0)
    idle = Outcome(started=0.0, ended=103.0, units=40)
    last = Outcome(started=101.0, ended=110.0, units=40, cpu_seconds=3.0)
    together = merge([first, idle, last])
    assert (together["seconds"], together["per_second"], together["cpu_microseconds"]) == (
        10.0,
        4.0,
        100_000.0,
    )


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [quantile(values, part) for part in (0.5, 0.99, 0.999, 1.0)] == [50.0, 99.0, 100.0, 100.0]
    assert quantile([7.0], 0.5) == 7.0


def test_a_quantile_that_too_few_values_carry_is_left_out() -> None:
    assert set(latencies([0.001] * 99)) == {"p50_ms"}
    assert set(latencies([0.001] * 999)) == {"p50_ms", "p99_ms"}
    assert latencies([0.001] * 1_000) == {"p50_ms": 1.0, "p99_ms": 1.0, "p999_ms": 1.0}


def test_costs_are_told_for_each_unit_and_only_where_the_server_knows() -> None:
    assert Costs(50, 20_000, 300).each(100) == {
        "commits_each": 0.5,
        "wal_bytes_each": 200.0,
        "statements_each": 3.0,
    }
    assert "statements_each" not in Costs(1, 1, None).each(1)


def test_half_load_is_half_of_the_rate_of_the_backlog() -> None:
    assert half_rate([10.0 + number / 100 for number in range(101)]) == pytest.approx(50.0)


def test_an_outcome_is_found_among_what_a_program_prints() -> None:
    assert read_outcome('warning\n{"started": 1.0, "units": 3}\nbye\n') == Outcome(1.0, units=3)
    assert read_outcome("nothing") is None


# ------------------------------------------------------------------ what is sent


def test_due_times_keep_the_rate_and_come_in_no_rhythm() -> None:
    times = schedule(100.0, 10_000, seed=1)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert times[-1] == pytest.approx(100.0, rel=0.05)
    assert sum(pause < 0.01 * 0.693 for pause in pauses) / len(pauses) == pytest.approx(0.5, abs=0.03)


def test_skewed_keys_give_the_first_the_most() -> None:
    keys = list(keys_of(Topic(keys=1_000, skewed=True), 20_000))
    assert keys.count(0) / len(keys) == pytest.approx(1 / 7.485, rel=0.1), "1 by the harmonic number of 1,000"
    assert keys.count(0) > keys.count(9) * 5
    even = list(keys_of(Topic(keys=1_000), 20_000))
    assert {even.count(key) for key in range(1_000)} == {20}


# ------------------------------------------------------------------ what is run


def options(*arguments: str) -> argparse.Namespace:
    return _parser().parse_args(list(arguments))


def test_every_workload_that_is_named_is_run() -> None:
    plans = choose(options("--workload", "queue-drain", "--workload", "kafka-1-step"))
    assert [each.workload.name for each in plans] == ["kafka-1-step", "queue-drain"]


def test_a_quick_run_says_what_it_leaves_out_and_a_full_one_leaves_nothing_out() -> None:
    quick, full = options(), options("--full")
    ran = {each.workload.name for each in choose(quick)}
    assert ran
    assert ran | set(left_out(quick, choose(quick))) == set(WORKLOADS)
    assert [each.workload.name for each in choose(full)] == list(WORKLOADS)
    assert left_out(full, choose(full)) == []


def test_a_contestant_that_nobody_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="dbos, empty, full, handwritten, ours"):
        choose(options("--contestant", "our"))


def test_every_workload_has_a_name_of_its_own_a_baseline_that_runs_and_programs_that_exist() -> None:
    programs = Path(__file__).parents[2] / "benchmarks" / "contestants"
    for name, workload in WORKLOADS.items():
        contestants = {contestant.name: contestant for contestant in workload.contestants}
        assert name == workload.name
        assert workload.baseline in contestants
        assert workload.limit is None or workload.limit in contestants
        assert all((programs / f"{each.module}.py").is_file() for each in contestants.values())


def test_without_matplotlib_plots_are_left_out_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.plots.find_spec", lambda _: None)
    assert draw(tmp_path / "plots", [], "machine") == MISSING
    assert not (tmp_path / "plots").exists()
