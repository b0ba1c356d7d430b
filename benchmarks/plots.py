"""Bars of each workload, one SVG file for each; needs matplotlib, which only this file imports."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.report import Line

MISSING = "No plots: matplotlib is not installed (pip install 'dbos-events[bench]')."
COLOURS = {"dbos": "#b0b0b0", "handwritten": "#7a9cc6", "sql_only": "#d8c27a"}
OURS = "#2f6f4f"


def draw(folder: Path, lines: Sequence[Line], machine: str) -> str:
    """Draw a file for each workload; gives what is to be said about it."""
    if find_spec("matplotlib") is None:
        return MISSING
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(line.workload for line in lines))
    for name in names:
        _bars(folder / f"{name}.svg", [line for line in lines if line.workload == name], machine)
    return f"{len(names)} plots in {folder}"


def _bars(path: Path, lines: Sequence[Line], machine: str) -> None:
    from matplotlib.figure import Figure

    workload = WORKLOADS[lines[0].workload]
    head = workload.headline
    figure = Figure(figsize=(8, 1.6 + 0.4 * len(lines)), layout="constrained")
    axes = figure.subplots()
    labels = [f"{line.contestant} {line.colour}" for line in lines]
    numbers = [line.metrics.get(head.metric, 0.0) for line in lines]
    bars = axes.barh(labels, numbers, color=[COLOURS.get(line.contestant, OURS) for line in lines])
    axes.bar_label(
        bars, labels=[_label(line, number, head.form) for line, number in zip(lines, numbers, strict=True)]
    )
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel(f"{head.title} ({workload.better} is better)")
    axes.set_title(workload.title, fontsize=9, wrap=True)
    figure.text(0.01, 0.005, machine, fontsize=5, color="#606060")
    figure.savefig(path, format="svg")


def _label(line: Line, number: float, form: str) -> str:
    ratio = f" ({line.ratio:,.1f} x)" if line.ratio and line.ratio != 1 else ""
    return f" {format(number, form)}{ratio}"
