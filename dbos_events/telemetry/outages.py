"""What waits for the database, for health: said while it lasts, and gone when it is over."""

from __future__ import annotations

import threading
import time

from dbos_events.telemetry.log import redact

SHOWN_AFTER = 0.5
"""Seconds; a conflict between two transactions is over before."""


class Outages:
    """Who waits, since when, and why. Any thread may tell and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[object, tuple[float, str, str]] = {}

    def waits(self, key: object, who: str, why: object) -> None:
        """`who` waits, as it may have done before under this key."""
        with self._lock:
            since = self._waits[key][0] if key in self._waits else time.monotonic()
            self._waits[key] = (since, who, redact(str(why)))

    def over(self, key: object) -> None:
        """It does not wait any more."""
        if key in self._waits:
            with self._lock:
                self._waits.pop(key, None)

    @property
    def problems(self) -> list[str]:
        """One line for each of those who wait, and each reason that they give."""
        shown = time.monotonic() - SHOWN_AFTER
        with self._lock:
            found = [(who, why) for since, who, why in self._waits.values() if since <= shown]
        return [f"{who}: {why}" for who, why in dict.fromkeys(found)]
