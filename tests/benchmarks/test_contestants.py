"""Our contestants and the hand-written ones run, on real servers; the peer's need an environment of their own."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.contestants.common import Task, make_tally, read_tally
from benchmarks.model import Size
from benchmarks.runs import ROOT, Entry, Plan, Run, run_once
from benchmarks.servers import Servers
from benchmarks.workloads import WORKLOADS

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBOS_EVENTS_BENCHMARK_OWN", sys.executable)


def run(servers: Servers, workload: str, contestant: str, colour: str, count: int) -> Run:
    work = WORKLOADS[workload]
    [chosen] = work.select([contestant])
    plan = Plan(work, Size(count), PATIENCE, (replace(chosen, share=1.0, minimum=1),), (colour,))
    return run_once(plan, Entry(plan.contestants[0], colour), 0, servers)


@pytest.mark.parametrize(
    ("workload", "contestant", "colour", "count"),
    [
        ("kafka-1-step", "ours", "async", 50),
        ("kafka-2-processes", "ours", "sync", 50),
        ("kafka-1-step", "handwritten", "sync", 50),
        ("kafka-1-step", "sql_only", "sync", 50),
    ],
)
@pytest.mark.timeout(PATIENCE * 2)
def test_a_contestant_handles_every_event_once(
    kafka_bootstrap: str, postgres_url: str, workload: str, contestant: str, colour: str, count: int
) -> None:
    ran = run(Servers(kafka_bootstrap, postgres_url), workload, contestant, colour, count)
    assert not ran.void
    assert ran.executions == count
    assert ran.metrics["per_second"] > 0
    assert ran.metrics["commits_each"] > 0


@pytest.mark.parametrize(
    ("workload", "colour", "count", "executions"),
    [
        ("many-workflows", "async", 5, 25),
        ("queue-across", "sync", 2, 2),
        ("recovery", "async", 10, 20),
    ],
)
@pytest.mark.timeout(PATIENCE * 2)
def test_ours_does_its_work_without_a_broker(
    postgres_url: str, workload: str, colour: str, count: int, executions: int
) -> None:
    ran = run(Servers("", postgres_url), workload, "ours", colour, count)
    assert not ran.void
    assert ran.executions == executions
    assert WORKLOADS[workload].headline.metric in ran.metrics


@pytest.mark.timeout(PATIENCE * 2)
def test_ours_does_its_work_on_sqlite() -> None:
    ran = run(Servers("", ""), "sqlite-many-workflows", "ours", "sync", 4)
    assert not ran.void
    assert "commits_each" not in ran.metrics, "SQLite counts none"


def test_executions_of_a_killed_process_stay_counted(tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    make_tally(tally)
    task = Task(url="", count=2, colour="sync", timeout=1.0, tally=str(tally), process=3)
    program = (
        "import os, signal, sys; sys.argv = ['', sys.argv[1]]\n"
        "from benchmarks.contestants.common import Executions, read_task\n"
        "executions = Executions(read_task()); executions.count(); executions.count()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, task.to_json()], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert read_tally(tally) == 2
