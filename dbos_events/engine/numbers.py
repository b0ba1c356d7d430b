"""The numbers that a process gives to what it writes."""

from __future__ import annotations

import itertools
import random


class Numbers:
    """Two counts of one engine. Taking the next one of either is atomic."""

    def __init__(self) -> None:
        self.of_writes = itertools.count(1)
        """Of writes: no executor uses one twice."""
        self.of_starts = itertools.count(random.SystemRandom().getrandbits(62))
        """Of starts of workflows: no process has one of another's.

        They begin anywhere among 4.6e18, and are not made of the executor's number, which is as long as the column.
        """
