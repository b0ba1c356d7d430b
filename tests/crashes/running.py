"""Records sound runs, chooses points, has them struck, and tells what came of it."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import Self

from tests.crashes.forks import Answer, Job, seen_of
from tests.crashes.kafka import broker_with
from tests.crashes.points import Fault, Point, Seen
from tests.crashes.scenarios import scenario_of

ROOT = Path(__file__).parents[2]
TRIES = 3
"""How often a point is tried that a run did not come by: which writes share a batch is up to chance."""


@dataclass(frozen=True, slots=True)
class Databases:
    """Where runs take place, as many at once as there are databases; SQLite files begin as copies of the template."""

    kind: str
    places: Sequence[str]
    template: str = ""


@dataclass(slots=True)
class Report:
    """One line of the table."""

    scenario: str
    kind: str
    fault: Fault
    found: int
    struck: int = 0
    missed: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.scenario:26} {self.kind:9} {self.fault:5} {self.found:6} {self.struck:6} {self.missed:7} "
            f"{len(self.failures):9} {self.seconds:8.1f}"
        )


HEADER = "scenario                   database  fault points struck  missed  failures  seconds"


Choose = Callable[[Sequence[Seen]], list[Point]]


def every_point(seen: Sequence[Seen]) -> list[Point]:
    """All of them, before and after each call."""
    return [one.point for one in seen]


def every_state(sample: random.Random, most: int | None = None) -> Choose:
    """A point of each state that a crash can leave in the database, chosen by chance; or `most` of these."""

    def choose(seen: Sequence[Seen]) -> list[Point]:
        by_state: dict[int, list[Point]] = {}
        for point, state in seen:
            by_state.setdefault(state, []).append(point)
        points = [sample.choice(candidates) for candidates in by_state.values()]
        return points if most is None else sample.sample(points, min(most, len(points)))

    return choose


def some_points(sample: random.Random, most: int) -> Choose:
    """Points chosen by chance, whatever they leave."""
    return lambda seen: [one.point for one in sample.sample(seen, min(most, len(seen)))]


def around(name: str) -> Choose:
    """The points whose name has this in it."""
    return lambda seen: [one.point for one in seen if name in one.point.name]


class Runs:
    """Has jobs done by processes that fork, one for each database. Use it in a `with` block."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self._idle: Queue[tuple[subprocess.Popen[str], str]] = Queue()
        self._servers = [_serve() for _ in databases.places]
        for server, place in zip(self._servers, databases.places, strict=True):
            self._idle.put((server, place))
        self._pool = ThreadPoolExecutor(len(self._servers))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        for server in self._servers:
            for pipe in (server.stdin, server.stdout):
                if pipe is not None:
                    pipe.close()
            server.wait(30)

    def do(self, jobs: Iterable[Job]) -> Iterator[Answer]:
        """The answers, in the order of the jobs; as many at once as there are databases."""
        return self._pool.map(self._do, jobs)

    def _do(self, job: Job) -> Answer:
        server, place = self._idle.get()
        try:
            placed = replace(job, database=place, template=self.databases.template)
            scenario = scenario_of(job.scenario)
            if not scenario.on_kafka:
                return _ask(server, placed)
            with broker_with(scenario.log) as broker:
                return _ask(server, replace(placed, kafka=broker.bootstrap_servers))
        finally:
            self._idle.put((server, place))

    # -- one scenario -------------------------------------------------------------------------

    def record(self, scenario: str, *, defect: str = "") -> Answer:
        """A sound run."""
        (answer,) = self.do([Job(scenario, defect=defect)])
        return answer

    def strike(
        self,
        scenario: str,
        fault: Fault = "die",
        *,
        choose: Choose = every_point,
        defect: str = "",
    ) -> Report:
        """Strike at all points of a scenario that `choose` gives of those that were found."""
        began = time.monotonic()
        sound = self.record(scenario, defect=defect)
        seen = seen_of(sound)
        if fault == "lose":
            seen = [
                one for one in seen if one.point.when == "after" and not one.point.name.startswith("effect")
            ]
        report = Report(scenario, self.databases.kind, fault, len(seen))
        report.failures += [f"a sound run: {problem}" for problem in sound.problems]
        points = choose(seen)
        for _ in range(TRIES):
            points = self._strike_all(report, points, sound, defect)
        report.missed = len(points)
        report.seconds = time.monotonic() - began
        return report

    def _strike_all(self, report: Report, points: Sequence[Point], sound: Answer, defect: str) -> list[Point]:
        """Strike at these; gives those that the runs did not come by."""
        life = str(scenario_of(report.scenario).watched_life)
        jobs = [
            Job(report.scenario, strikes={life: (point, report.fault)}, defect=defect) for point in points
        ]
        missed = []
        for point, answer in zip(points, self.do(jobs), strict=True):
            problems = answer.problems or differences(sound.counts, answer.counts)
            report.failures += [f"{report.fault} {point}: {problem}" for problem in problems]
            if answer.reached:
                report.struck += 1
            elif not problems:
                missed.append(point)
        return missed


def _ask(server: subprocess.Popen[str], job: Job) -> Answer:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(asdict(job)) + "\n")
    server.stdin.flush()
    line = server.stdout.readline()
    assert line, f"the forking process has ended with {server.poll()} in {job}"
    return Answer(**json.loads(line))


def _serve() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crashes.forks"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'connectors'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def differences(sound: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Tables that hold more or fewer rows than after a sound run."""
    return [
        f"{found[table]} rows in {table}, {sound[table]} after a sound run"
        for table in sound
        if found.get(table) != sound[table]
    ]
