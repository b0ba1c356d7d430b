"""Publications and waits that found no partner, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.control.signals import Tell, tell_nobody, this_operator
from dbos_events.errors import DBOSException
from dbos_events.storage.subjects.quarantine import OperatorDecision

if TYPE_CHECKING:
    from dbos_events.model.publication import UnmatchedPublication, UnmatchedWait
    from dbos_events.serialization import Codecs
    from dbos_events.storage.protocol import Storage

LONGEST = 500


class MatchControl:
    """What an operator may ask and do about publications; needs no registered functions."""

    def __init__(self, storage: Storage, codecs: Codecs, *, tell: Tell = tell_nobody) -> None:
        self._storage = storage
        self._codecs = codecs
        self._tell = tell

    def unmatched(
        self, application: str | None = None, name: str | None = None, count: int = 100
    ) -> tuple[list[UnmatchedPublication], list[UnmatchedWait]]:
        """Publications that nobody has seen, open or expired, and calls that wait; each oldest first."""
        return self._storage.publications.unmatched(application, name, count)

    def counts(self, application: str | None = None) -> dict[str, dict[str, int]]:
        """By name, how many publications are open, seen, taken, over, expired or discarded."""
        return self._storage.publications.counts(application)

    def force(
        self,
        number: int,
        *,
        key: str | None = None,
        ttl_seconds: float | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Open a publication again, for `ttl_seconds` or for ever; under another key where one is given.

        Raises:
            DBOSException: There is none of that number, or somebody has taken it.
        """
        if key is not None and (not key or "\0" in key or len(key) > LONGEST):
            raise DBOSException(f"A key is a text of 1 to {LONGEST} characters, not {key!r}.")
        details = {"number": number, "key": key, "ttl_seconds": ttl_seconds}
        decision = OperatorDecision(by or this_operator(), reason, details)
        ttl_ms = None if ttl_seconds is None else round(ttl_seconds * 1000)
        anchor = self._storage.publications.force(number, key, ttl_ms, decision)
        if anchor is None:
            raise DBOSException(f"Publication {number} is taken, or over: it has found its partner.")
        self._tell([f"anchor:{anchor}", "timers", "expiry"])

    def discard(self, number: int, *, by: str | None = None, reason: str | None = None) -> None:
        """Give a publication up that found nobody.

        Raises:
            DBOSException: There is none of that number, or it is neither open nor expired.
        """
        decision = OperatorDecision(by or this_operator(), reason, {"number": number})
        if not self._storage.publications.discard(number, decision):
            raise DBOSException(
                f"Publication {number} is neither open nor expired: there is nothing to give up."
            )
