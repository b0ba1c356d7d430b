"""How much a consumer may take in now."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Gate:
    """Open, closed with a reason, or ajar for one trial event.

    Moved by the consumers service, asked by the intake thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed_by = ""
        self._trial: int | None = None
        self._admitted: tuple[int, str] | None = None
        self.wanted = False
        """Records have been waiting since the gate was closed: a trial would have something to try."""

    @property
    def closed_by(self) -> str:
        """Why nothing is taken in; empty when something is."""
        return "" if self._trial is not None else self._closed_by

    @property
    def trying(self) -> bool:
        """Whether the next event is a trial: it should be one that can run at once."""
        return self._trial is not None

    def admits(self, count: int) -> int:
        """How many of `count` records may come in."""
        if self._trial is not None:
            return min(1, count)
        return 0 if self._closed_by else count

    def wait(self, seconds: float) -> bool:
        """Note that records wait, and wait for the gate to move, at most `seconds`; False when it is open."""
        with self._changed:
            if self._trial is not None or not self._closed_by:
                return False
            self.wanted = True
            self._changed.wait(seconds)
            return True

    def open(self) -> None:
        with self._changed:
            self._closed_by, self._trial, self.wanted = "", None, False
            self._changed.notify_all()

    def close(self, reason: str) -> None:
        with self._changed:
            self._closed_by, self._trial = reason, None

    def try_one(self, epoch: int, reason: str) -> None:
        """Let one event in as the trial of this epoch, unless it is in already; then stay closed."""
        with self._changed:
            self._closed_by = reason
            if self._admitted is not None and self._admitted[0] == epoch:
                return
            self._trial = epoch
            self._changed.notify_all()

    def admitted(self, workflow_ids: Iterable[str]) -> bool:
        """Events were taken in; True when the first of them is the trial, which `trial` gives."""
        if self._trial is None:
            return False
        first = next(iter(workflow_ids), None)
        if first is None:
            return False
        with self._changed:
            if self._trial is None:
                return False
            self._admitted = (self._trial, first)
            self._trial, self.wanted = None, False
            return True

    @property
    def trial(self) -> tuple[int, str] | None:
        """The last trial that was let in here: the breaker's epoch, and the id of the event's workflow."""
        return self._admitted
