"""Writes that are tried again after a pause, since nothing can be done instead."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbos_events.engine.committer import Ticket

PAUSE = 2.0


class Later:
    """What says that a run has failed, and was refused itself. Used by the committer's thread."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._due = 0.0

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def put(self, ticket: Ticket) -> None:
        self._tickets.append(ticket)
        self._due = time.monotonic() + PAUSE

    def queue_due(self, queue: deque[Ticket]) -> float | None:
        """Put what is due into `queue`; gives the seconds until something is, None where nothing waits any more."""
        if not self._tickets:
            return None
        left = self._due - time.monotonic()
        if left > 0:
            return left
        queue.extend(self.drop())
        return None

    def drop(self) -> list[Ticket]:
        """Give all that waits, and forget it."""
        tickets, self._tickets = self._tickets, []
        return tickets
