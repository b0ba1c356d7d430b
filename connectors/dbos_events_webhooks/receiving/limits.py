"""What a request may cost before it has proved anything."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from dbos_events.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold for all endpoints of a receiver.

    Args:
        body_seconds: How long a body may take from its first byte to its last; then 408.
        requests: How many requests may be at work at once; what comes beyond gets 429.
        buffered_bytes: How many bytes of bodies may be in memory at once; what would go beyond gets 429.
        store_seconds: How long the database may take to store the events of a request; then 503. The
            tightest sender waits for 3 s in all.
        lookup_seconds: How long a function that finds secrets may take; then 503.
        retry_after_seconds: What a sender is told that gets 429 or 503.
    """

    body_seconds: float = 10.0
    requests: int = 1000
    buffered_bytes: int = 256 * 1024 * 1024
    store_seconds: float = 2.5
    lookup_seconds: float = 2.0
    retry_after_seconds: int = 5

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigurationError(f"Limits: {name} is {value!r}. It has to be a number above 0.")


class Load:
    """How much is at work, over all loops that serve one receiver."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Condition()
        self.requests = 0
        self.bytes = 0

    def enter(self) -> bool:
        """Count a request; False where there are too many already, and nothing is counted."""
        with self._lock:
            if self.requests >= self._limits.requests:
                return False
            self.requests += 1
            return True

    def leave(self, held: int) -> None:
        """A request has been answered, and its body is let go."""
        with self._lock:
            self.requests -= 1
            self.bytes -= held
            if not self.requests:
                self._lock.notify_all()

    def wait_empty(self, seconds: float) -> None:
        """Wait until nothing is at work, at most `seconds`."""
        with self._lock:
            self._lock.wait_for(lambda: not self.requests, max(0.0, seconds))

    def hold(self, size: int) -> bool:
        """Count bytes that are kept; False where they are too many, and they are not counted."""
        with self._lock:
            if self.bytes + size > self._limits.buffered_bytes:
                return False
            self.bytes += size
            return True
