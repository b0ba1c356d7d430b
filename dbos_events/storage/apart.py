"""Rows that the database will not let be taken, found by halving, so that they keep no other row waiting.

What damages one row (a page, a value that the driver cannot decode, a trigger of somebody else) fails every statement that
touches it. A taking of many rows would fail again and again, and none of them would ever run.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from dbos_events.clock import Clock
from dbos_events.errors import BadWrite, StorageError
from dbos_events.model.dataclass import dataclass, field
from dbos_events.serialization.raised import text_of
from dbos_events.storage import errorcodes
from dbos_events.telemetry.log import logger, redact

R = TypeVar("R")
T = TypeVar("T")

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
"""Seconds until what was refused is tried again: at first, and in the end."""

TRIED_WITHIN = 10.0
"""Seconds after which one that was due again has been tried."""

FORGOTTEN_AFTER = 120.0
"""Seconds after which a row that was due again, and was not refused, is not spoken of any more."""

TRIES_AT_ONCE = 64
SECONDS_AT_ONCE = 5.0
"""Bounds of one search: what it has not come to is looked for by the next one."""

TRIES_OF_PASSING = 3
"""How often in a row a lock, or a statement that was cancelled, fails a taking before rows are looked for."""

SHOWN = 10

_OF_ALL_ROWS = ("0A", "3F", "42", "55", "57", "58")


def refuses(error: BaseException) -> bool:
    """Whether the database is well, and something of what it was asked for is to blame."""
    return isinstance(error, BadWrite) or errorcodes.refuses_statement(error)


def passes_by(error: BaseException) -> bool:
    """Whether such a refusal says that somebody was in the way: a lock, a time limit, whoever cancels statements."""
    return _state_of(error).startswith(("55", "57014"))


def concerns_rows(error: BaseException) -> bool:
    """Whether a row may be to blame for what the database refuses: rights, tables and locks concern all of them.

    A defect of ours, or memory that is used up, is no answer of the database.
    """
    if not isinstance(error, StorageError):
        return False
    return refuses(error) and not _state_of(error).startswith(_OF_ALL_ROWS)


def _state_of(error: BaseException) -> str:
    """The SQLSTATE behind an error; empty where PostgreSQL gave none."""
    code = errorcodes.code_of(errorcodes.cause_of(error.__cause__ or error))
    return code if isinstance(code, str) else ""


def after(error: Exception, work: Callable[[], R]) -> Callable[[], R]:
    """`work`, whose first try has failed already: for whoever waits, and tells of each error."""
    failed = [error]

    def again() -> R:
        if failed:
            raise failed.pop()
        return work()

    return again


@dataclass(slots=True)
class _Waiting:
    """Why a row waits apart, until when, how long it waited last, and which kind of taking it fails.

    `quiet` is one that a taking of its kind has passed since it was due again.
    """

    why: str
    until: float
    pause: float
    kind: str
    quiet: bool = False


@dataclass(slots=True)
class Apart:
    """What waits apart in this process, by id. Any thread may ask and tell.

    `what` says what the rows are, `advice` where somebody can look into one of them.
    """

    what: str
    advice: str
    clock: Clock
    _rows: dict[str, _Waiting] = field(default_factory=dict)
    _refusals: dict[str, str] = field(default_factory=dict)
    _passing: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ids(self) -> list[str]:
        """Those that are not to be tried now."""
        if not self._rows:
            return []
        now = self.clock.monotonic()
        with self._lock:
            for id_, row in tuple(self._rows.items()):
                if now - row.until > FORGOTTEN_AFTER:
                    del self._rows[id_]
            return sorted(id_ for id_, row in self._rows.items() if row.until > now)

    def put(self, id_: str, error: BaseException, kind: str = "") -> None:
        """A taking of this kind is refused for this one: tried again after a pause, each time a longer one. Said once."""
        why = _shown(error)
        with self._lock:
            known = self._rows.get(id_)
            pause = FIRST_PAUSE if known is None else min(known.pause * 2, LONGEST_PAUSE)
            self._rows[id_] = _Waiting(why, self.clock.monotonic() + pause, pause, kind)
        if known is None:
            logger.error(
                "The %s %s cannot be taken up, waits apart and is tried again; all others go on. %s: %s",
                self.what, id_, self.advice.format(id=id_), why,
            )  # fmt: skip

    def holds(self, id_: str) -> bool:
        """Whether this one is not to be tried now."""
        row = self._rows.get(id_)
        return row is not None and row.until > self.clock.monotonic()

    def served(self, ids: Collection[str]) -> None:
        """These were taken up after all."""
        if not self._rows:
            return
        with self._lock:
            gone = [id_ for id_ in ids if self._rows.pop(id_, None) is not None]
        for id_ in gone:
            logger.info("The %s %s could be taken up, and waits no more.", self.what, id_)

    def next_due(self) -> int | None:
        """When, by the clock, the next of them is to be tried again; None where none waits."""
        if not self._rows:
            return None
        now = self.clock.monotonic()
        with self._lock:
            left = min((row.until - now for row in self._rows.values() if row.until > now), default=None)
        return None if left is None else self.clock.now_ms() + round(left * 1000) + 1

    @property
    def reasons(self) -> dict[str, str]:
        """Why each of them waits, by id; without those that were to be tried again and were not refused."""
        since = self.clock.monotonic() - TRIED_WITHIN
        with self._lock:
            return {id_: row.why for id_, row in self._rows.items() if row.until > since and not row.quiet}

    @property
    def problems(self) -> list[str]:
        """One line for each of the first, and one for the rest."""
        found = sorted(self.reasons.items())
        lines = [f"{kind} is refused and tried again: {why}" for kind, why in sorted(self._refusals.items())]
        lines += [
            f"the {self.what} {id_} cannot be taken up and waits apart: {why}" for id_, why in found[:SHOWN]
        ]
        if len(found) > SHOWN:
            lines.append(f"{len(found) - SHOWN} more of the kind ({self.what}) wait apart")
        return lines

    # -- takings ------------------------------------------------------------------------------

    def calls_for_search(self, kind: str, error: Exception) -> bool:
        """Whether rows are to be looked for that a taking of this kind fails for."""
        if not refuses(error):
            return False
        if not passes_by(error):
            return True
        self._passing[kind] += 1
        return self._passing[kind] >= TRIES_OF_PASSING

    def note(self, kind: str, error: BaseException) -> None:
        """A taking of this kind is refused at this moment; health says so until one goes well."""
        self._refusals[kind] = _shown(error)

    def went_well(self, kind: str) -> None:
        """A taking of this kind was not refused."""
        if self._passing:
            self._passing.pop(kind, None)
        if self._refusals:
            self._refusals.pop(kind, None)
        if self._rows:
            now = self.clock.monotonic()
            with self._lock:
                for row in self._rows.values():
                    row.quiet |= row.kind == kind and row.until <= now


def _shown(error: BaseException) -> str:
    """An error for people; one that is not of the storage, with its type."""
    text = text_of(error)
    return redact(text if isinstance(error, StorageError) else f"{type(error).__name__}: {text}")


def halved(
    items: Sequence[T],
    attempt: Callable[[Sequence[T]], R],
    note: Callable[[Exception], object] = lambda _error: None,
) -> tuple[list[R], list[tuple[T, Exception]]]:
    """Attempt all together, and where that is refused, in halves; gives the answers, and what was refused alone.

    Within the bounds of one search; `note` hears of each error. An answer that is not about rows ends it: it is raised
    if nothing went well before.
    """
    tries, until = TRIES_AT_ONCE, time.monotonic() + SECONDS_AT_ONCE
    found: list[R] = []
    refused: list[tuple[T, Exception]] = []
    groups = [items]
    while groups and tries > 0 and time.monotonic() < until:
        group = groups.pop()
        tries -= 1
        try:
            found.append(attempt(group))
        except Exception as error:
            note(error)
            if not refuses(error):
                if found:
                    return found, refused
                raise
            middle = len(group) // 2
            if middle == 0:
                refused.append((group[0], error))
            else:
                groups += [group[middle:], group[:middle]]
    return found, refused
