"""Runs contestants, one process at a time, and keeps what each run gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peer import peer_python
from benchmarks.servers import Servers, filled_topic, fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.workloads import Contestant, Workload

ROOT = Path(__file__).resolve().parent.parent
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
    events: int
    executions: int = 0
    seconds: float = 0.0
    events_per_second: float = 0.0
    cpu_seconds: float = 0.0
    void: str = ""


@dataclass(frozen=True)
class Plan:
    """How much of a workload is to be run, and for how long at most."""

    workload: Workload
    events: int
    rounds: int
    timeout: float
    contestants: tuple[Contestant, ...]
    colours: tuple[str, ...]

    def entries(self) -> list[Entry]:
        """Return the lines of the result."""
        return [
            Entry(contestant, colour)
            for contestant in self.contestants
            for colour in self.colours
            if colour in contestant.colours
        ]


def run_plan(plan: Plan, servers: Servers) -> Iterator[Run]:
    """Run every entry once a round; each round starts with another entry.

    So a machine that grows slower or faster meanwhile does so for all of them.
    """
    entries = plan.entries()
    for number in range(plan.rounds):
        start = number % len(entries)
        for entry in entries[start:] + entries[:start]:
            yield run_once(plan, entry, number, servers)


def run_once(plan: Plan, entry: Entry, number: int, servers: Servers) -> Run:
    """Run one entry in a fresh database, and on a fresh topic if it reads one."""
    events = entry.contestant.events(plan.events)
    with ExitStack() as stack:
        url = stack.enter_context(fresh_database(servers.postgres, entry.contestant.name))
        topic = (
            stack.enter_context(filled_topic(servers.kafka, events, plan.workload))
            if entry.contestant.reads_topic
            else "none"
        )
        result = _run_process(
            _command(entry, events, servers.kafka, topic, url, plan.timeout),
            plan.timeout + EXIT_SECONDS,
        )
    run = Run(
        workload=plan.workload.name,
        contestant=entry.contestant.name,
        colour=entry.colour,
        round=number,
        events=events,
    )
    return _judge(run, result)


def _command(entry: Entry, events: int, kafka: str, topic: str, url: str, timeout: float) -> list[str]:
    in_peer = entry.contestant.in_peer_environment
    return [
        *(str(peer_python() if in_peer else sys.executable), "-m"),
        entry.contestant.module,
        f"--bootstrap={kafka}",
        f"--topic={topic}",
        f"--events={events}",
        f"--url={url}",
        f"--colour={entry.colour}",
        f"--timeout={timeout}",
        f"--ordering={entry.contestant.ordering}",
    ]


def _run_process(command: list[str], timeout: float) -> subprocess.CompletedProcess[str] | None:
    path = os.pathsep.join((str(ROOT), str(ROOT / "connectors")))
    try:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return None


def _judge(run: Run, result: subprocess.CompletedProcess[str] | None) -> Run:
    """Return the run with what the process measured, or the reason why it is void."""
    if result is None:
        return replace(run, void="did not end in time")
    measured = _last_json(result.stdout)
    if measured is None:
        return replace(run, void=f"no result: {result.stderr.strip()[-SHOWN_CHARACTERS:]}")
    run = replace(run, **measured)
    if run.executions != run.events:
        return replace(run, void=f"{run.executions} executions for {run.events} events")
    return run


def _last_json(output: str) -> dict[str, Any] | None:
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            fields = json.loads(line)
            return fields if isinstance(fields, dict) and "executions" in fields else None
    return None
