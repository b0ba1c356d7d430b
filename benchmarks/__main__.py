"""Measure us, the peer and a hand-written loop in one run, on the same servers.

    python -m benchmarks                                    a quick run, less than five minutes
    python -m benchmarks --full                             everything, for hours
    python -m benchmarks --kind queues --rounds 3           one kind of work
    python -m benchmarks --workload kafka-1-step --contestant ours --colour sync --count 20000
    python -m benchmarks --kafka HOST:PORT --postgres URL   servers that are there
    python -m benchmarks --list                             what there is

The PostgreSQL role must be allowed to create databases and to run CHECKPOINT. The exit
code is 1 when a run was void: a contestant failed, or ran an event twice or not at all.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.machine import inspect_machine
from benchmarks.model import COLOURS
from benchmarks.plots import draw
from benchmarks.report import Line, explain, render, summarise, write_json
from benchmarks.runs import Plan, Run, run_plan
from benchmarks.selection import choose, left_out
from benchmarks.servers import Servers, open_servers
from benchmarks.workloads import KINDS, WORKLOADS


def main() -> int:
    """Run the suite and return the exit code."""
    parser = _parser()
    options = parser.parse_args()
    if options.list:
        _list()
        return 0
    try:
        plans = choose(options)
    except ValueError as error:
        parser.error(str(error))
    with ExitStack() as stack:
        servers = open_servers(stack, options.kafka, options.postgres)
        machine = inspect_machine(servers.postgres)
        _say(machine.describe())
        lines, runs = _run_all(plans, servers)
    omitted = left_out(options, plans)
    if omitted:
        _say(f"Left out of a quick run (--full runs all): {', '.join(omitted)}.")
    if options.json:
        write_json(options.json, machine, lines, runs)
    if options.plots:
        _say(draw(options.plots, lines, machine.describe()))
    return 1 if any(run.void for run in runs) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--full", action="store_true", help="all workloads, at their full size")
    parser.add_argument("--list", action="store_true", help="name all workloads and end")
    parser.add_argument("--workload", action="append", choices=sorted(WORKLOADS), help="may be repeated")
    kinds = [kind.__name__.rpartition(".")[2] for kind in KINDS]
    parser.add_argument("--kind", action="append", choices=kinds, help="may be repeated")
    parser.add_argument("--contestant", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--colour", action="append", choices=COLOURS)
    parser.add_argument("--count", type=_positive, help="events, workflows or calls of each run")
    parser.add_argument("--rounds", type=_positive)
    parser.add_argument("--history", type=_positive, metavar="N", help="finished workflows of `history`")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="default: start a broker")
    parser.add_argument("--postgres", metavar="URL", help="default: start a server")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a run")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw SVG files; needs matplotlib")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _list() -> None:
    for workload in WORKLOADS.values():
        quick = "quick" if workload.quick else "     "
        _say(f"{workload.kind:9} {quick}  {workload.name:24} {workload.title}")


def _run_all(plans: list[Plan], servers: Servers) -> tuple[list[Line], list[Run]]:
    all_lines: list[Line] = []
    all_runs: list[Run] = []
    for plan in plans:
        runs = _run(plan, servers)
        lines = summarise(plan, runs)
        _say(f"\n{render(plan, lines, runs)}{explain(plan.workload)}\n")
        all_lines += lines
        all_runs += runs
    return all_lines, all_runs


def _run(plan: Plan, servers: Servers) -> list[Run]:
    runs = []
    head = plan.workload.headline
    for run in run_plan(plan, servers):
        number = run.metrics.get(head.metric)
        measured = f"{format(number, head.form)} {head.title}" if number is not None else "no result"
        said = (run.void or measured).splitlines()[-1]
        _say(f"{run.workload}, round {run.round + 1}, {run.contestant} {run.colour}: {said}")
        runs.append(run)
    return runs


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
