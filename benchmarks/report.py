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

HEADER = ("contestant", "events", "rounds", "events/s", "spread", "cpu µs/event", "x")


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


def summarise(plan: Plan, runs: Sequence[Run]) -> list[Line]:
    """Return a line for every entry that has a run which counts."""
    lines = []
    for entry in plan.entries():
        valid = _valid(runs, entry.contestant.name, entry.colour)
        if not valid:
            continue
        rates = [run.events_per_second for run in valid]
        baseline = _rate(_valid(runs, plan.workload.baseline, entry.colour))
        lines.append(
            Line(
                contestant=entry.contestant.name,
                colour=entry.colour,
                events=valid[0].events,
                rounds=len(valid),
                events_per_second=median(rates),
                slowest=min(rates),
                fastest=max(rates),
                cpu_microseconds=median(run.cpu_seconds / run.events * 1e6 for run in valid),
                ratio=median(rates) / baseline if baseline else None,
            )
        )
    return lines


def render(plan: Plan, lines: Sequence[Line], runs: Sequence[Run]) -> str:
    """Return the table, and after it the runs that do not count, with the reason."""
    rows = [HEADER, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    text = [plan.workload.title, ""]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        text.append("  ".join(cells))
    text += ["", f"x: times {plan.workload.baseline} with the same kind of handler"]
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


def _valid(runs: Sequence[Run], contestant: str, colour: str) -> list[Run]:
    return [run for run in runs if (run.contestant, run.colour) == (contestant, colour) and not run.void]


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
    )
