"""Kafka records to a handler: steps, orders, keys, payloads, one process and two."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.model import ASYNC, COSTS, CPU, PEER, RATE, Contestant, Size, Topic, Workload

COLUMNS = (RATE, CPU, *COSTS)

OURS = Contestant("ours", "intake")
DBOS = Contestant("dbos", "intake", framework=PEER, share=0.03, minimum=300)
HANDWRITTEN = Contestant("handwritten", "handwritten", share=0.2, minimum=500)
SQL_ONLY = Contestant("sql_only", "sql_only", colours=("sync",), reads_topic=False)

ONE_STEP = Workload(
    name="kafka-1-step",
    kind="intake",
    title="Kafka record to a handler with 1 step, values of 100 bytes, 4 partitions",
    contestants=(DBOS, OURS, HANDWRITTEN, SQL_ONLY),
    columns=COLUMNS,
    full=Size(50_000, 3),
    quick=Size(40_000),
    limit="sql_only",
    topic=Topic(),
    options={"steps": 1},
)


def _steps(steps: int) -> Workload:
    return replace(
        ONE_STEP,
        name=f"kafka-{steps}-steps",
        title=f"Kafka record to a handler with {steps} steps",
        contestants=(DBOS, OURS, HANDWRITTEN),
        limit=None,
        full=Size(30_000, 3),
        quick=None,
        options={"steps": steps},
    )


def _by_partition(partitions: int, quick: Size | None) -> Workload:
    order = {"ordering": "partition"}
    return Workload(
        name=f"by-partition-{partitions}",
        kind="intake",
        title=f"Each partition's events one after the other, {partitions} partitions, 1 step",
        contestants=(
            replace(DBOS, share=0.003, minimum=5 * partitions, options=order),
            replace(OURS, share=0.4, options=order),
            replace(HANDWRITTEN, share=0.2, options={"workers": partitions}),
        ),
        columns=COLUMNS,
        full=Size(30_000, 3),
        quick=quick,
        topic=Topic(partitions=partitions, keys=1_024),
        options={"steps": 1},
    )


def _by_key(keys: int, *, skewed: bool, quick: Size | None) -> Workload:
    how = "a few of them with most events (Zipf)" if skewed else "all alike"
    return Workload(
        name=f"by-key-{keys}{'-skewed' if skewed else ''}",
        kind="intake",
        title=f"Each key's events one after the other, {keys:,} keys, {how}, beside unordered",
        contestants=(
            replace(OURS, name="unordered"),
            replace(OURS, name="by_key", options={"ordering": "key"}),
        ),
        columns=COLUMNS,
        full=Size(50_000, 3),
        quick=quick,
        baseline="unordered",
        topic=Topic(keys=keys, skewed=skewed),
        options={"steps": 1},
    )


def _payload(label: str, value_bytes: int, share: float, full: Size) -> Workload:
    return Workload(
        name=f"payload-{label.replace(' ', '').lower()}",
        kind="intake",
        title=f"Kafka record to a handler with 1 step, values of {label}",
        contestants=(replace(DBOS, share=share, minimum=60), OURS, replace(HANDWRITTEN, minimum=60)),
        columns=COLUMNS,
        full=full,
        topic=Topic(value_bytes=value_bytes),
        options={"steps": 1},
    )


TWO_PROCESSES = replace(
    ONE_STEP,
    name="kafka-2-processes",
    title="Kafka record to a handler with 1 step, shared by two processes of one group",
    contestants=(DBOS, OURS, HANDWRITTEN),
    limit=None,
    full=Size(50_000, 3),
    quick=None,
    processes=2,
)

WORKLOADS = (
    _steps(0),
    ONE_STEP,
    _steps(5),
    _by_partition(4, Size(20_000, colours=ASYNC)),
    _by_partition(32, None),
    _by_key(1_000, skewed=False, quick=Size(40_000, colours=ASYNC)),
    _by_key(1_000, skewed=True, quick=None),
    _by_key(100_000, skewed=False, quick=None),
    _by_key(100_000, skewed=True, quick=None),
    _payload("10 KB", 10_000, 0.05, Size(10_000, 3)),
    _payload("1 MB", 1_000_000, 0.3, Size(400, 3)),
    TWO_PROCESSES,
)
