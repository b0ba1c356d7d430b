"""How long the machines run: a share of `make test`, or as long as DBOS_EVENTS_MODEL_MINUTES says."""

from __future__ import annotations

import os
import time
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

MINUTES = "DBOS_EVENTS_MODEL_MINUTES"
LONG = float(os.environ.get(MINUTES, "0"))


def run(machine: Any, *, examples: int, steps: int) -> None:
    """Run a machine with new random numbers each time; what fails prints a blob that repeats it.

    With DBOS_EVENTS_MODEL_MINUTES it goes on for so long, and each example has twice the steps.
    """
    kind: type[RuleBasedStateMachine] = machine
    until = time.monotonic() + LONG * 60
    while True:
        run_state_machine_as_test(
            kind,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps if not LONG else 2 * steps,
                deadline=None,
                derandomize=False,
                print_blob=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        if time.monotonic() >= until:
            return
