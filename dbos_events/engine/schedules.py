"""Schedules as they are checked, begun and turned into workflows; shared by verbs, operators and the service."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dbos_events.engine.timetable import Timetable
from dbos_events.errors import RegistrationError
from dbos_events.model.schedule import (
    CATCH_UP,
    DAY_MS,
    DST,
    LONGEST_NAME,
    OVERLAP,
    CatchUp,
    ScheduleSpec,
    jitter_of,
    nominal_text,
)  # fmt: skip
from dbos_events.storage.subjects.schedulerows import Begin

if TYPE_CHECKING:
    from dbos_events.serialization import Codecs

YEAR_MS = 366 * DAY_MS
LONGEST_MS = 100 * YEAR_MS


def timetable_of(spec: ScheduleSpec) -> Timetable:
    """The fire times of a spec.

    Raises:
        RegistrationError: Its expression or its zone is not usable here.
    """
    return Timetable(spec.expression, spec.zone, spec.dst, spec.name)


def begin_of(application: str, spec: ScheduleSpec, now_ms: int, table: Timetable | None = None) -> Begin:
    """Where a spec begins that counts from now on."""
    table = table or timetable_of(spec)
    position, repeat = table.local(now_ms)
    fire = next(table.after_instant(now_ms), None)
    due = None if fire is None else fire.at_ms + jitter_of(spec, application, fire)
    # To the second: fire times have no fractions, and this one is later than all that have passed.
    return Begin(now_ms, nominal_text(position), repeat, due, None if fire is None else fire.at_ms)


def input_of(
    codecs: Codecs, spec: ScheduleSpec, table: Timetable, scheduled_ms: int, now_ms: int
) -> tuple[str, str]:
    """What the workflow is called with, as it is stored: the scheduled time, and the actual one or the context.

    Raises:
        SerializationError: The context cannot be read here.
    """
    if spec.second == "actual":
        second: Any = table.scheduled(now_ms)
    elif spec.context is None:
        second = None
    else:
        second = codecs.get(spec.codec or "json").decode(spec.context)
    codec = codecs.default
    return codec.name, codec.encode({"args": [table.scheduled(scheduled_ms), second], "kwargs": {}})


def check_spec(spec: ScheduleSpec) -> ScheduleSpec:
    """The spec, if it can be kept.

    Raises:
        RegistrationError: A value of it cannot; the message says which.
    """
    check_name(spec.name)
    for what, value, allowed in (
        ("dst", spec.dst, DST),
        ("catch_up", spec.catch_up, CATCH_UP),
        ("overlap", spec.overlap, OVERLAP),
    ):
        if value not in allowed:
            raise RegistrationError(f"Schedule {spec.name!r}: {what} is one of {allowed}, not {value!r}.")
    queue: object = spec.queue
    if queue is not None and not (isinstance(queue, str) and queue):
        raise RegistrationError(
            f"Schedule {spec.name!r}: queue_name is the name of a queue, not {spec.queue!r}."
        )
    try:
        timetable_of(spec)
    except RegistrationError as error:
        raise RegistrationError(f"Schedule {spec.name!r}: {error.message}") from error
    return spec


def check_name(name: object) -> None:
    """Refuse a name that could not be stored or typed.

    Raises:
        RegistrationError: It is not a text, is blank, too long, or holds what a database cannot store.
    """
    if not isinstance(name, str) or not name.strip():
        raise RegistrationError(f"A schedule has a name that is not blank, not {name!r}.")
    if len(name) > LONGEST_NAME:
        raise RegistrationError(
            f"The name of a schedule has at most {LONGEST_NAME} characters, not {len(name)}."
        )
    if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise RegistrationError(f"The name {name!r} holds a character that a database cannot store.")


def milliseconds_of(name: str, what: str, value: object) -> int:
    """A duration in seconds, or a `timedelta`, in milliseconds.

    Raises:
        RegistrationError: It is neither, is negative, or longer than a century.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value * 1000 <= LONGEST_MS:
        raise RegistrationError(
            f"Schedule {name!r}: {what} is a number of seconds from 0 on, or a timedelta, not {value!r}."
        )
    return round(value * 1000)


def caught_up(
    name: str, catch_up: CatchUp | None, window: object, *, automatic_backfill: object
) -> tuple[CatchUp, int]:
    """What becomes of ticks that were missed, and how far back.

    `automatic_backfill` is the peer's word for `catch_up="all"`, over up to a year.
    """
    if automatic_backfill and catch_up not in (None, "all"):
        raise RegistrationError(
            f"Schedule {name!r}: automatic_backfill=True means catch_up='all', and catch_up is {catch_up!r}. Leave one out."
        )
    chosen: CatchUp = catch_up or ("all" if automatic_backfill else "last")
    if window is not None:
        return chosen, milliseconds_of(name, "catch_up_window", window)
    return chosen, YEAR_MS if automatic_backfill else DAY_MS
