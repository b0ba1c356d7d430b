"""Runs contestants, one after the other, and keeps what each run gave."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.contestants.common import Outcome, Task, make_tally, read_tally
from benchmarks.contestants.history import fill
from benchmarks.costs import Meter
from benchmarks.environments import ROOT, own_python, peer_python
from benchmarks.servers import Servers, fresh_database, fresh_file, fresh_topic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.model import Contestant, Size, Workload

EXIT_SECONDS = 60.0
"""How long a contestant may take to start and to stop, beside its work."""
SHOWN_CHARACTERS = 2_000


@dataclass(frozen=True)
class Entry:
    """One contestant in one colour of handler: a line of the result."""

    contestant: Contestant
    colour: str

    @property
    def name(self) -> str:
        """What the line is called."""
        return f"{self.contestant.name} {self.colour}"


@dataclass(frozen=True)
class Run:
    """One run of one entry; `void` says why it does not count, if it does not."""

    workload: str
    contestant: str
    colour: str
    round: int
    count: int
    expected: int
    """How often the handler had to be executed."""
    executions: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    void: str = ""


@dataclass(frozen=True)
class Plan:
    """How much of a workload is to be run, and for how long at most."""

    workload: Workload
    size: Size
    timeout: float
    contestants: tuple[Contestant, ...]
    colours: tuple[str, ...]
    history: int | None = None
    """How many finished workflows there are before, where the workload asks for any."""

    def entries(self) -> list[Entry]:
        """Return the lines of the result."""
        return [
            Entry(contestant, colour)
            for contestant in self.contestants
            for colour in self.colours
            if colour in contestant.colours
        ]

    def options(self, contestant: Contestant) -> dict[str, Any]:
        """Return what the contestant is told beside how much to do."""
        options = {**self.workload.options, **contestant.options}
        if self.history is not None and options.get("history"):
            options["history"] = self.history
        return options


def run_plan(plan: Plan, servers: Servers) -> Iterator[Run]:
    """Run every entry once a round; each round starts with another entry.

    So a machine that grows slower or faster meanwhile does so for all of them.
    """
    entries = plan.entries()
    with _history(plan, servers) as history:
        for number in range(plan.size.rounds):
            start = number % len(entries) if entries else 0
            for entry in entries[start:] + entries[:start]:
                yield run_once(plan, entry, number, servers, history)


@contextmanager
def _history(plan: Plan, servers: Servers) -> Iterator[str]:
    """Make a database with the finished workflows that the workload asks for; gives its name, if there is one."""
    counts = {plan.options(one).get("history", 0) for one in plan.contestants} - {0}
    if not counts:
        yield ""
        return
    with fresh_database(servers.postgres, "history") as url:
        [count] = counts
        fill(Task(url=url, count=0, colour="async", timeout=plan.timeout, tally=""), count)
        yield urlsplit(url).path[1:]


def run_once(plan: Plan, entry: Entry, number: int, servers: Servers, history: str = "") -> Run:
    """Run one entry in a database of its own, fresh or with the history, and on a fresh topic if it reads one."""
    contestant = entry.contestant
    count = contestant.count(plan.size.count)
    run = Run(plan.workload.name, contestant.name, entry.colour, number, count, contestant.expected(count))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        tally = directory / "tally"
        make_tally(tally)
        if plan.workload.database == "sqlite":
            url, meter = fresh_file(directory), None
        else:
            template = history if plan.options(contestant).get("history") else ""
            url = stack.enter_context(fresh_database(servers.postgres, contestant.name, template))
            meter = Meter(servers.postgres)
        topic = ""
        if plan.workload.topic is not None and contestant.reads_topic:
            topic = stack.enter_context(fresh_topic(servers.kafka, count, plan.workload.topic))
        task = Task(
            url=url,
            count=count,
            colour=entry.colour,
            timeout=plan.timeout,
            tally=str(tally),
            framework=contestant.framework,
            kafka=servers.kafka,
            topic=topic,
            processes=plan.workload.processes,
            options=plan.options(contestant),
        )
        run = _judge(replace(run, executions=0), _run_processes(contestant, task), tally)
        if meter is not None and not run.void and run.metrics.get("units"):
            costs = meter.read(urlsplit(url).path[1:])
            run = replace(run, metrics={**run.metrics, **costs.each(int(run.metrics["units"]))})
    return run


@dataclass(frozen=True)
class Ended:
    """How a process ended: its last line, or why there is none."""

    outcome: Outcome | None
    problem: str = ""


def _run_processes(contestant: Contestant, task: Task) -> list[Ended]:
    python = str(peer_python() if contestant.in_peer_environment else own_python())
    command = [python, "-m", f"benchmarks.contestants.{contestant.module}"]
    path = os.pathsep.join((str(ROOT), str(ROOT / "connectors")))
    environment = os.environ | {"PYTHONPATH": path}
    processes = []
    for number in range(task.processes):
        # Each process is an executor of its own; the peer takes all that have no name for one.
        named = {"DBOS__VMID": f"process-{number}"} if task.processes > 1 else {}
        processes.append(
            subprocess.Popen(
                [*command, replace(task, process=number).to_json()],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=environment | named,
            )
        )
    try:
        return [_ended(process, task.timeout + EXIT_SECONDS) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _ended(process: subprocess.Popen[str], timeout: float) -> Ended:
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return Ended(None, "did not end in time")
    outcome = read_outcome(output)
    return Ended(outcome, "" if outcome else f"no result: {errors.strip()[-SHOWN_CHARACTERS:]}")


def read_outcome(output: str) -> Outcome | None:
    """Return the outcome that a contestant printed, whatever it printed beside it."""
    for line in reversed(output.splitlines()):
        if line.startswith('{"started"'):
            return Outcome(**json.loads(line))
    return None


def _judge(run: Run, processes: Sequence[Ended], tally: Path) -> Run:
    """Return the run with what its processes measured, or the reason why it is void."""
    problems = [ended.problem for ended in processes if ended.problem]
    outcomes = [ended.outcome for ended in processes if ended.outcome is not None]
    run = replace(run, executions=read_tally(tally))
    if problems:
        return replace(run, void=problems[0])
    return judge_counts(replace(run, metrics=merge(outcomes)))


def judge_counts(run: Run) -> Run:
    """Return the run, void when its handler was not executed exactly as often as it had to be."""
    if run.executions != run.expected:
        return replace(run, void=f"{run.executions} executions instead of {run.expected}")
    return run


def merge(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return what several processes measured together: the time from the first start to the last end."""
    metrics: dict[str, float] = {}
    for outcome in reversed(outcomes):
        metrics.update(outcome.metrics)
    units = max((outcome.units for outcome in outcomes), default=0)
    starts = [outcome.started for outcome in outcomes if outcome.started]
    if units and starts:
        seconds = max(outcome.ended for outcome in outcomes) - min(starts)
        cpu = sum(outcome.cpu_seconds for outcome in outcomes)
        metrics |= {
            "units": units,
            "seconds": seconds,
            "per_second": units / seconds,
            "cpu_microseconds": cpu / units * 1e6,
        }
    return metrics
