"""What a run of the suite says in the end: a table for people, JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.machine import Machine
    from benchmarks.runs import Plan, Run

HEADER = ("contestant", "events", "rounds", "events/s", "spread", "cpu µs/event", "x", "of limit")


@dataclass(frozen=True)
class Line:
    """One entry of the result: its median over the rounds that count."""

    contestant: str
    colour: str
    events: int
    rounds: int
    events_per_second: float
    slowest: float
    fastest: float
    cpu_microseconds: float
    """Of the contestant's process alone, per event."""
    ratio: float | None
    """Against the baseline in the same colour."""
    of_limit: float | None
    """Which part of the limit it reaches."""


def summarise(plan: Plan, runs: Sequence[Run]) -> list[Line]:
    """Return a line for every entry that has a run which counts."""
    limit = _rate(_valid(runs, plan.workload.limit))
    lines = []
    for entry in plan.entries():
        valid = _valid(runs, entry.contestant.name, entry.colour)
        if valid:
            baseline = _rate(_valid(runs, plan.workload.baseline, entry.colour))
            lines.append(_line(valid, baseline, limit))
    return lines


def _line(valid: Sequence[Run], baseline: float | None, limit: float | None) -> Line:
    rates = [run.events_per_second for run in valid]
    rate = median(rates)
    return Line(
        contestant=valid[0].contestant,
        colour=valid[0].colour,
        events=valid[0].events,
        rounds=len(valid),
        events_per_second=rate,
        slowest=min(rates),
        fastest=max(rates),
        cpu_microseconds=median(run.cpu_seconds / run.events * 1e6 for run in valid),
        ratio=rate / baseline if baseline else None,
        of_limit=rate / limit if limit else None,
    )


def render(plan: Plan, lines: Sequence[Line], runs: Sequence[Run]) -> str:
    """Return the table, and after it the runs that do not count, with the reason."""
    rows = [HEADER, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    text = [plan.workload.title, ""]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        text.append("  ".join(cells))
    baseline, limit = plan.workload.baseline, plan.workload.limit
    text += ["", f"x: times {baseline} with the same kind of handler; of limit: of what {limit} reaches"]
    text += [
        f"VOID: {run.contestant} {run.colour}, round {run.round + 1}: {run.void}" for run in runs if run.void
    ]
    return "\n".join(text) + "\n"


def write_json(path: Path, machine: Machine, lines: Sequence[Line], runs: Sequence[Run]) -> None:
    """Write everything that was measured."""
    content = {
        "machine": asdict(machine),
        "summary": [asdict(line) for line in lines],
        "runs": [asdict(run) for run in runs],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _valid(runs: Sequence[Run], contestant: str, colour: str | None = None) -> list[Run]:
    return [
        run for run in runs if run.contestant == contestant and colour in {None, run.colour} and not run.void
    ]


def _rate(runs: Sequence[Run]) -> float | None:
    return median(run.events_per_second for run in runs) if runs else None


def _cells(line: Line) -> tuple[str, ...]:
    return (
        f"{line.contestant} {line.colour}",
        f"{line.events:,}",
        str(line.rounds),
        f"{line.events_per_second:,.0f}",
        f"{line.slowest:,.0f}-{line.fastest:,.0f}",
        f"{line.cpu_microseconds:,.0f}",
        f"{line.ratio:,.1f}" if line.ratio else "-",
        f"{line.of_limit:.0%}" if line.of_limit else "-",
    )
