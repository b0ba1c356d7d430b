"""The sweeper takes what nobody holds, runs it, gives it back, and yields to whoever is assigned it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.runtime.sweeper import AT_ONCE, SweeperService
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.storage.subjects.orphans import Orphan
from dbos_events.storage.subjects.positions import AssignedPosition
from dbos_events.storage.subjects.taking import Taker
from dbos_events.testing import TestApp

GRACE = 120.0


@dataclass
class Lanes:
    """What the sweeper opens, as a test moves it."""

    orphan: Orphan
    position: AssignedPosition
    idle: bool = False
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class Opened:
    """All lanes that were opened, in order."""

    lanes: list[Lanes] = field(default_factory=list)

    def __call__(self, orphan: Orphan, position: AssignedPosition) -> Lanes:
        self.lanes.append(Lanes(orphan, position))
        return self.lanes[-1]


@pytest.fixture
def dbos(database_url: str) -> Iterator[TestApp]:
    """An ordered consumer whose events wait for a step that never comes, on all partitions but one."""
    app = App({"name": "shop"})

    @app.kafka_consumer(topics=["orders"], name="orders", ordering="partition")
    def on_order(message: KafkaMessage[bytes]) -> None:
        app.sleep(60)

    with TestApp(app, database_url=database_url) as started:
        for partition in range(AT_ONCE + 2):
            started.deliver(on_order, "first", partition=partition)
        started.run_until_idle()
        yield started


def orphan_all(dbos: TestApp) -> int:
    """The holder dies; gives the executor of another process, whose clock is past the grace time."""
    core = dbos.core
    storage = core.storage
    dead, alive = core.executor, storage.executors.register(_twin(dbos))
    [row] = [row for row in storage.executors.read("shop") if row.id == dead]
    assert storage.executors.declare_dead(dead, row.heartbeat, "test")
    core.executor = alive
    dbos.clock.move_to(dbos.clock.now_ms() + round((GRACE + 60) * 1000))
    storage.taking.wake_due(
        Taker(alive, "shop", core.version, core.registry.names()), 10
    )  # what slept is ready
    return alive


def _twin(dbos: TestApp) -> NewExecutor:
    return NewExecutor("shop", "other", False, dbos.core.version, "boot", "ns", 1, "now", 10_000_000)


def test_it_takes_orphans_and_gives_them_back_when_nothing_is_left(dbos: TestApp) -> None:
    opened = Opened()
    sweeper = SweeperService(dbos.core, opened, GRACE)
    sweeper.tick()
    assert opened.lanes == [], "their holder lives"

    orphan_all(dbos)
    sweeper.tick()
    assert len(opened.lanes) == len(sweeper.sweeping) == AT_ONCE
    assert {lane.position.next_offset for lane in opened.lanes} == {1}
    assert all(lane.position.epoch == lane.orphan.epoch + 1 for lane in opened.lanes)
    sweeper.tick()
    assert len(opened.lanes) == AT_ONCE, "what is swept is not taken twice"

    opened.lanes[0].idle = True
    sweeper.tick()
    assert opened.lanes[0].closed
    assert len(opened.lanes) == AT_ONCE + 1, "there is room for another"
    [row] = [
        row
        for row in dbos.core.storage.positions.read("shop")
        if row.partition == opened.lanes[0].orphan.partition
    ]
    assert row.holder is None


def test_it_yields_to_an_assignment(dbos: TestApp) -> None:
    opened = Opened()
    sweeper = SweeperService(dbos.core, opened, GRACE)
    executor = orphan_all(dbos)
    sweeper.tick()
    lanes = opened.lanes[0]
    dbos.core.storage.positions.assign(
        executor, lanes.orphan.consumer, lanes.orphan.incarnation, [lanes.orphan.partition]
    )
    sweeper.tick()
    assert lanes.closed
    assert not any(other.closed for other in opened.lanes[1:])


def test_it_lets_go_of_all_when_the_process_goes_on_as_another_executor(dbos: TestApp) -> None:
    opened = Opened()
    sweeper = SweeperService(dbos.core, opened, GRACE)
    orphan_all(dbos)
    sweeper.tick()
    first = list(opened.lanes)
    dbos.core.executor = dbos.core.storage.executors.register(_twin(dbos))
    sweeper.tick()
    assert all(lanes.closed for lanes in first)


def test_it_takes_only_what_this_process_has_the_handler_for(dbos: TestApp) -> None:
    opened = Opened()
    sweeper = SweeperService(dbos.core, opened, GRACE)
    orphan_all(dbos)
    del dbos.core.registry.workflows[next(iter(dbos.core.registry.workflows))]
    sweeper.tick()
    assert opened.lanes == []
