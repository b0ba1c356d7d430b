"""Measure us, the peer and a hand-written loop in one run, on the same servers.

    python -m benchmarks                                   own servers, all contestants
    python -m benchmarks --kafka HOST:PORT --postgres URL  servers that are there
    python -m benchmarks --contestant ours --colour sync --events 20000 --rounds 1

The PostgreSQL role must be allowed to create databases and to run CHECKPOINT. The exit
code is 1 when a run was void: a contestant failed, or ran an event twice or not at all.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.machine import inspect_machine
from benchmarks.report import render, summarise, write_json
from benchmarks.runs import Plan, Run, run_plan
from benchmarks.servers import Servers, open_servers
from benchmarks.workloads import COLOURS, ONE_STEP, WORKLOADS


def main() -> int:
    """Run the suite and return the exit code."""
    parser = _parser()
    options = parser.parse_args()
    try:
        plan = _plan(options)
    except ValueError as error:
        parser.error(str(error))
    with ExitStack() as stack:
        servers = open_servers(stack, options.kafka, options.postgres)
        machine = inspect_machine(servers.postgres)
        _say(machine.describe())
        runs = _run(plan, servers)
    lines = summarise(plan, runs)
    _say(f"\n{render(plan, lines, runs)}")
    if options.json:
        write_json(options.json, machine, lines, runs)
    return 1 if any(run.void for run in runs) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kafka", metavar="HOST:PORT", help="default: start a broker")
    parser.add_argument("--postgres", metavar="URL", help="default: start a server")
    parser.add_argument("--events", type=_positive, default=50_000)
    parser.add_argument("--rounds", type=_positive, default=3)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default=ONE_STEP.name)
    parser.add_argument("--contestant", action="append", metavar="NAME")
    parser.add_argument("--colour", action="append", choices=COLOURS)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a run")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _plan(options: argparse.Namespace) -> Plan:
    workload = WORKLOADS[options.workload]
    return Plan(
        workload=workload,
        events=options.events,
        rounds=options.rounds,
        timeout=options.timeout,
        contestants=workload.select(options.contestant),
        colours=tuple(options.colour or COLOURS),
    )


def _run(plan: Plan, servers: Servers) -> list[Run]:
    runs = []
    for run in run_plan(plan, servers):
        result = run.void or f"{run.events_per_second:,.0f}/s"
        _say(f"round {run.round + 1} {run.contestant} {run.colour}: {result.splitlines()[-1]}")
        runs.append(run)
    return runs


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
