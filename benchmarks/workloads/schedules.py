"""Schedules: how late they fire, and what ten thousand of them cost."""

from __future__ import annotations

from benchmarks.model import PEER, Column, Contestant, Size, Workload

COLUMNS = (
    Column("late_p50_ms", "late p50 ms", ",.1f"),
    Column("late_p99_ms", "late p99 ms", ",.1f"),
    Column("schedules", "schedules"),
    Column("idle_cpu_percent", "more idle CPU %", ".1f"),
    Column("threads", "more threads"),
    Column("memory_mib", "more MiB"),
    Column("made_per_second", "made/s"),
)

EACH_SECOND = Workload(
    name="schedules",
    kind="schedules",
    title="A schedule of each second, and many that do not fire",
    contestants=(
        Contestant("dbos", "schedules", framework=PEER, reads_topic=False, options={"schedules": 200}),
        Contestant("ours", "schedules", reads_topic=False, options={"schedules": 10_000}),
    ),
    columns=COLUMNS,
    full=Size(60),
    better="less",
)

WORKLOADS = (EACH_SECOND,)
