"""Starting and starting again: a new process, a killed one, a database with a long history."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.model import CPU, PEER, RATE, Column, Contestant, Size, Workload
from benchmarks.workloads.intake import ONE_STEP, OURS

HISTORY = {"quick": 1_000_000, "full": 10_000_000}

RECOVERY = Workload(
    name="recovery",
    kind="restarts",
    title="Unfinished workflows of a killed process, from the next start until all have ended",
    contestants=(
        Contestant(
            "dbos", "recovery", framework=PEER, share=0.1, minimum=100, colours=("async",), executions=2
        ),
        Contestant("ours", "recovery", colours=("async",), executions=2),
    ),
    columns=(
        Column("per_second", "workflows/s"),
        Column("recovery_seconds", "seconds", ",.1f"),
        Column("launch_seconds", "launch s", ",.2f"),
        CPU,
    ),
    full=Size(10_000, 3),
    quick=Size(1_000),
)

START = Workload(
    name="start",
    kind="restarts",
    title="A new process on a schema that is there",
    contestants=(
        Contestant("dbos", "startup", framework=PEER, colours=("sync",)),
        Contestant("ours", "startup", colours=("sync",)),
    ),
    columns=(
        Column("ready_ms", "ready ms"),
        Column("import_ms", "import ms"),
        Column("launch_ms", "launch ms"),
    ),
    full=Size(10),
    quick=Size(3),
    better="less",
)

HISTORY_BESIDE_NONE = Workload(
    name="history",
    kind="restarts",
    title="Kafka record to a handler with 1 step, in an empty database and among millions that have finished",
    contestants=(
        replace(OURS, name="empty", colours=("async",), options={"history": 0}),
        replace(OURS, name="full", colours=("async",), options={"history": HISTORY["full"]}),
    ),
    columns=(RATE, CPU),
    full=Size(50_000, 3),
    baseline="empty",
    topic=ONE_STEP.topic,
    options={"steps": 1},
)

WORKLOADS = (RECOVERY, START, HISTORY_BESIDE_NONE)
