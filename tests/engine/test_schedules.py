"""Schedules: what they start, exactly once, and what became of every tick."""

# ruff: noqa: DTZ001 - local times have no zone, and naive ones are UTC

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dbos_events import App
from dbos_events.control.schedules import ScheduleControl
from dbos_events.errors import (
    DBOSException,
    DBOSNonExistentScheduleError,
    DBOSScheduleExistsError,
    RegistrationError,
)
from dbos_events.model.schedule import ScheduleAudit
from dbos_events.testing import ManualClock, TestApp
from dbos_events.testing.plugin import MakeTestApp

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
Make = Callable[..., TestApp]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def launch(database_url: str, dbos_test_app: MakeTestApp) -> Make:
    """A process of the application on this test's database; several may live at once, on one clock."""

    def make(app: App, **options: Any) -> TestApp:
        return dbos_test_app(app, database_url=database_url, **options)

    return make


def control(dbos: TestApp) -> ScheduleControl:
    return ScheduleControl(dbos.core.storage, dbos.core.codecs, dbos.core.application)


def audit(dbos: TestApp, name: str) -> ScheduleAudit:
    found = control(dbos).audit(name)
    assert not found.unexplained
    return found


def hours(times: list[datetime]) -> list[float]:
    return [(time - BEGIN) / timedelta(hours=1) for time in times]


# ------------------------------------------------------------------ the decorator


def test_a_scheduled_workflow_gets_the_scheduled_and_the_actual_time(app: App, launch: Make) -> None:
    calls: list[tuple[datetime, datetime]] = []

    @app.scheduled("0 * * * *")
    @app.workflow()
    def run_hourly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append((scheduled_time, actual_time))

    dbos = launch(app)
    dbos.advance(hours=3)
    assert [(hour, hour) for hour in (1.0, 2.0, 3.0)] == list(
        zip(hours([one for one, _ in calls]), hours([two for _, two in calls]), strict=True)
    )
    assert {time.tzinfo for call in calls for time in call} == {UTC}
    assert audit(dbos, run_hourly.__qualname__).outcomes == {"ran": 3}


def test_async_functions_and_seconds_and_functions_that_are_no_workflows_yet(app: App, launch: Make) -> None:
    ran: list[str] = []

    @app.scheduled("*/20 * * * * *", name="thrice a minute")
    async def async_one(scheduled_time: datetime, actual_time: datetime) -> None:
        await asyncio.sleep(0)
        ran.append(f"async {scheduled_time:%H:%M:%S}")

    dbos = launch(app)
    dbos.advance(minutes=1)
    assert ran == ["async 00:00:20", "async 00:00:40", "async 00:01:00"]
    first = app.list_workflows(workflow_id_prefix="sched-", limit=1)[0]
    assert first.workflow_id == "sched-test/thrice%20a%20minute-2030-01-01T00:00:20[UTC]"
    assert first.schedule_name == "thrice a minute"


def test_a_time_that_does_not_exist_runs_at_the_end_of_the_gap(app: App, launch: Make) -> None:
    calls: list[datetime] = []

    @app.scheduled("30 2 * * *", name="nightly", cron_timezone="America/New_York")
    @app.workflow()
    def nightly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(scheduled_time)

    dbos = launch(app, clock=ManualClock(datetime(2026, 3, 6, 12, tzinfo=UTC)))
    dbos.advance(days=3)
    assert [f"{time:%d %H:%M %z}" for time in calls] == ["07 02:30 -0500", "08 03:00 -0400", "09 02:30 -0400"]
    assert audit(dbos, "nightly").outcomes == {"ran": 2, "shifted": 1}


def test_ticks_that_share_the_end_of_a_gap_run_once(app: App, launch: Make) -> None:
    calls: list[datetime] = []

    @app.scheduled("*/20 2 * * *", name="nightly", cron_timezone="America/New_York")
    @app.workflow()
    def nightly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(scheduled_time)

    dbos = launch(app, clock=ManualClock(datetime(2026, 3, 8, 5, tzinfo=UTC)))
    dbos.advance(days=1)
    assert [f"{time:%d %H:%M}" for time in calls] == ["08 03:00"]
    assert audit(dbos, "nightly").outcomes == {"shifted": 1, "merged": 2}


def test_where_the_policy_is_skip_the_tick_is_told_as_absent(app: App, launch: Make) -> None:
    @app.scheduled("30 2 * * *", name="nightly", cron_timezone="America/New_York", dst="skip")
    @app.workflow()
    def nightly(scheduled_time: datetime, actual_time: datetime) -> None: ...

    dbos = launch(app, clock=ManualClock(datetime(2026, 3, 6, 12, tzinfo=UTC)))
    dbos.advance(days=3)
    assert audit(dbos, "nightly").outcomes == {"ran": 2, "absent": 1}


def test_what_is_declared_wrongly_is_refused_at_the_declaration(app: App) -> None:
    @app.workflow()
    def work(scheduled_time: datetime, actual_time: datetime) -> None: ...

    @app.workflow()
    def without_arguments() -> None: ...

    other = App()

    @other.workflow()
    def of_another_app(scheduled_time: datetime, actual_time: datetime) -> None: ...

    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: app.scheduled("61 * * * *")(work), "cannot be read"),
        (lambda: app.scheduled("* * * * *", cron_timezone="Mars/Olympus")(work), "Mars/Olympus"),
        (lambda: app.scheduled("* * * * *", dst="twice")(work), "dst"),  # type: ignore[arg-type]
        (lambda: app.scheduled("* * * * *", catch_up="some")(work), "catch_up"),  # type: ignore[arg-type]
        (lambda: app.scheduled("* * * * *", overlap="no")(work), "overlap"),  # type: ignore[arg-type]
        (lambda: app.scheduled("* * * * *", catch_up_window=-1)(work), "catch_up_window"),
        (lambda: app.scheduled("* * * * *", jitter=float("nan"))(work), "jitter"),
        (lambda: app.scheduled("* * * * *", name="")(work), "not blank"),
        (lambda: app.scheduled("* * * * *", name="x" * 256)(work), "at most 255"),
        (lambda: app.scheduled("* * * * *", name="a\0b")(work), "cannot store"),
        (lambda: app.scheduled("* * * * *")(without_arguments), "two arguments"),
        (lambda: app.scheduled("* * * * *")(of_another_app), "another App"),
    ]
    for declare, said in wrong:
        with pytest.raises(DBOSException, match=said):
            declare()
    assert app.registry.schedules == {}


def test_one_workflow_has_several_schedules_under_names_of_their_own(app: App, launch: Make) -> None:
    calls: list[datetime] = []

    @app.scheduled("0 * * * *", name="hourly")
    @app.scheduled("30 12 * * *", name="at noon")
    @app.workflow()
    def work(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(scheduled_time)

    with pytest.raises(RegistrationError, match="twice under one name"):
        app.scheduled("1 * * * *", name="hourly")(work)
    dbos = launch(app)
    dbos.advance(hours=13)
    assert 12.5 in hours(calls)
    assert len(calls) == 14


def test_a_schedule_that_is_declared_after_the_launch_counts_from_then_on(app: App, launch: Make) -> None:
    dbos = launch(app)
    calls: list[datetime] = []

    @app.scheduled("0 * * * *")
    @app.workflow()
    def late(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(scheduled_time)

    dbos.advance(hours=2)
    assert hours(calls) == [1.0, 2.0]


# ------------------------------------------------------------------ the newer family


def test_a_schedule_in_the_database_gives_its_workflow_a_context(app: App, launch: Make) -> None:
    calls: list[tuple[datetime, Any]] = []

    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None:
        calls.append((scheduled_time, context))

    dbos = launch(app)
    app.create_schedule(
        schedule_name="report",
        workflow_fn=work,
        schedule="0 0 * * *",
        context={"to": ("ops", 3)},
        cron_timezone="Europe/Berlin",
    )
    dbos.advance(days=2)
    assert [context for _, context in calls] == [{"to": ("ops", 3)}] * 2
    assert [f"{time:%d %H:%M %z}" for time, _ in calls] == ["02 00:00 +0100", "03 00:00 +0100"]
    found = app.get_schedule("report")
    assert found is not None
    assert found["schedule_name"] == found.schedule_name == "report"
    assert (found["status"], found["cron_timezone"], found["context"]) == (
        "ACTIVE",
        "Europe/Berlin",
        {"to": ("ops", 3)},
    )
    assert found["last_fired_at"] == "2030-01-02T23:00:00+00:00"
    assert found["workflow_name"] == work.__qualname__
    assert dict(found)["automatic_backfill"] is False


def test_names_are_taken_once_and_unknown_ones_are_told(app: App, launch: Make) -> None:
    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None: ...

    launch(app)
    app.create_schedule(schedule_name="a", workflow_fn=work, schedule="0 0 * * *")
    with pytest.raises(DBOSScheduleExistsError):
        app.create_schedule(schedule_name="a", workflow_fn=work, schedule="0 0 * * *")
    assert app.get_schedule("b") is None
    for verb in (app.pause_schedule, app.resume_schedule, app.trigger_schedule):
        with pytest.raises(DBOSNonExistentScheduleError):
            verb("b")
    with pytest.raises(DBOSNonExistentScheduleError):
        app.backfill_schedule("b", BEGIN, BEGIN + timedelta(days=1))
    app.delete_schedule("b")
    app.delete_schedule("a")
    assert app.list_schedules() == []


@pytest.mark.parametrize("name", [None, 5, "", " ", "a\0b", "\ud800", "x" * 256])
def test_a_name_that_no_schedule_can_have_is_refused_by_every_verb(app: App, launch: Make, name: Any) -> None:
    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None: ...

    launch(app)
    verbs: list[Callable[[], object]] = [
        lambda: app.create_schedule(schedule_name=name, workflow_fn=work, schedule="* * * * *"),
        lambda: app.get_schedule(name),
        lambda: app.pause_schedule(name),
        lambda: app.resume_schedule(name),
        lambda: app.delete_schedule(name),
        lambda: app.trigger_schedule(name),
        lambda: app.backfill_schedule(name, BEGIN, BEGIN),
    ]
    for verb in verbs:
        with pytest.raises(RegistrationError):
            verb()


def test_a_context_of_any_size_is_kept_and_one_that_cannot_be_is_refused(app: App, launch: Make) -> None:
    got: list[Any] = []

    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None:
        got.append(context)

    dbos = launch(app)
    huge = {"text": "ä\0" * 500_000, "when": BEGIN, "raw": b"\x00\xff"}
    app.create_schedule(schedule_name="huge", workflow_fn=work, schedule="0 * * * *", context=huge)
    with pytest.raises(DBOSException):
        app.create_schedule(schedule_name="no", workflow_fn=work, schedule="0 * * * *", context=lambda: None)
    assert [found.schedule_name for found in app.list_schedules()] == ["huge"]
    dbos.advance(hours=1)
    assert got == [huge]


def test_a_list_is_narrowed_by_status_workflow_and_prefix(app: App, launch: Make) -> None:
    @app.workflow()
    def one(scheduled_time: datetime, context: Any) -> None: ...

    @app.workflow()
    def two(scheduled_time: datetime, context: Any) -> None: ...

    launch(app)
    app.apply_schedules(
        [
            {"schedule_name": "x1", "workflow_fn": one, "schedule": "0 0 * * *"},
            {"schedule_name": "x2", "workflow_fn": two, "schedule": "0 0 * * *"},
            {"schedule_name": "y", "workflow_fn": two, "schedule": "0 0 * * *"},
        ]
    )
    app.pause_schedule("x2", reason="a test")

    def names(**criteria: Any) -> list[str]:
        return [found.schedule_name for found in app.list_schedules(**criteria)]

    assert names() == ["x1", "x2", "y"]
    assert names(status="PAUSED") == ["x2"]
    assert names(status=["ACTIVE", "PAUSED"], schedule_name_prefix="x") == ["x1", "x2"]
    assert names(workflow_name=one.__qualname__) == ["x1"]
    assert names(application_name="of somebody else") == []


def test_apply_is_all_or_nothing_and_leaves_what_is_equal_alone(app: App, launch: Make) -> None:
    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None: ...

    dbos = launch(app)
    app.create_schedule(schedule_name="a", workflow_fn=work, schedule="0 * * * *")
    before = app.get_schedule("a")
    dbos.advance(minutes=90)
    for wrong in (
        {"schedule_name": "b", "workflow_fn": work, "schedule": "61 * * * *"},
        {"schedule_name": "b", "workflow_fn": work},
        {"schedule_name": "b", "workflow_fn": work, "schedule": "* * * * *", "colour": "red"},
        {"schedule_name": "a", "workflow_fn": work, "schedule": "* * * * *"},
        {"schedule_name": "b", "workflow_fn": print, "schedule": "* * * * *"},
        "b",
    ):
        with pytest.raises(DBOSException):
            app.apply_schedules(
                [{"schedule_name": "a", "workflow_fn": work, "schedule": "5 * * * *"}, wrong]  # type: ignore[list-item]
            )
    assert [found.schedule for found in app.list_schedules()] == ["0 * * * *"]
    app.apply_schedules([{"schedule_name": "a", "workflow_fn": work, "schedule": "0 * * * *"}])
    after = app.get_schedule("a")
    assert before is not None
    assert after is not None
    assert (after.schedule_id, after.revision) == (before.schedule_id, 1)
    app.pause_schedule("a")
    app.apply_schedules([{"schedule_name": "a", "workflow_fn": work, "schedule": "30 * * * *"}])
    changed = app.get_schedule("a")
    assert changed is not None
    assert (changed.schedule_id, changed.status, changed.schedule) == (
        before.schedule_id,
        "PAUSED",
        "30 * * * *",
    )
    assert changed.last_fired_at == "2030-01-01T01:00:00+00:00"


def test_within_a_workflow_they_are_recorded_and_others_refused(app: App, launch: Make) -> None:
    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None: ...

    @app.workflow()
    def manager() -> list[str]:
        app.create_schedule(schedule_name="a", workflow_fn=work, schedule="0 0 * * *", context=[1])
        app.pause_schedule("a")
        app.resume_schedule("a")
        assert app.get_schedule("a") is not None
        names = [found.schedule_name for found in app.list_schedules()]
        app.delete_schedule("a")
        for refused in (
            lambda: app.apply_schedules([]),
            lambda: app.trigger_schedule("a"),
            lambda: app.backfill_schedule("a", BEGIN, BEGIN),
        ):
            with pytest.raises(DBOSException, match="within a workflow"):
                refused()
        return names

    launch(app)
    handle = app.start_workflow(manager)
    assert handle.get_result() == ["a"]
    assert [step.function_name for step in app.list_workflow_steps(handle.workflow_id)] == [
        "DBOS.createSchedule",
        "DBOS.pauseSchedule",
        "DBOS.resumeSchedule",
        "DBOS.getSchedule",
        "DBOS.listSchedules",
        "DBOS.deleteSchedule",
    ]


def test_the_async_twins_do_the_same(app: App, launch: Make) -> None:
    ran: list[Any] = []

    @app.workflow()
    async def work(scheduled_time: datetime, context: Any) -> None:
        ran.append(context)

    dbos = launch(app)

    async def use() -> list[str]:
        await app.create_schedule_async(schedule_name="a", workflow_fn=work, schedule="0 0 * * *", context=7)
        await app.apply_schedules_async(
            [{"schedule_name": "b", "workflow_fn": work, "schedule": "0 1 * * *"}]
        )
        await app.pause_schedule_async("a")
        await app.resume_schedule_async("a")
        found = await app.get_schedule_async("a")
        assert found is not None
        assert found.status == "ACTIVE"
        names = [one.schedule_name for one in await app.list_schedules_async()]
        await app.delete_schedule_async("b")
        handle = await app.trigger_schedule_async("a")
        more = await app.backfill_schedule_async("a", BEGIN - timedelta(days=2), BEGIN)
        return [*names, handle.workflow_id, *(one.workflow_id for one in more)]

    names = asyncio.run(use())
    assert names[:2] == ["a", "b"]
    assert names[3:] == ["sched-test/a-2029-12-31T00:00:00[UTC]"], "both ends are left out"
    dbos.run_until_idle()
    assert ran == [7, 7]
    with pytest.raises(TypeError):
        asyncio.run(app.create_schedule_async())  # type: ignore[call-arg]


# ------------------------------------------------------------------ missed, paused, by hand


@pytest.mark.parametrize(
    ("catch_up", "ran", "outcomes"),
    [
        ("all", [1.0, 2.0, 3.0, 4.0, 5.0], {"ran": 5}),
        ("last", [1.0, 4.0, 5.0], {"ran": 3, "merged": 2}),
        ("none", [1.0, 5.0], {"ran": 2, "missed": 3}),
    ],
)
def test_what_no_process_served_is_caught_up_with_as_asked_for(
    app: App, launch: Make, catch_up: Any, ran: list[float], outcomes: dict[str, int]
) -> None:
    calls: list[datetime] = []

    @app.scheduled("0 * * * *", name="hourly", catch_up=catch_up)
    @app.workflow()
    def hourly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(scheduled_time)

    dbos = launch(app)
    dbos.advance(minutes=90)
    dbos.clock.advance(timedelta(hours=3))  # nobody is there meanwhile
    dbos.run_until_idle()
    dbos.advance(hours=1)
    assert hours(sorted(calls)) == ran  # they run beside each other, so their order is up to the threads
    assert audit(dbos, "hourly").outcomes == outcomes
    found = app.get_schedule("hourly")
    assert found is not None
    assert (found.alarm is not None) == ("missed" in outcomes)


def test_what_lies_beyond_the_window_is_missed_with_an_alarm_and_no_flood(app: App, launch: Make) -> None:
    """A clock that jumps a month ahead, with a schedule of each second."""
    calls: list[datetime] = []

    @app.scheduled("* * * * * *", name="each second", catch_up="all", catch_up_window=60)
    @app.workflow()
    def each_second(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(scheduled_time)

    dbos = launch(app)
    dbos.advance(seconds=2)
    dbos.clock.advance(timedelta(days=30))
    dbos.run_until_idle()
    assert len(calls) == 2 + 61
    # They run beside each other, so their order is up to the threads.
    assert sorted(calls[2:]) == [dbos.clock.now - timedelta(seconds=60 - number) for number in range(61)]
    found = app.get_schedule("each second")
    assert found is not None
    assert "ticks were missed" in str(found.alarm)
    begin = round((BEGIN + timedelta(days=29)).timestamp() * 1000)
    some = control(dbos).audit("each second", begin, begin + 60_000)
    assert (some.expected, some.outcomes, some.unexplained) == (60, {"missed": 60}, ())
    app.resume_schedule("each second")
    cleared = app.get_schedule("each second")
    assert cleared is not None
    assert cleared.alarm is None


def test_a_clock_that_goes_back_makes_nothing_run_again(app: App, launch: Make) -> None:
    calls: list[datetime] = []

    @app.scheduled("0 * * * *", name="hourly")
    @app.workflow()
    def hourly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(scheduled_time)

    dbos = launch(app)
    dbos.advance(hours=5)
    dbos.clock._now -= 3 * 3_600_000
    dbos.advance(hours=4)
    assert hours(calls) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_ticks_of_a_paused_schedule_are_noted_and_not_caught_up_with(app: App, launch: Make) -> None:
    calls: list[datetime] = []

    @app.scheduled("0 * * * *", name="hourly", catch_up="all")
    @app.workflow()
    def hourly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(scheduled_time)

    dbos = launch(app)
    dbos.advance(minutes=90)
    app.pause_schedule("hourly", reason="a test")
    dbos.advance(hours=3)
    app.resume_schedule("hourly")
    dbos.advance(hours=1)
    assert hours(calls) == [1.0, 5.0]
    assert audit(dbos, "hourly").outcomes == {"ran": 2, "paused": 3}


def test_a_pause_and_a_change_count_from_their_own_time_also_where_nobody_looked(
    app: App, launch: Make
) -> None:
    """Ticks that were due before follow the spec of then."""
    calls: list[tuple[float, Any]] = []

    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None:
        calls.append((hours([scheduled_time])[0], context))

    dbos = launch(app)
    made = {"schedule_name": "a", "workflow_fn": work, "schedule": "0 * * * *", "catch_up": "all"}
    app.apply_schedules([{**made, "context": "old"}])  # type: ignore[typeddict-item]
    dbos.clock.advance(timedelta(minutes=150))
    app.pause_schedule("a")
    dbos.clock.advance(timedelta(minutes=60))
    app.resume_schedule("a")
    app.apply_schedules([{**made, "context": "new", "schedule": "30 * * * *"}])  # type: ignore[typeddict-item]
    dbos.clock.advance(timedelta(minutes=120))
    dbos.run_until_idle()
    assert sorted(calls) == [(1.0, "old"), (2.0, "old"), (4.5, "new"), (5.5, "new")]
    assert audit(dbos, "a").outcomes == {"ran": 4, "paused": 1}


def test_a_trigger_starts_the_workflow_now_also_while_paused(app: App, launch: Make) -> None:
    calls: list[Any] = []

    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> str:
        calls.append((scheduled_time, context))
        return "done"

    dbos = launch(app)
    app.create_schedule(schedule_name="a", workflow_fn=work, schedule="0 0 * * *", context="c")
    app.pause_schedule("a")
    handles = [app.trigger_schedule("a") for _ in range(2)]
    assert [handle.get_result() for handle in handles] == ["done", "done"]
    assert calls == [(dbos.clock.now, "c")] * 2
    assert handles[0].workflow_id.startswith("sched-test/a-trigger-2030-01-01T00:00:00.000-")


def test_a_backfill_of_a_tick_that_ran_is_the_same_workflow(app: App, launch: Make) -> None:
    calls: list[float] = []

    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None:
        calls.append(hours([scheduled_time])[0])

    dbos = launch(app)
    app.create_schedule(schedule_name="a", workflow_fn=work, schedule="0 * * * *", catch_up="none")
    dbos.advance(hours=2)
    dbos.clock.advance(timedelta(hours=3))
    dbos.run_until_idle()
    assert audit(dbos, "a").outcomes == {"ran": 3, "missed": 2}, "the one that is due now is on time"
    for _ in range(2):
        handles = app.backfill_schedule("a", datetime(2030, 1, 1, 0), BEGIN + timedelta(hours=5))
        dbos.run_until_idle()
    assert len(handles) == 4
    assert sorted(calls) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert audit(dbos, "a").outcomes == {"ran": 3, "backfilled": 2}
    with pytest.raises(DBOSException, match="after its begin"):
        app.backfill_schedule("a", BEGIN, BEGIN)
    with pytest.raises(DBOSException, match="more than"):
        app.backfill_schedule("a", BEGIN - timedelta(days=9999), BEGIN)
    with pytest.raises(DBOSException, match="two datetimes"):
        app.backfill_schedule("a", "yesterday", BEGIN)  # type: ignore[arg-type]


def test_a_tick_that_was_filled_in_before_its_time_does_not_run_again(app: App, launch: Make) -> None:
    calls: list[float] = []

    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None:
        calls.append(hours([scheduled_time])[0])

    dbos = launch(app)
    app.create_schedule(schedule_name="a", workflow_fn=work, schedule="0 * * * *")
    app.backfill_schedule("a", BEGIN, BEGIN + timedelta(minutes=150))
    dbos.run_until_idle()
    assert sorted(calls) == [1.0, 2.0]
    dbos.advance(hours=3)
    assert sorted(calls) == [1.0, 2.0, 3.0]
    assert audit(dbos, "a").outcomes == {"backfilled": 2, "ran": 1}


# ------------------------------------------------------------------ overlap, queues, jitter


@pytest.mark.parametrize(
    ("overlap", "began", "outcomes"),
    [
        ("allow", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], {"ran": 6}),
        ("skip", [1.0, 4.0], {"ran": 2, "skipped": 4}),
        ("buffer_one", [1.0, 3.25, 5.5], {"ran": 3, "skipped": 2, "buffered": 1}),
        ("cancel_other", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], {"ran": 6}),
    ],
)
def test_what_becomes_of_a_tick_while_the_run_before_has_not_ended(
    app: App, launch: Make, overlap: Any, began: list[float], outcomes: dict[str, int]
) -> None:
    actual: list[datetime] = []

    @app.scheduled("0 * * * *", name="slow", overlap=overlap)
    @app.workflow()
    def slow(scheduled_time: datetime, actual_time: datetime) -> None:
        actual.append(actual_time)
        app.sleep(2.25 * 3600)

    dbos = launch(app)
    dbos.advance(hours=6)
    started = [
        (time - BEGIN) / timedelta(hours=1) for time in actual if time not in actual[: actual.index(time)]
    ]
    assert sorted(set(started)) == began
    dbos.advance(minutes=1)
    assert audit(dbos, "slow").outcomes == outcomes
    states = [one.status for one in app.list_workflows(name=slow.__qualname__)]
    assert states.count("CANCELLED") == (5 if overlap == "cancel_other" else 0)


def test_the_workflows_of_a_schedule_wait_on_its_queue(app: App, launch: Make) -> None:
    ran: list[datetime] = []
    app.queue("line", concurrency=1)

    @app.scheduled("0 * * * *", queue_name="line")
    @app.workflow()
    def work(scheduled_time: datetime, actual_time: datetime) -> None:
        ran.append(scheduled_time)

    dbos = launch(app)
    dbos.advance(hours=2)
    assert hours(ran) == [1.0, 2.0]
    assert {one.queue_name for one in app.list_workflows(name=work.__qualname__)} == {"line"}


def test_jitter_delays_each_tick_by_an_amount_that_follows_from_its_id(app: App, launch: Make) -> None:
    calls: list[tuple[float, float]] = []

    @app.scheduled("0 * * * *", name="hourly", jitter=timedelta(minutes=10))
    @app.workflow()
    def hourly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append((hours([scheduled_time])[0], (actual_time - scheduled_time).total_seconds()))

    dbos = launch(app)
    dbos.advance(hours=6)
    assert [hour for hour, _ in calls] == [1.0, 2.0, 3.0, 4.0, 5.0][: len(calls)]
    delays = [delay for _, delay in calls]
    assert len(set(delays)) > 3
    assert all(0 <= delay <= 600 for delay in delays)


# ------------------------------------------------------------------ several processes, versions, defects


def worker(calls: list[float], **options: Any) -> App:
    """One more process of the application."""
    app = App()

    @app.scheduled("0 * * * *", name="hourly", **options)
    @app.workflow(name="hourly")
    def hourly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(hours([scheduled_time])[0])

    return app


def test_two_processes_run_each_tick_once(launch: Make) -> None:
    calls: list[float] = []
    clock = ManualClock()
    one = launch(worker(calls), clock=clock)
    two = launch(worker(calls), clock=clock, executor_id="two")
    for hour in range(1, 9):
        clock.move_to(round((BEGIN + timedelta(hours=hour)).timestamp() * 1000))
        first, second = (one, two) if hour % 2 else (two, one)
        first.run_until_idle()
        second.run_until_idle()
    assert calls == [float(hour) for hour in range(1, 9)]


def test_an_older_version_never_overwrites_what_newer_code_of_a_live_process_says(launch: Make) -> None:
    old_calls: list[float] = []
    new_calls: list[float] = []
    clock = ManualClock()
    old = launch(worker(old_calls), clock=clock, application_version="1")
    new = launch(worker(new_calls, cron_timezone="Europe/Berlin"), clock=clock, application_version="2")
    again = launch(worker(old_calls), clock=clock, application_version="1")
    found = control(new).get("hourly")
    assert found is not None
    assert (found.cron_timezone, found.version, found.orphaned) == ("Europe/Berlin", "2", False)
    clock.advance(timedelta(hours=1))
    for process in (old, again, new):
        process.run_until_idle()
    assert (old_calls, new_calls) == ([], [1.0]), "newer code's ticks are left to newer code"
    new.close()
    again.app.launched.schedules._declared_at = -1000.0
    again.run_until_idle()
    found = control(again).get("hourly")
    assert found is not None
    assert (found.cron_timezone, found.version) == (None, "1"), "once none of it lives, a rollback counts"
    clock.advance(timedelta(hours=1))
    again.run_until_idle()
    assert old_calls == [2.0]


def test_a_schedule_that_the_code_does_not_declare_any_more_is_orphaned_and_does_not_run(
    launch: Make,
) -> None:
    calls: list[float] = []
    clock = ManualClock()
    launch(worker(calls), clock=clock, application_version="1").close()
    app = App()

    @app.workflow(name="hourly")
    def hourly(scheduled_time: datetime, actual_time: datetime) -> None:
        calls.append(-1)

    dbos = launch(app, clock=clock, application_version="2")
    dbos.advance(hours=2)
    found = app.get_schedule("hourly")
    assert found is not None
    assert found.orphaned
    assert calls == []


def test_a_schedule_whose_function_is_gone_stops_no_other(launch: Make) -> None:
    clock = ManualClock()
    first = App()

    @first.workflow(name="gone")
    def gone(scheduled_time: datetime, context: Any) -> None: ...

    dbos = launch(first, clock=clock)
    first.create_schedule(schedule_name="a", workflow_fn=gone, schedule="0 * * * *")
    dbos.close()
    calls: list[float] = []
    other = worker(calls)
    dbos = launch(other, clock=clock)
    dbos.advance(hours=2)
    assert calls == [1.0, 2.0]
    assert {found.schedule_name: found.orphaned for found in other.list_schedules()} == {
        "a": True,
        "hourly": False,
    }


@pytest.mark.parametrize(
    "damage", ["zone = 'Mars/Olympus'", "expression = 'x'", "context = '{', codec = 'json'"]
)
def test_a_schedule_that_cannot_be_served_here_stops_no_other(app: App, launch: Make, damage: str) -> None:
    ran: list[Any] = []

    @app.workflow()
    def work(scheduled_time: datetime, context: Any) -> None:
        ran.append(context)

    dbos = launch(app)
    for name in ("a", "b"):
        app.create_schedule(schedule_name=name, workflow_fn=work, schedule="0 * * * *", context=name)
    database: Any = dbos.core.storage
    table = f'"{database.database.schema}".schedule_specs' if database.database.schema else "schedule_specs"
    with database.database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {table} SET {damage} WHERE name = 'a'")
    dbos.advance(hours=2)
    assert ran == ["b", "b"]
    found = app.get_schedule("a")
    assert found is not None
    assert "cannot be served" in str(found.alarm)
    assert any("schedule a" in problem for problem in app.health().problems)


def test_what_another_cron_library_would_move_is_told_at_launch(
    launch: Make, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[float] = []
    clock = ManualClock()
    dbos = launch(worker(calls), clock=clock)
    dbos.core.storage.schedules.note({"zone_data/test": "2020a"})
    (row,) = dbos.core.storage.schedules.find("test")
    assert dbos.core.storage.schedules.retime(
        row, (row.next_at or 0) + 1_800_000, (row.next_at or 0) + 1_800_000
    )
    dbos.close()
    with caplog.at_level("WARNING"):
        dbos = launch(worker(calls), clock=clock)
    assert "hourly: 2030-01-01T01:30:00Z becomes 2030-01-01T01:00:00Z" in caplog.text
    dbos.advance(hours=2)
    assert calls == [1.0, 2.0]
    caplog.clear()
    dbos.close()
    launch(worker(calls), clock=clock)
    assert "fire times" not in caplog.text, "once"


def test_many_missed_ticks_are_computed_while_no_transaction_is_open(launch: Make) -> None:
    """A transaction that computes for seconds is ended by the bound on its idle time, again and again."""
    calls: list[float] = []
    dbos = launch(worker(calls, catch_up="all", catch_up_window=timedelta(days=90)))
    planner = dbos.app.launched.schedules._planner
    computed: list[int] = []
    passed = planner._passed

    def counting(due: Any, table: Any, most: int) -> Any:
        computed.append(most)
        return passed(due, table, most)

    planner._passed = counting  # type: ignore[method-assign]
    dbos.clock.advance(timedelta(hours=200))
    dbos.run_until_idle()
    assert sorted(calls) == [float(hour) for hour in range(1, 201)]
    assert computed[:2] == [20, 1000], "first it is found to be too much, then it is prepared"
    assert audit(dbos, "hourly").outcomes == {"ran": 200}
