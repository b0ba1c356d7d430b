"""Until when an event may begin, as its consumer's `expires` says it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dbos_events.engine.problems import problem_with
from dbos_events.engine.shapes import at_once
from dbos_events.errors import FilterFailed, TryAgain
from dbos_events.serialization.raised import is_interrupt

if TYPE_CHECKING:
    from dbos_events.model.message_type import Message

LEAST_MS = 100_000_000_000
"""A smaller number, before 1973, is taken for seconds that were given by mistake."""


def times_of(
    consumer: str, expires: Callable[[Message], object], place_of: Callable[[Message], str]
) -> Callable[[Message], int | None]:
    """What gives the milliseconds since 1970 after which an event may not begin; None: it always may.

    `expires` gives a `datetime` with a time zone, a `timedelta` that counts from the record's timestamp, milliseconds
    since 1970, or None.
    """

    def time_of(message: Message) -> int | None:
        try:
            return _milliseconds(at_once(expires(message)), message)
        except TryAgain:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            problem = problem_with(error)
        raise FilterFailed(
            f"`expires` of the consumer {consumer} could not say until when {place_of(message)} may begin: {problem}. "
            "The event was taken in, and its handler was not called."
        )

    return time_of


def _milliseconds(answer: object, message: Message) -> int | None:
    if answer is None:
        return None
    if isinstance(answer, timedelta):
        kind, timestamp = message.timestamp
        if kind == 0:
            raise ValueError("it gave a timedelta, and the record has no timestamp for it to count from")
        return int(timestamp) + answer // timedelta(milliseconds=1)
    if isinstance(answer, datetime):
        if answer.tzinfo is None:
            raise ValueError(f"it gave {answer!r}, which has no time zone")
        return round(answer.timestamp() * 1000)
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        raise TypeError(
            f"it gave {answer!r}; a datetime, a timedelta, milliseconds since 1970 or None is wanted"
        )
    if not LEAST_MS <= answer < float("inf"):
        raise ValueError(f"it gave {answer!r}, which is not a time in milliseconds since 1970")
    return round(answer)
