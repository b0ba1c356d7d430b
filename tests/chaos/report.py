"""The table of a run, for people and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.findings import KINDS, Findings
from tests.chaos.plan import Plan

TABLES = (
    "dbos_events.executors", "dbos_events.watermarks", "dbos_events.quarantine", "dbos_events.generations",
    "dbos_events.gaps", "dbos_events.workflows", "dbos_events.checkpoints", "dbos_events.messages",
    "dbos_events.publications", "dbos_events.anchors", "dbos_events.waits", "dbos_events.published_values",
    "dbos_events.stream_entries", "dbos_events.schedules", "dbos_events.ticks", "chaos.endings", "chaos.wrongs",
    "chaos.moves", "chaos.starts",
)  # fmt: skip
"""What is kept of the database of a run that has failed."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run was asked for, what happened in it, and what was found."""

    plan: Plan
    seconds: float
    facts: Mapping[str, Any]
    faults: Mapping[str, int]
    findings: Findings
    folder: Path

    @property
    def passed(self) -> bool:
        return not self.findings

    def table(self) -> dict[str, Any]:
        """All figures, by name."""
        return {
            **self.plan.table(),
            "duration": round(self.seconds, 1),
            "events/s": round(self.plan.events / self.seconds),
            "faults": dict(sorted(self.faults.items())),
            **self.facts,
            **{kind: self.findings.counts[kind] for kind in KINDS},
            "passed": self.passed,
            "command": self.plan.command,
        }

    def write(self) -> None:
        """Leave table and findings in the folder."""
        (self.folder / "table.json").write_text(json.dumps(self.table(), indent=2) + "\n")
        (self.folder / "findings.txt").write_text(f"{self.findings}\n")

    def __str__(self) -> str:
        table = self.table()
        faults = table.pop("faults")
        command = table.pop("command")
        passed = table.pop("passed")
        width = max(map(len, [*table, *faults])) + 2
        lines = [f"{name:<{width}}{value}" for name, value in table.items()]
        lines += ["faults", *(f"  {name:<{width - 2}}{count}" for name, count in faults.items())]
        if not passed:
            lines += ["", str(self.findings), "", f"evidence: {self.folder}"]
        return "\n".join([*lines, f"again:  {command}", "PASSED" if passed else "FAILED"])


def keep_tables(url: str, folder: Path, tables: Sequence[str] = TABLES) -> None:
    """Copy tables into files of comma-separated values."""
    folder.mkdir(exist_ok=True)
    with psycopg.connect(url) as connection:
        for table in tables:
            with (
                (folder / f"{table.rpartition('.')[2]}.csv").open("wb") as file,
                connection.cursor().copy(f"COPY {table} TO STDOUT (FORMAT csv, HEADER)".encode()) as copy,
            ):
                for block in copy:
                    file.write(block)
