"""When an expression fires: the table of daylight-saving times, a model that looks at every minute, and what is refused."""

# ruff: noqa: DTZ001 - local times have no zone, and naive ones are UTC

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dbos_events.engine import timetable
from dbos_events.engine.timetable import Timetable, newest, upcoming
from dbos_events.errors import RegistrationError
from dbos_events.model.schedule import MERGED, RAN, SHIFTED, Dst, Fire

NEW_YORK = "America/New_York"
LORD_HOWE = "Australia/Lord_Howe"
SANTIAGO = "America/Santiago"


def fires(expression: str, zone: str | None, begin: str, count: int, dst: Dst = "once") -> list[str]:
    """The next times that start something, as local times with their offset."""
    table = Timetable(expression, zone, dst)
    found = (fire for fire in table.after(datetime.fromisoformat(begin)) if fire.kind in (RAN, SHIFTED))
    return [shown(table, fire) for fire in islice(found, count)]


def shown(table: Timetable, fire: Fire) -> str:
    text = table.scheduled(fire.at_ms).strftime("%d %H:%M%z")
    return f"{text} {fire.kind}" if fire.kind != RAN else text


@pytest.mark.parametrize("seconds", ["", "0 "], ids=["five fields", "six fields"])
@pytest.mark.parametrize(
    ("expression", "zone", "begin", "expected"),
    [
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00", ["01 01:30-0400", "02 01:30-0500", "03 01:30-0500"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00", ["08 03:00-0400 shifted", "09 02:30-0400"]),
        (
            "*/20 2 * * *",
            NEW_YORK,
            "2026-03-07T12:00",
            ["08 03:00-0400 shifted", "09 02:00-0400", "09 02:20-0400"],
        ),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", ["05 01:45+1100", "06 01:45+1030"]),
        (
            "0 * * * *",
            NEW_YORK,
            "2026-11-01T00:10",
            ["01 01:00-0400", "01 01:00-0500", "01 02:00-0500", "01 03:00-0500"],
        ),
        ("0 * * * *", NEW_YORK, "2026-03-08T00:10", ["08 01:00-0500", "08 03:00-0400", "08 04:00-0400"]),
        ("0 * * * *", LORD_HOWE, "2026-04-05T00:10", ["05 01:00+1100", "05 02:00+1030", "05 03:00+1030"]),
        ("45 * * * *", LORD_HOWE, "2026-04-05T01:00", ["05 01:45+1100", "05 01:45+1030", "05 02:45+1030"]),
        ("0 0 * * *", SANTIAGO, "2026-09-05T12:00", ["06 01:00-0300 shifted", "07 00:00-0300"]),
        ("0 0 */2 * 1", None, "2026-03-01T12:00", ["02 00:00+0000", "03 00:00+0000", "05 00:00+0000"]),
        ("*/30 2,3 * * *", NEW_YORK, "2026-03-07T12:00", ["08 03:00-0400", "08 03:30-0400", "09 02:00-0400"]),
    ],
)
def test_the_table_of_daylight_saving_times(
    seconds: str, expression: str, zone: str | None, begin: str, expected: list[str]
) -> None:
    assert fires(seconds + expression, zone, begin, len(expected)) == expected


@pytest.mark.parametrize(
    ("dst", "expression", "begin", "expected"),
    [
        ("wall", "30 1 * * *", "2026-10-31T12:00", ["01 01:30-0400", "01 01:30-0500", "02 01:30-0500"]),
        ("wall", "30 2 * * *", "2026-03-07T12:00", ["09 02:30-0400"]),
        ("skip", "30 1 * * *", "2026-10-31T12:00", ["01 01:30-0400", "02 01:30-0500"]),
        ("skip", "30 2 * * *", "2026-03-07T12:00", ["09 02:30-0400"]),
        ("skip", "0 * * * *", "2026-11-01T00:10", ["01 01:00-0400", "01 01:00-0500", "01 02:00-0500"]),
    ],
)
def test_the_other_policies(dst: Dst, expression: str, begin: str, expected: list[str]) -> None:
    assert fires(expression, NEW_YORK, begin, len(expected), dst) == expected


def test_what_is_not_started_is_a_tick_all_the_same() -> None:
    table = Timetable("*/20 2 * * *", NEW_YORK)
    kinds = [fire.kind for fire in islice(table.after(datetime(2026, 3, 7, 12)), 4)]
    assert kinds == [SHIFTED, MERGED, MERGED, RAN]


def test_every_15_seconds_goes_on_through_the_hour_that_repeats() -> None:
    table = Timetable("*/15 * * * * *", NEW_YORK)
    begin = datetime(2026, 11, 1, 4, tzinfo=UTC).timestamp() * 1000
    found = list(islice(table.after_instant(round(begin)), 4 * 60 * 4))
    assert {later.at_ms - fire.at_ms for fire, later in pairwise(found)} == {15_000}
    assert len({(fire.nominal, fire.repeat) for fire in found}) == len(found), "each has a name of its own"


@pytest.mark.parametrize("zone", ["Pacific/Apia", "Africa/Monrovia", "Antarctica/Troll", "Europe/Dublin"])
def test_odd_zones_have_times_that_grow(zone: str) -> None:
    """A day that was left out, two hours at once, winter time that is called summer's."""
    for begin in (datetime(2011, 12, 28), datetime(2026, 3, 28), datetime(2026, 10, 24)):
        found = [fire.at_ms for fire in islice(Timetable("30 1 * * *", zone).after(begin), 6)]
        assert found == sorted(found)
        found = [fire.at_ms for fire in islice(Timetable("*/30 * * * *", zone).after(begin), 200)]
        assert {b - a for a, b in pairwise(found)} == {1_800_000}


# ------------------------------------------------------------------ the model: every minute is looked at

EDGES = {
    NEW_YORK: [datetime(2026, 3, 8, 7), datetime(2026, 11, 1, 6), datetime(2027, 3, 14, 7)],
    LORD_HOWE: [datetime(2026, 4, 4, 15), datetime(2026, 10, 3, 15, 30)],
    SANTIAGO: [datetime(2026, 4, 5, 3), datetime(2026, 9, 6, 4)],
    "UTC": [datetime(2026, 1, 1)],
}


def modelled(
    minutes: set[int], hours: set[int], zone: str, dst: Dst, first: datetime, last: datetime
) -> Iterator[int]:
    """Instants that start something: what the clock shows, minute by minute, and what it has jumped over."""

    def wanted(local: datetime) -> bool:
        return local.minute in minutes and local.hour in hours

    there = ZoneInfo(zone)
    every_hour = hours == set(range(24))
    moment = first
    before = moment.astimezone(there).replace(tzinfo=None)
    while moment < last:
        moment += timedelta(minutes=1)
        aware = moment.astimezone(there)
        local = aware.replace(tzinfo=None, fold=0)
        jumped = before + timedelta(minutes=1)
        passed_over = False
        while jumped < local:
            passed_over |= wanted(jumped)
            jumped += timedelta(minutes=1)
        shown_first = aware.fold == 0
        if (wanted(local) and (shown_first or dst == "wall" or every_hour)) or (
            passed_over and dst == "once" and not every_hour
        ):
            yield round(moment.timestamp() * 1000)
        before = local


@example(minutes={31}, hours={0, 1}, zone=LORD_HOWE, dst="once", number=0, offset=0)
@settings(max_examples=30, deadline=None)
@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.one_of(st.just(set(range(24))), st.sets(st.integers(0, 4), min_size=1, max_size=3)),
    zone=st.sampled_from(sorted(EDGES)),
    dst=st.sampled_from(["once", "wall", "skip"]),
    number=st.integers(0, 2),
    offset=st.integers(0, 26 * 60),
)
def test_they_are_those_of_a_model_that_looks_at_every_minute(
    minutes: set[int], hours: set[int], zone: str, dst: Dst, number: int, offset: int
) -> None:
    edges = EDGES[zone]
    first = edges[number % len(edges)].replace(tzinfo=UTC) - timedelta(minutes=offset)
    last = first + timedelta(hours=40)
    hour_field = "*" if len(hours) == 24 else ",".join(map(str, sorted(hours)))
    table = Timetable(f"{','.join(map(str, sorted(minutes)))} {hour_field} * * *", zone, dst)
    found = []
    for fire in table.after_instant(round(first.timestamp() * 1000)):
        if fire.at_ms > last.timestamp() * 1000:
            break
        if fire.kind in (RAN, SHIFTED):
            found.append(fire.at_ms)
    assert found == list(modelled(minutes, hours, zone, dst, first, last))


@given(offset=st.integers(0, 2 * 366 * 86_400))
@settings(max_examples=15, deadline=None)
def test_what_follows_a_tick_does_not_depend_on_where_one_began(offset: int) -> None:
    """The next tick is computed from the last nominal one, so any process goes on where another stopped."""
    table = Timetable("*/20 1,2 * * *", LORD_HOWE, "wall")
    begin = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000) + offset * 1000
    together = upcoming(table, begin, 12)
    one_by_one = [together[0]]
    while len(one_by_one) < 12:
        last = one_by_one[-1]
        one_by_one.append(next(table.after(last.nominal, last.repeat)))
    assert one_by_one == together


def test_the_newest_are_found_from_behind() -> None:
    table = Timetable("*/7 * * * *", NEW_YORK)
    position = table.local(round(datetime(2026, 10, 25, tzinfo=UTC).timestamp() * 1000))
    until = round(datetime(2026, 11, 2, tzinfo=UTC).timestamp() * 1000)
    every = []
    for fire in table.after(*position):
        if fire.at_ms > until:
            break
        every.append(fire)
    assert newest(table, position, until, 30) == every[-30:]
    assert newest(table, position, until, 10**6) == every


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("61 * * * *", "cannot be read"),
        ("a b c d e", "cannot be read"),
        ("0 0 31 2 *", "never fires"),
        ("R * * * *", "draws a number"),
        ("0 R(1-5) * * *", "draws a number"),
        (None, "is a cron expression"),
        (5, "is a cron expression"),
    ],
)
def test_an_expression_that_cannot_be_kept_is_refused(expression: object, said: str) -> None:
    with pytest.raises(RegistrationError, match=said.replace("(", r"\(")):
        Timetable(expression)  # type: ignore[arg-type]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "America", "a\0b", 5])
def test_a_zone_that_is_not_known_is_refused(zone: object) -> None:
    with pytest.raises(RegistrationError, match="zone"):
        Timetable("0 0 * * *", zone)  # type: ignore[arg-type]


def test_a_number_that_follows_from_the_name_is_the_same_in_every_process() -> None:
    first, again, other = (Timetable("H H * * *", key=key) for key in ("report", "report", "invoices"))
    begin = datetime(2026, 1, 1)
    assert next(first.after(begin)) == next(again.after(begin)) != next(other.after(begin))


def test_the_library_and_the_zone_data_have_names() -> None:
    versions = timetable.data_versions()
    assert versions["cron_library"].startswith("croniter 7.")
    assert versions["zone_data"] not in ("", "none")
