"""How soon a record reaches its handler, with a producer that never waits for the consumer."""

from __future__ import annotations

from benchmarks.model import ASYNC, PEER, Column, Contestant, Size, Topic, Workload

COLUMNS = (
    Column("p50_ms", "p50 ms", ",.1f"),
    Column("p99_ms", "p99 ms", ",.1f"),
    Column("p999_ms", "p99.9 ms", ",.1f"),
    Column("sent_per_second", "sent/s"),
)
WARM_UP = 3
BACKLOG = {"ours": 20_000, "dbos": 500, "handwritten": 4_000}


def _contestants(*, half: bool) -> tuple[Contestant, ...]:
    made = []
    for name, module, share in (
        ("dbos", "latency", 0.1),
        ("ours", "latency", 1.0),
        ("handwritten", "handwritten_latency", 0.5),
    ):
        backlog = BACKLOG[name] if half else 0
        made.append(
            Contestant(
                name,
                module,
                framework=PEER if name == "dbos" else "dbos_events",
                share=share if half else 1.0,
                minimum=100,
                options={"backlog": backlog},
                extra_executions=WARM_UP + backlog,
            )
        )
    return tuple(made)


QUIET = Workload(
    name="latency-quiet",
    kind="latency",
    title="Record to handler on a quiet topic, 5 records/s at random times",
    contestants=_contestants(half=False),
    columns=COLUMNS,
    full=Size(1_000),
    quick=Size(100, colours=ASYNC),
    better="less",
    topic=Topic(filled=False),
)

HALF_LOAD = Workload(
    name="latency-half-load",
    kind="latency",
    title="Record to handler at half of the contestant's own rate, which a backlog shows first",
    contestants=_contestants(half=True),
    columns=COLUMNS,
    full=Size(30_000, 3),
    better="less",
    topic=Topic(filled=False),
)

WORKLOADS = (QUIET, HALF_LOAD)
