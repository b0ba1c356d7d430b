"""Steps without a broker: one workflow's in sequence, those of many workflows at once."""

from __future__ import annotations

from benchmarks.model import ASYNC, COSTS, CPU, PEER, RATE, Column, Contestant, Size, Workload

STEPS_RATE = Column(RATE.metric, "steps/s")


def contestants(steps: int, share: float) -> tuple[Contestant, ...]:
    """Return us and the peer with workflows of so many steps."""
    options = {"steps": steps}
    return (
        Contestant(
            "dbos", "steps", framework=PEER, share=share, minimum=1, options=options, executions=steps
        ),
        Contestant("ours", "steps", options=options, executions=steps),
    )


def _sequence(steps: int, *, quick: bool) -> Workload:
    return Workload(
        name=f"sequence-{steps}",
        kind="steps",
        title=f"One workflow with {steps:,} steps in sequence",
        contestants=contestants(steps, 1),
        columns=(STEPS_RATE, CPU, *COSTS),
        full=Size(1, 5),
        quick=Size(1, colours=ASYNC) if quick else None,
    )


AT_ONCE = Workload(
    name="many-workflows",
    kind="steps",
    title="Workflows of 5 steps, all started at once",
    contestants=contestants(5, 0.2),
    columns=(STEPS_RATE, CPU, *COSTS),
    full=Size(1_000, 5),
    quick=Size(1_000, colours=ASYNC),
)

WORKLOADS = (_sequence(1_000, quick=True), AT_ONCE)
