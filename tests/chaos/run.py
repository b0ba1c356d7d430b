"""One run: start all, let the faults strike, wait until everything has ended, and check."""

import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.audit import Audit
from tests.chaos.conversations import SCHEDULE, pair_up
from tests.chaos.crew import Crew
from tests.chaos.events import Producing, make_events
from tests.chaos.faults import FAULTS, schedule
from tests.chaos.field import Field
from tests.chaos.findings import LOST, PROCESS, WENT_BACK, Findings
from tests.chaos.operators import Operators
from tests.chaos.plan import LEASE_SECONDS, SESSION_SECONDS, Plan, folder_of
from tests.chaos.report import Report, keep_tables
from tests.chaos.strikes import Strike
from tests.chaos.verdict import listen, reach_verdict
from tests.chaos.worker import WorkerOptions
from tests.connectors.kafka.consuming import PROTOCOLS
from tests.faults.broker import Broker
from tests.faults.operator import make_schema, pause_schedule, redrive_all
from tests.faults.rows import Rows
from tests.servers.kafka import create_topic

TOPIC = "chaos"
LOOK_SECONDS = 0.1
WATCH_SECONDS = 1.0
REDRIVE_SECONDS = 3.0
MENDED_AFTER = {"none": 0.7, "key": 0.7, "partition": 1e9, "topic": 1e9}
"""The share of the time of the faults after which poison is none any more. Where few lanes hold everything, it is at the
ends of the lanes, and is mended when nothing else moves."""
STILL_SECONDS = 3.0
STANDSTILL_SECONDS = 120.0
OPEN = "SELECT count(*) FROM {t}workflows WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED')"
WAITING = "SELECT count(*) FROM {t}quarantine WHERE released_at IS NULL"
UNDECIDED = (
    "SELECT (SELECT count(*) FROM {t}publications WHERE outcome IS NULL AND seen = 0) "
    "+ (SELECT count(*) FROM {t}schedules WHERE reached < ?)"
)
"""Publications that somebody will take, or whose time will be over; and a schedule that is behind."""


class Run:
    """Carries a plan out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = folder_of(plan, Path(tempfile.gettempdir()))
        self.findings = Findings()
        self.struck: Counter[str] = Counter()
        self._strikes: list[threading.Thread] = []
        self._highest: Counter[int] = Counter()
        self._progress: object = None
        self._progress_at = time.monotonic()
        self._paused_ms = 0

    def carry_out(self) -> Report:
        """Run, check, and leave the evidence of what is wrong."""
        self._prepare()
        with ExitStack() as stack:
            self.field = stack.enter_context(Field(self.plan.processes))
            self._fill()
            began = time.monotonic()
            with self.field.crew:
                self._live()
            seconds = time.monotonic() - began
            ends = Broker(self.field.broker.bootstrap).ends(TOPIC, self.plan.partitions)
            facts = self._check(ends)
            report = Report(self.plan, seconds, facts, self.struck, self.findings, self.folder)
            if not report.passed:
                keep_tables(self.field.database_url, self.folder / "tables")
        report.write()
        if report.passed and not self.plan.keep:
            for name in ("marks", "talk", "by_partition", "failures", "logs"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
        return report

    def _prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("marks", "talk", "logs", "failures"):
            (self.folder / name).mkdir(parents=True)
        self.strikes = schedule(self.plan)
        text = json.dumps([asdict(strike) for strike in self.strikes], indent=1)
        (self.folder / "schedule.json").write_text(text)
        self.events = [make_events(self.plan, number) for number in range(self.plan.partitions)]
        self.talks = pair_up(self.plan, self.events)

    def _fill(self) -> None:
        field = self.field
        make_schema(field.database_url)
        field.audit = Audit(field.database_url)
        field.audit.install()
        field.operators = Operators(field.database_url)
        field.operators.make_role()
        self.rows = Rows(field.database_url)
        create_topic(field.broker.bootstrap, TOPIC, partitions=self.plan.partitions)
        field.crew = Crew(self._options(), self.folder, self.findings)
        field.crew.doors = [(slot.database, slot.broker) for slot in field.slots]
        self.producing = Producing(self.plan, field.broker.bootstrap, TOPIC, self.events)

    def _options(self) -> WorkerOptions:
        kafka = dict(PROTOCOLS[self.plan.protocol])
        if "group.protocol" not in kafka:
            kafka |= {"session.timeout.ms": int(SESSION_SECONDS * 1000), "heartbeat.interval.ms": 300}
        return WorkerOptions(
            database=self.field.worker_url,
            topic=TOPIC,
            label="",
            folder=str(self.folder),
            kafka=kafka,
            handler=self.plan.handler,
            ordering=self.plan.ordering,
            defect=self.plan.defect,
            talking=self.plan.talking > 0,
            settings={
                "lease_seconds": LEASE_SECONDS,
                "shutdown_timeout_seconds": 8.0,
                "park_after_seconds": 0.5,
                "sys_db_pool_size": 12,
                "sweep_after_seconds": 10.0,
                "run_migrations": False,
            },
        )

    # -- while it goes on ---------------------------------------------------------------------

    def _live(self) -> None:
        field = self.field
        launches = [threading.Thread(target=slot.start) for slot in field.slots]
        for thread in launches:
            thread.start()
        for thread in launches:
            thread.join()
        self.producing.start()
        self._strike_all(time.monotonic())
        for thread in self._strikes:
            thread.join()
        field.heal()
        if self.plan.talking:
            field.insist(lambda: pause_schedule(field.database_url, "chaos", SCHEDULE))
            self._paused_ms = time.time_ns() // 1_000_000
        self._until(lambda: self._ended() or self._stands_still())
        self.producing.stop()
        for failure in self.producing.failures[:3]:
            self.findings.add(LOST, f"not produced: {failure}")
        field.give_up()
        field.crew.stop([slot.worker for slot in field.slots])

    def _strike_all(self, began: float) -> None:
        waiting = list(self.strikes)

        def due() -> bool:
            while waiting and waiting[0].at <= time.monotonic() - began:
                self._strike(waiting.pop(0))
            share = MENDED_AFTER[self.plan.ordering]
            if time.monotonic() - began > share * self.plan.seconds:
                (self.folder / "mended").touch()
            return time.monotonic() - began > self.plan.seconds

        self._until(due)

    def _strike(self, strike: Strike) -> None:
        self.struck[strike.fault] += 1

        def carry_out() -> None:
            try:
                FAULTS[strike.fault].strike(self.field, strike)
            except Exception as error:  # noqa: BLE001 - a fault that could not be done is an error of the harness
                self.findings.add(PROCESS, f"{strike} could not be done: {error!r}")

        thread = threading.Thread(target=carry_out, name=strike.fault)
        thread.start()
        self._strikes.append(thread)

    def _until(self, done: Callable[[], bool]) -> None:
        """Look after everything until `done` says so."""
        watched = redriven = 0.0
        while not done():
            now = time.monotonic()
            if now - watched > WATCH_SECONDS:
                watched = now
                self._watch()
            if now - redriven > REDRIVE_SECONDS and (self.folder / "mended").exists():
                redriven = now
                self._redrive()
            time.sleep(LOOK_SECONDS)

    def _watch(self) -> None:
        """A process that ended by itself is a finding, and replaced; a watermark must not go back."""
        for slot in self.field.slots:
            if not slot.busy and self.field.crew.died_by_itself(slot.worker):
                with slot:
                    self.field.crew.note_death(slot.worker)
                    slot.start()
        try:
            watermarks = self.rows.watermarks()
        except psycopg.Error:
            return
        for partition, offset in watermarks.items():
            if offset < self._highest[partition]:
                text = f"the watermark of {partition} went from {self._highest[partition]} to {offset}"
                self.findings.add(WENT_BACK, text)
            self._highest[partition] = max(self._highest[partition], offset)

    def _redrive(self) -> None:
        with suppress(Exception):  # the database may be down: it is tried again
            if self.rows.one(WAITING):
                redrive_all(self.field.database_url)

    def _counts(self) -> tuple[int, int, int, int] | None:
        try:
            return (
                sum(self.rows.watermarks().values()),
                self.rows.one(OPEN),
                self.rows.one(WAITING),
                self.rows.one(UNDECIDED, (self._paused_ms,)),
            )
        except psycopg.Error:
            return None

    def _ended(self) -> bool:
        return self.producing.done and self._counts() == (self.plan.events, 0, 0, 0)

    def _stands_still(self) -> bool:
        """Mend poison when nothing else moves; whether nothing has moved for long: then the run is given up."""
        marks = sum(path.stat().st_size for path in (self.folder / "marks").iterdir())
        progress = self._counts(), marks
        if progress != self._progress:
            self._progress, self._progress_at = progress, time.monotonic()
        seconds = time.monotonic() - self._progress_at
        if seconds > STILL_SECONDS:
            (self.folder / "mended").touch()
        if seconds > STANDSTILL_SECONDS:
            self.findings.add(
                LOST, f"nothing moves any more: (taken in, open, put aside, undecided) {progress[0]}"
            )
        return seconds > STANDSTILL_SECONDS

    # -- afterwards ---------------------------------------------------------------------------

    def _check(self, ends: Mapping[int, int]) -> dict[str, Any]:
        began = time.monotonic()
        field = self.field
        executors, unexplained = field.crew.executors(self.rows)
        checker = reach_verdict(
            self.plan, self.folder, field.audit, self.events, executors, ends, self.findings
        )
        database, broker = field.answers_lost()
        said: dict[str, int] = {}
        if self.plan.talking:
            said = listen(self.folder, field.audit, self.talks, executors, self.findings)
        return {
            "steps executed": checker.executions,
            "repeats explained": checker.repeats,
            "process starts": len(field.crew.workers),
            "launches that failed": field.crew.launches_that_failed,
            "deaths without a fault": unexplained,
            "seconds without a process": round(executors.nobody_seconds, 1),
            "database answers lost": database,
            "broker answers lost": broker,
            "redriven": self.rows.one("SELECT count(*) FROM {t}decisions"),
            "tried again": self.rows.one("SELECT count(*) FROM {t}generations WHERE ended_as = 'retry'"),
            **said,
            "seconds to check": round(time.monotonic() - began, 1),
        }
