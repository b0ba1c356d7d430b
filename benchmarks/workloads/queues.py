"""Queues: how soon what is enqueued starts, how fast a queue drains."""

from __future__ import annotations

from benchmarks.model import COSTS, CPU, PEER, Column, Contestant, Size, Workload

LATENCY = (Column("p50_ms", "p50 ms", ",.1f"), Column("p99_ms", "p99 ms", ",.1f"))
PEERS_POLL_MS = 1_000


def _pick_up(name: str, title: str, mode: str, quick: Size | None) -> Workload:
    return Workload(
        name=name,
        kind="queues",
        title=title,
        contestants=(
            # Pauses as long as its poll, so that the moment of enqueueing has no phase.
            Contestant(
                "dbos",
                "queues",
                framework=PEER,
                share=0.2,
                minimum=10,
                options={"mode": mode, "pause_ms": PEERS_POLL_MS},
                colours=("sync",),
            ),
            Contestant("ours", "queues", options={"mode": mode, "pause_ms": 100}, colours=("sync",)),
        ),
        columns=LATENCY,
        full=Size(500),
        quick=quick,
        better="less",
    )


def drain(share: float, flavour: str = "plain") -> tuple[Contestant, ...]:
    """Return us and the peer enqueueing and running."""
    options = {"mode": "drain", "flavour": flavour}
    return (
        Contestant("dbos", "queues", framework=PEER, share=share, options=options, colours=("sync",)),
        Contestant("ours", "queues", options=options, colours=("sync",)),
    )


DRAIN_COLUMNS = (
    Column("per_second", "workflows/s"),
    Column("enqueued_per_second", "enqueued/s"),
    CPU,
)

WORKLOADS = (
    _pick_up("queue-pick-up", "Enqueue to start on an idle queue, within one process", "pick-up", Size(60)),
    _pick_up(
        "queue-across", "Enqueue to start on an idle queue, from one process to another", "across", None
    ),
    Workload(
        name="queue-drain",
        kind="queues",
        title="Workflows enqueued by 32 threads and run by the same process, first enqueue to last outcome",
        contestants=drain(0.05),
        columns=(*DRAIN_COLUMNS, *COSTS),
        full=Size(20_000, 3),
        quick=Size(4_000),
    ),
    Workload(
        name="queue-drain-priority",
        kind="queues",
        title="The same with ten priorities",
        contestants=drain(0.05, "priority"),
        columns=(*DRAIN_COLUMNS, *COSTS),
        full=Size(20_000, 3),
        quick=None,
    ),
    Workload(
        name="queue-drain-partitions",
        kind="queues",
        title="The same with sixteen partitions, of which each runs four at once",
        contestants=drain(0.05, "partitions"),
        columns=(*DRAIN_COLUMNS, *COSTS),
        full=Size(20_000, 3),
        quick=None,
    ),
)
