"""All workloads, by name: a file for each kind."""

from __future__ import annotations

from benchmarks.workloads import (
    intake,
    latency,
    published,
    queues,
    restarts,
    schedules,
    sqlite,
    steps,
    talking,
    waiting,
)

KINDS = (intake, latency, steps, queues, waiting, talking, schedules, published, restarts, sqlite)
"""The order in which they run."""

WORKLOADS = {workload.name: workload for kind in KINDS for workload in kind.WORKLOADS}
