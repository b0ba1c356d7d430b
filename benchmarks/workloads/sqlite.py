"""On SQLite, for both of us that have it: one file, one writer at a time."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.model import ASYNC, CPU, RATE, Size, Workload
from benchmarks.workloads.intake import DBOS, ONE_STEP, OURS
from benchmarks.workloads.queues import DRAIN_COLUMNS, drain
from benchmarks.workloads.steps import STEPS_RATE, contestants

KAFKA = replace(
    ONE_STEP,
    name="sqlite-kafka",
    kind="sqlite",
    title="SQLite: Kafka record to a handler with 1 step",
    contestants=(DBOS, OURS),
    columns=(RATE, CPU),
    full=Size(20_000, 3),
    quick=Size(3_000, colours=ASYNC),
    limit=None,
    database="sqlite",
)

SEQUENCE = Workload(
    name="sqlite-sequence",
    kind="sqlite",
    title="SQLite: one workflow with 1,000 steps in sequence",
    contestants=contestants(1_000, 1),
    columns=(STEPS_RATE, CPU),
    full=Size(1, 5),
    database="sqlite",
)

AT_ONCE = replace(
    SEQUENCE,
    name="sqlite-many-workflows",
    title="SQLite: workflows of 5 steps, all started at once",
    contestants=contestants(5, 0.2),
    full=Size(1_000, 5),
)

DRAIN = Workload(
    name="sqlite-queue-drain",
    kind="sqlite",
    title="SQLite: workflows enqueued by 32 threads and run by the same process",
    contestants=drain(0.1),
    columns=DRAIN_COLUMNS,
    full=Size(5_000, 3),
    database="sqlite",
)

WORKLOADS = (KAFKA, SEQUENCE, AT_ONCE, DRAIN)
