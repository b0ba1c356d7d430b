"""Messages: how soon one arrives, how fast two workflows answer each other, how many mailboxes take."""

from __future__ import annotations

from benchmarks.contestants.talking import ANSWERS, ARRIVAL, MAILBOX, WARM_UP
from benchmarks.model import ASYNC, CPU, PEER, RATE, Column, Contestant, Size, Workload


def _contestants(what: int, share: float, extra: int = 0) -> tuple[Contestant, ...]:
    options = {"what": what}
    return (
        Contestant(
            "dbos",
            "talking",
            framework=PEER,
            share=share,
            minimum=10,
            options=options,
            extra_executions=extra,
        ),
        Contestant("ours", "talking", options=options, extra_executions=extra),
    )


WORKLOADS = (
    Workload(
        name="message-arrival",
        kind="talking",
        title="A message from outside to a workflow that waits for it",
        contestants=_contestants(ARRIVAL, 1, WARM_UP),
        columns=(Column("p50_ms", "p50 ms", ",.1f"), Column("p99_ms", "p99 ms", ",.1f")),
        full=Size(500),
        quick=Size(100, colours=ASYNC),
        better="less",
    ),
    Workload(
        name="message-answers",
        kind="talking",
        title="Two workflows that answer each other",
        contestants=_contestants(ANSWERS, 0.2),
        columns=(Column(RATE.metric, "rounds/s"), CPU),
        full=Size(2_000),
        quick=Size(500, colours=ASYNC),
    ),
    Workload(
        name="message-mailboxes",
        kind="talking",
        title="Waiting workflows that get 10 messages each from 4 threads",
        contestants=_contestants(MAILBOX, 0.2),
        columns=(Column("sent_per_second", "sent/s"), Column(RATE.metric, "received/s"), CPU),
        full=Size(1_000),
        quick=Size(500, colours=ASYNC),
    ),
)
