"""Durable queues as they are declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict


class QueueRateLimit(TypedDict):
    """At most `limit` starts within any `period` seconds, over all processes."""

    limit: int
    period: float


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The limits of one queue; None means no limit.

    Args:
        concurrency: Workflows of the queue that run at once, over all processes.
        worker_concurrency: The same within one process.
        limiter: Starts per period, over all processes.
    """

    concurrency: int | None = None
    worker_concurrency: int | None = None
    limiter: QueueRateLimit | None = None

    @property
    def shared(self) -> bool:
        """Whether processes must agree before each claim."""
        return self.concurrency is not None or self.limiter is not None


def channel_of(queue: str) -> str:
    """The signal that something was put on a queue."""
    return f"queue:{queue}"
