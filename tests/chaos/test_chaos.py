"""Every event ends once and in its order, whatever happens to processes, servers, and the connections in between.

A short run of `make chaos`. Its seed is drawn and printed; `DBOS_EVENTS_FAULT_SEED=n` repeats one.
"""

import os
import random
from pathlib import Path

import pytest

from tests.chaos.plan import Plan
from tests.chaos.run import Run

SECONDS = 36.0
"""Time for one fault of each kind."""


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.kafka
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("ordering", "handler", "protocol"),
    [("partition", "async", "cooperative"), ("key", "sync", "broker-assigned")],
)
def test_every_event_ends_once_and_in_its_order_whatever_happens(
    ordering: str, handler: str, protocol: str, tmp_path: Path
) -> None:
    plan = Plan(
        events=2500,
        processes=3,
        partitions=6,
        keys=120,
        seconds=SECONDS,
        seed=int(os.environ.get("DBOS_EVENTS_FAULT_SEED", "0")) or random.randrange(1, 1_000_000),
        talking=0.1,
        ordering=ordering,
        handler=handler,
        protocol=protocol,
        folder=str(tmp_path / "chaos"),
    )
    print(f"seed {plan.seed}: DBOS_EVENTS_FAULT_SEED={plan.seed} repeats it, and {plan.command}")
    report = Run(plan).carry_out()
    print(report)
    assert report.passed, str(report.findings)
