"""When a cron expression fires in a time zone.

The library iterates over naive local time only: with zones it starts a daily job twice where an hour repeats. What a zone
does to a local time is asked of `zoneinfo`, and what follows from it is a policy:

    dst       a time that comes twice     a time that does not exist
    once      runs at its first           runs at the end of the gap
    wall      runs both times             is absent
    skip      runs at its first           is absent

An expression that names every hour runs in every real hour, whatever the policy: all that the clock shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import TZPATH, ZoneInfo

from dbos_events.errors import RegistrationError
from dbos_events.model.schedule import ABSENT, MERGED, SHIFTED, Dst, Fire

if TYPE_CHECKING:
    from croniter import croniter

SECOND = timedelta(seconds=1)
_DRAWN = re.compile(r"(?:^|,)\s*R", re.IGNORECASE)


class Timetable:
    """The fire times of one expression in one zone.

    Args:
        expression: Five fields, or six with the seconds first; `@daily` and its like, too.
        zone: An IANA name; None is UTC.
        dst: What becomes of local times that come twice or never.
        key: What `H` in an expression stands for is derived from it.

    Raises:
        RegistrationError: The expression never fires or cannot be read, or this machine does not know the zone.
    """

    def __init__(self, expression: str, zone: str | None = None, dst: Dst = "once", key: str = "") -> None:
        self.expression = expression
        self.zone = zone_of(zone)
        self.zone_name = zone or "UTC"
        self._cron, every_hour = _parsed(expression, key)
        self._repeats = every_hour or dst == "wall"
        self._real_hours = every_hour
        self._shifts = dst == "once"
        try:
            self._next(datetime(2000, 1, 1))  # noqa: DTZ001 - the library knows local times only
        except _NeverAgain as error:
            raise RegistrationError(f"The schedule {expression!r} never fires. Correct its date.") from error

    def local(self, at_ms: int) -> tuple[datetime, int]:
        """What clocks show at an instant, and which of a time that comes twice it is."""
        return local_in(self.zone, at_ms)

    def instant(self, nominal: datetime, repeat: int = 0) -> int:
        """When clocks show it, in milliseconds since 1970; the end of the gap for a time that does not exist."""
        before, after = self._offsets(nominal)
        if before < after:
            end = self._edge(nominal, nominal + (after - before), gap=True)
            return _ms(end - after)
        return _ms(nominal - (after if repeat else before))

    def scheduled(self, at_ms: int) -> datetime:
        """An instant as the workflow gets it: with the zone's offset of that moment."""
        there = datetime.fromtimestamp(at_ms / 1000, self.zone)
        if self.zone is UTC:
            return there
        return there.replace(tzinfo=timezone(there.utcoffset() or timedelta(0)), fold=0)

    def after_instant(self, at_ms: int) -> Iterator[Fire]:
        """All fire times later than an instant, in order."""
        return (fire for fire in self.after(*self.local(at_ms)) if fire.at_ms > at_ms)

    def after(self, nominal: datetime, repeat: int = 0) -> Iterator[Fire]:
        """All fire times that follow one, which may be any local time."""
        begun = self.instant(nominal, repeat)
        if not self._repeats:
            repeat = (
                0  # also where one begins in the second of two hours: its times were all there in the first
            )
        previous = nominal.replace(fold=0)
        while True:
            try:
                following = self._next(previous)
            except _NeverAgain:
                following = None
            again = self._again(previous, following, repeat)
            if again is not None:
                following, repeat = again, 1
            elif following is None:
                return
            elif repeat and not self._same_repeat(previous, following):
                repeat = 0
            fire = self._fire(following, repeat, previous)
            previous = following
            if fire is not None and fire.at_ms >= begun:
                yield fire

    # -- one step -----------------------------------------------------------------------------

    def _next(self, nominal: datetime) -> datetime:
        self._cron.set_current(nominal.replace(tzinfo=UTC).timestamp(), force=True)
        try:
            found: datetime = self._cron.get_next(datetime)
        except (ValueError, OverflowError) as error:  # its own errors are of the former kind
            raise _NeverAgain(str(error)) from error
        return found.replace(tzinfo=None)

    def _again(self, previous: datetime, following: datetime | None, repeat: int) -> datetime | None:
        """The first time of the hour that repeats, once all of its first occurrence are over."""
        if repeat or not self._repeats:
            return None
        before, after = self._offsets(previous)
        if before <= after:
            return None
        end = self._edge(previous, previous + (before - after), gap=False)
        if following is not None and following < end:
            return None
        try:
            first = self._next(end - (before - after) - SECOND)
        except _NeverAgain:
            return None
        return first if first < end else None

    def _same_repeat(self, previous: datetime, following: datetime) -> bool:
        before, after = self._offsets(previous)
        if before <= after:
            return False
        return following < self._edge(previous, previous + (before - after), gap=False)

    def _fire(self, nominal: datetime, repeat: int, previous: datetime) -> Fire | None:
        before, after = self._offsets(nominal)
        if before >= after:
            return Fire(nominal, repeat, _ms(nominal - (after if repeat else before)))
        if self._real_hours:
            return None
        end = self._edge(nominal, nominal + (after - before), gap=True)
        at_ms = _ms(end - after)
        if not self._shifts:
            return Fire(nominal, 0, at_ms, ABSENT)
        is_first = previous < end - (after - before)
        meets_another = self._next(end - SECOND) == end
        return Fire(nominal, 0, at_ms, SHIFTED if is_first and not meets_another else MERGED)

    # -- the zone -----------------------------------------------------------------------------

    def _offsets(self, nominal: datetime) -> tuple[timedelta, timedelta]:
        """UTC's distance at the first and at the second occurrence; before and after where there is none."""
        zone: tzinfo = self.zone
        if zone is UTC:
            return timedelta(0), timedelta(0)
        zero = timedelta(0)
        return (
            zone.utcoffset(nominal.replace(fold=0)) or zero,
            zone.utcoffset(nominal.replace(fold=1)) or zero,
        )

    def _edge(self, inside: datetime, latest: datetime, *, gap: bool) -> datetime:
        """The first local time after `inside` that is not in its gap (or its repetition) any more."""
        low, high = 0, int((latest - inside).total_seconds()) + 1
        while low + 1 < high:
            middle = (low + high) // 2
            before, after = self._offsets(inside + middle * SECOND)
            if (before < after) if gap else (before > after):
                low = middle
            else:
                high = middle
        return inside + high * SECOND


class _NeverAgain(Exception):
    """No further time fits the expression."""


def newest(timetable: Timetable, position: tuple[datetime, int], until_ms: int, count: int) -> list[Fire]:
    """The last `count` fire times between a position and an instant, found from behind."""
    back = 60_000
    while True:
        begin = until_ms - back
        started = timetable.instant(*position) >= begin
        fires = timetable.after(*position) if started else timetable.after_instant(begin)
        found = []
        for fire in fires:
            if fire.at_ms > until_ms:
                break
            found.append(fire)
        if started or len(found) >= count:
            return found[-count:]
        back *= 4


def upcoming(timetable: Timetable, after_ms: int, count: int) -> list[Fire]:
    """The next fire times after an instant."""
    return list(islice(timetable.after_instant(after_ms), count))


def local_in(zone: tzinfo, at_ms: int) -> tuple[datetime, int]:
    """What clocks of a zone show at an instant, and which of a time that comes twice it is."""
    there = datetime.fromtimestamp(at_ms / 1000, zone)
    return there.replace(tzinfo=None, fold=0), there.fold


def zone_of(name: str | None) -> tzinfo:
    """The zone of this name.

    Raises:
        RegistrationError: This machine does not know it.
    """
    if name is None or name == "UTC":
        return UTC
    if not isinstance(name, str):
        raise RegistrationError(f"A time zone is an IANA name, such as 'Europe/Berlin', not {name!r}.")
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # not found is a KeyError; a folder's name an OSError
        raise RegistrationError(
            f"The time zone {name!r} is not known here. Give an IANA name, such as 'Europe/Berlin'; where this machine has "
            "no zone data, install the package tzdata."
        ) from error


def _parsed(expression: str, key: str) -> tuple[croniter[Any], bool]:
    """The library's iterator, and whether the expression names every hour."""
    from croniter import croniter  # takes some milliseconds, and not every program has schedules

    if not isinstance(expression, str):
        raise RegistrationError(
            f"A schedule is a cron expression, such as '*/5 * * * *', not {expression!r}."
        )
    columns = expression.split()
    if any(_DRAWN.search(column) for column in columns):
        raise RegistrationError(
            f"The schedule {expression!r} draws a number (R), so each process would have another. Use H, which follows from "
            "the schedule's name, or jitter=."
        )
    if len(columns) > 6 or (len(columns) < 5 and not expression.strip().startswith("@")):
        raise RegistrationError(
            f"The schedule {expression!r} has {len(columns)} fields. Give five (minute, hour, day of the month, month, day "
            "of the week), or six with the seconds first."
        )
    began = datetime(2000, 1, 1, tzinfo=UTC)
    try:
        cron = croniter(
            expression, began, ret_type=datetime, hash_id=key.encode() or b"-", second_at_beginning=True
        )
    except (ValueError, TypeError, LookupError) as error:
        raise RegistrationError(f"The schedule {expression!r} cannot be read: {error}") from error
    hours = cron.expanded[1]
    return cron, "*" in hours or set(range(24)) <= set(hours)


def _ms(moment: datetime) -> int:
    """A naive time of UTC in milliseconds since 1970."""
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def data_versions() -> dict[str, str]:
    """What fire times depend on beside the schedule: the cron library, and the zone data."""
    from importlib.metadata import version  # takes 20 ms to import, and few programs have schedules

    return {"cron_library": f"croniter {version('croniter')}", "zone_data": _zone_data()}


@lru_cache(maxsize=1)
def _zone_data() -> str:
    for folder in TZPATH:
        file = Path(folder, "tzdata.zi")
        if file.is_file():
            with file.open(encoding="utf-8", errors="replace") as lines:
                return lines.readline().strip().lstrip("# ") or "system"
        if Path(folder, "UTC").exists():
            return f"system, in {folder}"
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"package tzdata {version('tzdata')}"
    except PackageNotFoundError:
        return "none"
