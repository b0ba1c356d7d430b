"""What a run of the suite says in the end: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.machine import Machine
    from benchmarks.model import Column, Workload
    from benchmarks.runs import Plan, Run

MISSING = "-"


@dataclass(frozen=True)
class Line:
    """One entry of the result: the medians over the rounds that count."""

    workload: str
    contestant: str
    colour: str
    count: int
    rounds: int
    metrics: Mapping[str, float]
    least: float
    most: float
    """Of the workload's first number, over the rounds."""
    ratio: float | None
    """How many times better than the baseline in the same colour."""
    of_limit: float | None
    """Which part of the limit it reaches."""


def summarise(plan: Plan, runs: Sequence[Run]) -> list[Line]:
    """Return a line for every entry that has a run which counts."""
    workload = plan.workload
    limit = _headline(workload, _valid(runs, workload.limit)) if workload.limit else None
    lines = []
    for entry in plan.entries():
        valid = _valid(runs, entry.contestant.name, entry.colour)
        if valid:
            baseline = _headline(workload, _valid(runs, workload.baseline, entry.colour))
            lines.append(_line(workload, valid, baseline, limit))
    return lines


def _line(workload: Workload, valid: Sequence[Run], baseline: float | None, limit: float | None) -> Line:
    name = workload.headline.metric
    numbers = [run.metrics[name] for run in valid if name in run.metrics]
    number = median(numbers) if numbers else None
    return Line(
        workload=workload.name,
        contestant=valid[0].contestant,
        colour=valid[0].colour,
        count=valid[0].count,
        rounds=len(valid),
        metrics=medians(valid),
        least=min(numbers, default=0.0),
        most=max(numbers, default=0.0),
        ratio=better_by(number, baseline, workload),
        of_limit=number / limit if number and limit else None,
    )


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """Return the median of each number that every run has."""
    shared = set.intersection(*(set(run.metrics) for run in runs)) if runs else set()
    return {name: median(run.metrics[name] for run in runs) for name in sorted(shared)}


def better_by(number: float | None, baseline: float | None, workload: Workload) -> float | None:
    """Return how many times better `number` is; above 1 is better, whichever way is good."""
    if not number or not baseline:
        return None
    return number / baseline if workload.better == "more" else baseline / number


def render(plan: Plan, lines: Sequence[Line], runs: Sequence[Run]) -> str:
    """Return the table, and after it the runs that do not count, with the reason."""
    workload = plan.workload
    shown = [c for c in workload.columns if any(c.metric in line.metrics for line in lines)]
    header = ("contestant", "count", "rounds", *(column.title for column in shown), "spread", "x", "of limit")
    rows = [header, *(_cells(workload, shown, line) for line in lines)]
    if workload.limit is None:
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = [f"{workload.name}: {workload.title}", ""]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        text.append("  ".join(cells))
    text += [
        f"VOID: {run.contestant} {run.colour}, round {run.round + 1}: {run.void}" for run in runs if run.void
    ]
    return "\n".join(text) + "\n"


def explain(workload: Workload) -> str:
    """Return what the last columns mean."""
    limit = f"; of limit: of what {workload.limit} reaches" if workload.limit else ""
    return f"x: how many times better than {workload.baseline} with the same kind of handler{limit}"


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


def _headline(workload: Workload, runs: Sequence[Run]) -> float | None:
    name = workload.headline.metric
    numbers = [run.metrics[name] for run in runs if name in run.metrics]
    return median(numbers) if numbers else None


def _cells(workload: Workload, columns: Sequence[Column], line: Line) -> tuple[str, ...]:
    head = workload.headline
    return (
        f"{line.contestant} {line.colour}",
        f"{line.count:,}",
        str(line.rounds),
        *(_cell(column, line.metrics.get(column.metric)) for column in columns),
        f"{_cell(head, line.least)}..{_cell(head, line.most)}" if line.rounds > 1 else MISSING,
        f"{line.ratio:,.1f}" if line.ratio else MISSING,
        f"{line.of_limit:.0%}" if line.of_limit else MISSING,
    )


def _cell(column: Column, number: float | None) -> str:
    return MISSING if number is None else format(number, column.form)
