"""The garbage collector of a process that starts thousands of workflows a second.

Python looks for cycles after each 700 new containers, which an event or two make; a third of the
time per event went there (docs/performance.md). Runs hold no cycles, so looking less often costs
nothing: memory is freed by reference counts all the same.
"""

from __future__ import annotations

import gc

PYTHONS_OWN = (700, 10, 10)
OURS = (50_000, 20, 20)
"""A thousand events that are on their way have about 25,000 containers, and are freed without being looked at."""


def tune_collector() -> None:
    """Look for cycles less often, and never again in what is loaded already.

    A program that has set thresholds of its own keeps them.
    """
    if gc.isenabled() and gc.get_threshold() == PYTHONS_OWN:
        gc.freeze()
        gc.set_threshold(*OURS)
