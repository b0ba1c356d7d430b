"""Rule 21: a tick is decided once, whoever else decides it, changes its schedule or dies at the same moment."""

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from dbos_events.engine.registry import Registered
from dbos_events.engine.schedules import begin_of
from dbos_events.engine.timetable import Timetable
from dbos_events.errors import ExecutorFenced
from dbos_events.model.schedule import BACKFILLED, ScheduleSpec, Tick, tick_id
from dbos_events.runtime.ticks import Planner
from dbos_events.serialization import Codecs
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.schedulerows import (
    DecidedTicks,
    DueSchedule,
    Plan,
    PlannedTick,
    Server,
    TickStart,
)
from dbos_events.testing import ManualClock
from tests.races.interleaving import Operation, Race
from tests.storage.building import APP, kill, read, register

HOUR = 3_600_000
BEGIN = round(datetime(2030, 1, 1, 12, 30, tzinfo=UTC).timestamp() * 1000)
SPEC = ScheduleSpec("hourly", "work", "0 * * * *", zone="America/New_York", catch_up="all")
NOMINAL = "2030-01-01T08:00:00"


class Westward(Planner):
    """A process whose zone data have New York an hour further in the west."""

    def timetable(self, spec: ScheduleSpec) -> Timetable:
        return Timetable(spec.expression, "America/Chicago", spec.dst, spec.name)


class Eastward(Planner):
    """One whose zone data have it an hour further in the east."""

    def timetable(self, spec: ScheduleSpec) -> Timetable:
        return Timetable(spec.expression, "America/Halifax", spec.dst, spec.name)


@dataclass
class Scene:
    """Two processes; the schedule's tick of an hour ago was not decided yet."""

    servers: tuple[Server, Server]
    planners: tuple[Planner, Planner]


def planner(executor: int, kind: type[Planner] = Planner) -> Planner:
    numbers = itertools.count(executor * 1000)
    core: Any = SimpleNamespace(
        application=APP,
        version="v1",
        executor=executor,
        registry=SimpleNamespace(workflows={"work": Registered("work", print, is_async=False)}),
        codecs=Codecs(),
        next_start_id=lambda: next(numbers),
    )
    return kind(core)


def scene_of(spec: ScheduleSpec, second: type[Planner] = Planner) -> Any:
    def make(storage: SqlStorage) -> Scene:
        executors = register(storage, "a"), register(storage, "b")
        storage.schedules.create(APP, spec, begin_of(APP, spec, BEGIN), by="a test")
        servers = tuple(Server(executor, APP, "v1", ["work"], []) for executor in executors)
        planners = planner(executors[0]), planner(executors[1], second)
        return Scene(servers, planners)  # type: ignore[arg-type]

    return make


def decide(number: int) -> Operation[Scene]:
    def do(scene: Scene, storage: SqlStorage) -> object:
        def plan(due: DueSchedule) -> Plan:
            return scene.planners[number].plan(due)

        try:
            decided: DecidedTicks = storage.schedules.decide(scene.servers[number], plan, 10)
        except ExecutorFenced:
            return "dead"
        assert not decided.problems
        return sorted(row.id for row in decided.taken)

    return do


def pause(_: Scene, storage: SqlStorage) -> object:
    return storage.schedules.set_paused(
        APP, "hourly", BEGIN + HOUR // 2 + 1, paused=True, by="b", reason=None
    )


def change(_: Scene, storage: SqlStorage) -> object:
    spec = replace(SPEC, expression="15 * * * *")
    return storage.schedules.apply(APP, [(spec, begin_of(APP, spec, BEGIN + HOUR // 2 + 1))], by="b")


def delete(_: Scene, storage: SqlStorage) -> object:
    return storage.schedules.delete(APP, "hourly")


def backfill(_: Scene, storage: SqlStorage) -> object:
    workflow_id = tick_id(APP, "hourly", NOMINAL, "America/New_York", 0)
    tick = Tick(
        "hourly",
        "tick",
        NOMINAL,
        "America/New_York",
        0,
        BACKFILLED,
        BEGIN + HOUR // 2,
        workflow_id=workflow_id,
    )
    start = TickStart(workflow_id, APP, "work", "ENQUEUED", 77, None, "json", "{}", "hourly")
    return storage.schedules.start(APP, [PlannedTick(tick, start)])


def die(scene: Scene, storage: SqlStorage) -> object:
    kill(storage, scene.servers[0].executor)
    return None


def one_workflow(_: Scene, storage: SqlStorage) -> object:
    rows = read(storage, "SELECT id FROM {schema}.workflows")
    assert len({row.id for row in rows}) == len(rows) <= 2
    ticks = read(storage, "SELECT nominal, repeat, outcome, workflow_id FROM {schema}.ticks")
    assert len({(tick.nominal, tick.repeat) for tick in ticks}) == len(ticks)
    assert {tick.workflow_id for tick in ticks if tick.workflow_id} == {row.id for row in rows}
    return None


@pytest.fixture(autouse=True)
def now(clock: ManualClock) -> None:
    clock._now = BEGIN + HOUR // 2 + 1000


@pytest.mark.parametrize("second", [Planner, Westward, Eastward])
def test_two_processes_decide_one_tick(race: Race, second: type[Planner]) -> None:
    race(scene_of(SPEC, second), decide(0), decide(1), must_hold=one_workflow)


@pytest.mark.parametrize("other", [pause, change, delete, backfill, die])
def test_a_tick_is_decided_while_its_schedule_changes_or_the_process_dies(
    race: Race, other: Operation[Scene]
) -> None:
    """Who decides it is all the same; the tick was due before any of it, so it runs once, unless the schedule is gone."""

    def go_on(scene: Scene, storage: SqlStorage) -> object:
        return [decide(1)(scene, storage) for _ in range(3)]

    def decided_once(scene: Scene, storage: SqlStorage) -> object:
        go_on(scene, storage)
        one_workflow(scene, storage)
        rows = read(storage, "SELECT outcome FROM {schema}.ticks WHERE nominal = :nominal", nominal=NOMINAL)
        outcomes = [row.outcome for row in rows]
        assert outcomes in ([["ran"], []] if other is delete else [["ran"], ["backfilled"]])
        return None

    race(scene_of(SPEC), decide(0), other, then=go_on, must_hold=decided_once, serial=False)


@pytest.mark.parametrize("other", [pause, change, delete])
def test_two_operators_change_one_schedule(race: Race, other: Operation[Scene]) -> None:
    race(scene_of(SPEC), pause, other)


def test_two_processes_make_one_schedule(race: Race) -> None:
    def nothing(storage: SqlStorage) -> None: ...

    def create(_: None, storage: SqlStorage) -> object:
        return storage.schedules.create(APP, SPEC, begin_of(APP, SPEC, BEGIN), by="a test")

    def declare(_: None, storage: SqlStorage) -> object:
        return storage.schedules.declare(APP, "v1", SPEC, begin_of(APP, SPEC, BEGIN), by="a test")

    race(nothing, create, create)
    race(nothing, declare, declare)


def test_a_buffered_tick_is_started_by_one_process(race: Race, clock: ManualClock) -> None:
    def make(storage: SqlStorage) -> Scene:
        clock._now = BEGIN + HOUR // 2 + 1000
        scene: Scene = scene_of(replace(SPEC, overlap="buffer_one"))(storage)
        decide(0)(scene, storage)
        clock._now += HOUR
        decide(0)(scene, storage)
        [tick] = read(storage, "SELECT nominal FROM {schema}.ticks WHERE outcome = 'buffered'")
        assert tick.nominal == "2030-01-01T09:00:00"
        storage.workflows.cancel([tick_id(APP, "hourly", NOMINAL, "America/New_York", 0)])
        return scene

    def ran_once(_: Scene, storage: SqlStorage) -> object:
        rows = read(storage, "SELECT id FROM {schema}.workflows WHERE status = 'PENDING'")
        assert len(rows) <= 1
        return None

    race(make, decide(0), decide(1), must_hold=ran_once)
