"""Sleeping workflows: what they cost while nothing happens, and how late they wake."""

from __future__ import annotations

from benchmarks.model import ASYNC, CPU, PEER, RATE, Column, Contestant, Size, Workload

COLUMNS = (
    Column("memory_kib_each", "KiB each", ",.1f"),
    Column("memory_mib", "MiB in all"),
    Column("threads", "threads"),
    Column("idle_cpu_percent", "idle CPU %", ".1f"),
    Column("late_p50_ms", "late p50 ms", ",.1f"),
    Column("late_p99_ms", "late p99 ms", ",.1f"),
    Column("put_to_sleep_per_second", "put to sleep/s"),
)
PEERS_WAKERS, WAKERS = 100, 1_000

SLEEPERS = Workload(
    name="sleepers",
    kind="waiting",
    title="Workflows that sleep for a day, and some among them that wake",
    contestants=(
        Contestant(
            "dbos",
            "sleepers",
            framework=PEER,
            share=0.01,
            options={"wakers": PEERS_WAKERS},
            extra_executions=PEERS_WAKERS,
        ),
        Contestant("ours", "sleepers", options={"wakers": WAKERS}, extra_executions=WAKERS),
    ),
    columns=COLUMNS,
    full=Size(100_000),
    better="less",
)

PARKED = Workload(
    name="parked-receivers",
    kind="waiting",
    title="Receivers that wait as rows, and a message to each of them",
    contestants=(Contestant("ours", "parked"),),
    baseline="ours",
    columns=(
        Column("memory_mib", "MiB in all", ",.1f"),
        Column("threads", "threads"),
        Column("idle_cpu_percent", "idle CPU %", ".1f"),
        Column("parked_per_second", "parked/s"),
        Column("sent_per_second", "sent/s"),
        Column(RATE.metric, "received/s"),
        CPU,
    ),
    full=Size(100_000),
    quick=Size(5_000, colours=ASYNC),
)

WORKLOADS = (SLEEPERS, PARKED)
