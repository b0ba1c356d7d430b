"""What waits for the database, for health: said while it lasts, and gone when it is over."""

from __future__ import annotations

import threading
import time

from dbos_events.errors import StorageUnavailable
from dbos_events.telemetry.log import Recurring, redact

SHOWN_AFTER = 0.5
"""Seconds; a conflict between two transactions is over before."""


_SOMEBODY = object()
"""Stands for those who ask no more: whoever is answered next speaks for them."""


class Outages:
    """Who waits, since when, and why. Any thread may tell and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[object, tuple[float, str, str]] = {}
        self._away: set[object] = set()
        self._away_since = 0.0
        self._voice = Recurring()

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

    def away(self, key: object, why: object) -> None:
        """The server cannot be reached, as one of many has noticed: that is said once for all of them."""
        with self._lock:
            if not self._away:
                self._away_since = time.monotonic()
            self._away.add(key)
        self._voice.say(
            "The database does not answer: %s What needs it waits, and goes on by itself when it answers.",
            why,
        )

    def noticed(self, key: object, error: BaseException, who: str, why: object) -> bool:
        """As `waits`; and as `away`, where that is what the error says. Gives whether it is."""
        self.waits(key, who, why)
        found = isinstance(error, StorageUnavailable) and error.away
        if found:
            self.away(key, why)
        return found

    def answered(self, key: object) -> None:
        """The database has answered this one: it neither waits nor finds the server away."""
        self.over(key)
        self.back(key)

    def back(self, key: object) -> None:
        """It answers this one again; when it answers all, that is said."""
        if not self._away:
            return
        with self._lock:
            if not self._away:
                return
            self._away -= {key, _SOMEBODY}
            seconds = time.monotonic() - self._away_since
            over = not self._away
        if over:
            self._voice.over("The database answers again, after %.0f s; everything goes on.", seconds)

    def forget(self, key: object) -> None:
        """This one asks no more, and has not heard whether the database answers."""
        with self._lock:
            if key in self._away:
                self._away.discard(key)
                self._away.add(_SOMEBODY)

    @property
    def problems(self) -> list[str]:
        """One line for each of those who wait, and each reason that they give."""
        shown = time.monotonic() - SHOWN_AFTER
        with self._lock:
            found = [(who, why) for since, who, why in self._waits.values() if since <= shown]
        return [f"{who}: {why}" for who, why in dict.fromkeys(found)]
