"""What a request may cost before it has proved anything."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass


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
        reply_seconds: How long a function may take that makes a reply; then the sender hears our own words.
        retry_after_seconds: What a sender is told that gets 429 or 503.
    """

    body_seconds: float = 10.0
    requests: int = 1000
    buffered_bytes: int = 256 * 1024 * 1024
    store_seconds: float = 2.5
    lookup_seconds: float = 2.0
    reply_seconds: float = 2.0
    retry_after_seconds: int = 5

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigurationError(f"Limits: {name} is {value!r}. It has to be a number above 0.")

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Limits:
        """From the settings of the section `webhooks`, where values may be text.

        Raises:
            ConfigurationError: There is no such limit, or its value is not a number above 0.
        """
        known = {each.name: each.type for each in fields(cls)}
        given: dict[str, Any] = {}
        for key, value in settings.items():
            name = key.lower()
            if name not in known:
                raise ConfigurationError(
                    f"The configuration is not usable. webhooks.{key}: there is no such limit. There are: "
                    f"{', '.join(sorted(known))}."
                )
            try:
                given[name] = (int if known[name] == "int" else float)(value)
            except (TypeError, ValueError):
                raise ConfigurationError(
                    f"The configuration is not usable. webhooks.{name}: it has to be a number above 0."
                ) from None
        return cls(**given)


class Load:
    """How much is at work, over all loops that serve one receiver."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Condition()
        self.requests = 0
        self.bytes = 0

    def enter(self) -> bool:
        """Count a request; False where there are too many already, and nothing is counted."""
        with self._lock:
            if self.requests >= self.limits.requests:
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
            if self.bytes + size > self.limits.buffered_bytes:
                return False
            self.bytes += size
            return True
