"""A soak: one worker under a steady rate for a long time, and what it holds: `python -m tests.chaos.soak` (`make soak`).

Its events sleep, fail at first, start children, are poison and are redriven, as those of a chaos run, and nothing
harms it. At the end effects and rows are checked as in one, and nothing may have grown since the process was warm.
"""

import argparse
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path

from tests.chaos.audit import Audit
from tests.chaos.crew import Crew, tail
from tests.chaos.events import Producing, make_events
from tests.chaos.field import DATABASE_SETTINGS
from tests.chaos.findings import LOST, PROCESS, Findings
from tests.chaos.leaks import LEAKS
from tests.chaos.operators import ROLE, Operators
from tests.chaos.plan import HANDLERS, ORDERINGS, Plan
from tests.chaos.samples import TOLERANCES, Course, Sample, Tolerance, look_at
from tests.chaos.verdict import reach_verdict
from tests.chaos.worker import WorkerOptions
from tests.connectors.kafka.consuming import PROTOCOLS
from tests.faults.broker import Broker
from tests.faults.operator import make_schema, redrive_all
from tests.faults.workers import Worker
from tests.servers import KafkaServer, PostgresServer
from tests.servers.kafka import create_topic

TOPIC = "soak"
WINDOW_SECONDS = 300.0
WINDOWS = 6
"""A soak that is shorter than so many windows has shorter ones."""
SAMPLE_SECONDS = 10.0
SAMPLES = 8
"""At least so many are in a window."""
LOOK_SECONDS = 0.1
REDRIVE_SECONDS = 30.0
"""So often what was put aside is mended for a third of that time, and redriven."""
STANDSTILL_SECONDS = 120.0
OPEN = "SELECT count(*) FROM {t}workflows WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED')"
WAITING = "SELECT count(*) FROM {t}quarantine WHERE released_at IS NULL"
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = ?"

FACTS = {
    "slept": "SELECT count(DISTINCT workflow_id) FROM {t}steps WHERE name = 'DBOS.sleep'",
    "tried again": "SELECT count(*) FROM {t}generations WHERE ended_as = 'retry'",
    "redriven": "SELECT count(*) FROM {t}decisions",
}
"""What a soak is for must have happened in it."""


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """The options of a soak."""

    seconds: float = 1800.0
    rate: int = 1000
    partitions: int = 8
    keys: int = 500
    seed: int = 0
    ordering: str = "none"
    handler: str = "async"
    raising: int = 0
    leaks: tuple[str, ...] = ()
    tolerance_mb: float = TOLERANCES["rss_mb"].amount
    trace_seconds: float = 0.0
    folder: str = ""

    @property
    def window(self) -> float:
        return min(WINDOW_SECONDS, self.seconds / WINDOWS)

    @property
    def sample_seconds(self) -> float:
        return min(SAMPLE_SECONDS, self.window / SAMPLES)

    @property
    def tolerances(self) -> dict[str, Tolerance]:
        """Those of memory may be wider: a short soak ends while the process still warms up."""
        memory = {name: TOLERANCES[name]._replace(amount=self.tolerance_mb) for name in ("rss_mb", "uss_mb")}
        return {**TOLERANCES, **memory}

    @property
    def events(self) -> Plan:
        """What the events are asked for."""
        shared = {
            name: getattr(self, name)
            for name in ("seconds", "partitions", "keys", "seed", "ordering", "handler", "raising")
        }
        return Plan(events=int(self.rate * self.seconds), processes=1, faults=(), talking=0.0, **shared)

    @property
    def command(self) -> str:
        """What repeats this soak."""
        words = ["python -m tests.chaos.soak"]
        for item in fields(self):
            value = getattr(self, item.name)
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            words += [f"--{item.name.replace('_', '-')} {shlex.quote(text)}"] if text else []
        return " ".join(words)


def read_soak_plan(arguments: Sequence[str]) -> SoakPlan:
    """The plan of a command line; a missing seed is drawn."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    defaults = SoakPlan()
    for name in ("rate", "partitions", "keys", "seed", "raising"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    for name in ("seconds", "tolerance_mb", "trace_seconds"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name))
    parser.add_argument("--ordering", choices=ORDERINGS, default=defaults.ordering)
    parser.add_argument("--handler", choices=HANDLERS, default=defaults.handler)
    parser.add_argument("--leaks", default="", help=f"some of {','.join(LEAKS)}, that the soak must find")
    parser.add_argument("--folder", default="", help="where the evidence goes; a new folder by default")
    given = vars(parser.parse_args(arguments))
    given["leaks"] = tuple(name for name in given["leaks"].split(",") if name)
    if unknown := set(given["leaks"]) - set(LEAKS):
        parser.error(f"no such leak: {', '.join(sorted(unknown))}; there are {', '.join(LEAKS)}")
    given["seed"] = given["seed"] or random.randrange(1, 1_000_000)
    return SoakPlan(**given)


@dataclass
class Outcome:
    """What a soak has shown."""

    plan: SoakPlan
    course: Course
    findings: Findings
    folder: Path
    growths: list[str] = field(default_factory=list)
    steps: int = 0
    facts: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.findings and not self.growths

    def __str__(self) -> str:
        facts = [f"{name}: {value}" for name, value in {"steps executed": self.steps, **self.facts}.items()]
        lines = [str(self.course), ", ".join(facts), *self.growths]
        if self.findings:
            lines.append(str(self.findings))
        if not self.passed:
            lines.append(f"evidence: {self.folder}")
        return "\n".join([*lines, f"again:  {self.plan.command}", "PASSED" if self.passed else "FAILED"])


class Soak:
    """Carries a plan out."""

    def __init__(self, plan: SoakPlan) -> None:
        self.plan = plan
        self.folder = Path(plan.folder or tempfile.gettempdir()) / f"soak-{plan.handler}-{plan.seed}"
        self.findings = Findings()
        self.samples: list[Sample] = []
        self._events = [make_events(plan.events, number) for number in range(plan.partitions)]
        self._mended = self.folder / "mended"
        self._redriven_at = 0.0

    def carry_out(self) -> Outcome:
        """Run, sample, and check; the evidence of a soak that fails is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("marks", "logs", "failures"):
            (self.folder / name).mkdir(parents=True)
        with ExitStack() as stack:
            self._database = stack.enter_context(PostgresServer(settings=DATABASE_SETTINGS))
            self._broker = stack.enter_context(KafkaServer())
            self._fill()
            with self._crew:
                self._live()
            ends = Broker(self._broker.bootstrap).ends(TOPIC, self.plan.partitions)
            executors, _ = self._crew.executors(self._audit.rows)
            checker = reach_verdict(
                self.plan.events, self.folder, self._audit, self._events, executors, ends, self.findings
            )
            facts = {name: self._audit.rows.one(question) for name, question in FACTS.items()}
        course = Course(self.samples, self.plan.window)
        course.write(self.folder / "samples.csv")
        growths = course.growths(self.plan.tolerances)
        outcome = Outcome(self.plan, course, self.findings, self.folder, growths, checker.executions, facts)
        (self.folder / "outcome.txt").write_text(f"{outcome}\n")
        for name in ("marks", "by_partition", "failures", "logs") if outcome.passed else ():
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return outcome

    def _fill(self) -> None:
        url = self._database.create_database("soak")
        make_schema(url)
        self._audit = Audit(url)
        self._audit.install()
        Operators(url).make_role()
        create_topic(self._broker.bootstrap, TOPIC, partitions=self.plan.partitions)
        options = WorkerOptions(
            database=f"postgresql://{ROLE}@127.0.0.1:{{port}}/soak",
            topic=TOPIC,
            label="",
            folder=str(self.folder),
            kafka=dict(PROTOCOLS["cooperative"]),
            handler=self.plan.handler,
            ordering=self.plan.ordering,
            settings={"park_after_seconds": 0.5, "run_migrations": False},
            leaks=self.plan.leaks,
            trace_seconds=self.plan.trace_seconds,
        )
        self._crew = Crew(options, self.folder, self.findings)
        self._producing = Producing(
            self.plan.events, self._broker.bootstrap, TOPIC, self._events, at_once=0.0, within=1.0
        )

    # -- while it goes on ---------------------------------------------------------------------

    def _live(self) -> None:
        worker = self._crew.launch((self._database, self._broker))
        self._producing.start()
        began = time.monotonic()
        self._until(
            worker, lambda: self._sample(worker, began) or time.monotonic() - began > self.plan.seconds
        )
        self._mended.touch()
        self._until(worker, self._all_has_ended())
        self._producing.stop()
        for failure in self._producing.failures[:3]:
            self.findings.add(LOST, f"not produced: {failure}")
        if worker.running:
            worker.terminate()  # nothing runs any more: this explains no repeated step
            self._crew.wait_stopped(worker)

    def _until(self, worker: Worker, done: Callable[[], bool]) -> None:
        while not done():
            if not worker.running:
                self.findings.add(PROCESS, f"the worker ended by itself: {tail(worker)}")
                return
            self._redrive()
            time.sleep(LOOK_SECONDS)

    def _redrive(self) -> None:
        """Mend poison from time to time, redrive what was put aside, and let poison be poison again."""
        now = time.monotonic()
        each = min(REDRIVE_SECONDS, self.plan.seconds / WINDOWS)
        if now - self._redriven_at > each:
            self._redriven_at = now
            self._mended.touch()
            redrive_all(self._audit.rows.url)
        elif now - self._redriven_at > each / 3 and not self._producing.done:
            self._mended.unlink(missing_ok=True)

    def _sample(self, worker: Worker, began: float) -> bool:
        """Take a sample when it is time for one; gives False."""
        at = time.monotonic() - began
        if self.samples and at - self.samples[-1].at < self.plan.sample_seconds:
            return False
        taken_in = sum(self._audit.rows.watermarks().values())
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended just now
            self.samples.append(
                look_at(
                    worker.process.pid,
                    at=at,
                    connections=self._audit.rows.one(CONNECTIONS, (ROLE,)),
                    taken_in=taken_in,
                    behind=self._producing.written - taken_in,
                )
            )
        return False

    def _all_has_ended(self) -> Callable[[], bool]:
        """Asks whether everything has ended, or nothing moves any more."""
        last: tuple[int, ...] = ()
        since = time.monotonic()

        def ended() -> bool:
            nonlocal last, since
            rows = self._audit.rows
            now = sum(rows.watermarks().values()), rows.one(OPEN), rows.one(WAITING)
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > STANDSTILL_SECONDS:
                self.findings.add(LOST, f"nothing moves any more: (taken in, open, put aside) {now}")
                return True
            return self._producing.done and now == (self.plan.events.events, 0, 0)

        return ended


def main() -> int:
    """The exit status says whether everything held, and nothing grew."""
    plan = read_soak_plan(sys.argv[1:])
    print(f"seed {plan.seed}: {plan.command}", flush=True)
    outcome = Soak(plan).carry_out()
    print(outcome)
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
