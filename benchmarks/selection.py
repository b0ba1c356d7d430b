"""Which workloads a command line asks for, and how much of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.model import Size, Workload
from benchmarks.runs import Plan
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.restarts import HISTORY

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def choose(options: argparse.Namespace) -> list[Plan]:
    """Return what is to be run, in the registry's order.

    Raises:
        ValueError: Nobody takes part: no workload has a contestant of that name.
    """
    plans = [_plan(workload, options) for workload in WORKLOADS.values() if _is_wanted(workload, options)]
    plans = [plan for plan in plans if plan.entries()]
    if not plans:
        known = sorted({c.name for workload in WORKLOADS.values() for c in workload.contestants})
        message = f"no workload fits; the contestants are {', '.join(known)}"
        raise ValueError(message)
    return plans


def left_out(options: argparse.Namespace, plans: Sequence[Plan]) -> list[str]:
    """Return the workloads that a quick run leaves out, unless some were named."""
    if options.full or options.workload or options.kind:
        return []
    run = {plan.workload.name for plan in plans}
    return [name for name in WORKLOADS if name not in run]


def _is_wanted(workload: Workload, options: argparse.Namespace) -> bool:
    if options.workload or options.kind:
        return workload.name in (options.workload or ()) or workload.kind in (options.kind or ())
    return options.full or workload.quick is not None


def _plan(workload: Workload, options: argparse.Namespace) -> Plan:
    size = _size(workload, options)
    return Plan(
        workload=workload,
        size=size,
        timeout=options.timeout,
        contestants=workload.select(options.contestant),
        colours=tuple(options.colour or size.colours),
        history=options.history or HISTORY["full" if options.full else "quick"],
    )


def _size(workload: Workload, options: argparse.Namespace) -> Size:
    """A workload that is named but has no quick size runs a tenth of its full one, once."""
    size = workload.full
    if not options.full:
        size = workload.quick or Size(max(1, workload.full.count // 10))
    return replace(size, count=options.count or size.count, rounds=options.rounds or size.rounds)
