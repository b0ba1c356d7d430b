"""The testing kit: time, crashes, checks, and what it says when a test waits in vain."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dbos_events import DBOS, App, Queue
from dbos_events.errors import DBOSException, SerializationError
from dbos_events.testing import ManualClock, TestApp
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


def test_it_runs_the_app_behind_dbos_by_default(dbos_test_app: MakeTestApp) -> None:
    @DBOS.workflow()
    def double(number: int) -> int:
        return number * 2

    queue = Queue("of-the-default-app")
    try:
        dbos_test_app()
        assert double(4) == 8
        assert queue.enqueue(double, 5).get_result() == 10
        assert DBOS.list_workflows(status="SUCCESS", limit=1)[0].output == 8
    finally:
        DBOS.destroy(destroy_registry=True)


def test_time_stands_still_until_the_test_moves_it(app: App, dbos_test_app: MakeTestApp) -> None:
    ran: list[float] = []

    @app.step()
    def note() -> None:
        ran.append((dbos.clock.now_ms() - began) / 3_600_000)

    @app.workflow()
    def hourly() -> None:
        for _ in range(3):
            app.sleep(3600)
            note()

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    app.start_workflow(hourly)
    dbos.run_until_idle()
    assert ran == []
    dbos.advance(minutes=59)
    assert ran == []
    dbos.advance(days=1)
    assert ran == [1.0, 2.0, 3.0], "what falls due on the way runs at its own time"
    assert dbos.clock.now == datetime(2030, 1, 2, 0, 59, tzinfo=UTC)


def test_who_waits_for_a_result_moves_the_time(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def yearly() -> str:
        app.sleep(365 * 86_400)
        return "happy new year"

    dbos = dbos_test_app(app)
    assert yearly() == "happy new year"
    assert dbos.clock.now.year == 2031


@pytest.mark.asyncio
async def test_an_async_test_waits_in_the_same_way(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def yearly(number: int) -> int:
        await app.sleep_async(365 * 86_400)
        return number

    dbos_test_app(app)
    assert await asyncio.gather(*(yearly(number) for number in range(8))) == list(range(8))


def test_idle_means_that_nothing_is_left_to_do(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def leaf(number: int) -> int:
        return number

    @app.workflow()
    def tree(depth: int) -> int:
        if depth == 0:
            return int(queue.enqueue(leaf, 1).get_result())
        return sum(handle.get_result() for handle in [app.start_workflow(tree, depth - 1) for _ in range(2)])

    queue = app.queue("leaves", concurrency=2)
    dbos = dbos_test_app(app)
    handle = app.start_workflow(tree, 3)
    assert dbos.run_until_idle() is True
    assert handle.get_status().output == 8
    assert dbos.run_until_idle() is False


def test_a_test_that_waits_in_vain_is_told_why(app: App, dbos_test_app: MakeTestApp) -> None:
    queue = app.queue("gone")

    @app.workflow()
    def never() -> None: ...

    dbos_test_app(app)
    handle = queue.enqueue(never)
    del app.registry.queues["gone"]
    with pytest.raises(DBOSException, match=rf"(?s)in vain.*{handle.workflow_id}.*ENQUEUED, queue gone"):
        handle.get_result()


def test_a_step_that_takes_too_long_is_named(app: App, dbos_test_app: MakeTestApp) -> None:
    go_on = threading.Event()

    @app.workflow()
    def stuck() -> None:
        go_on.wait(10)

    dbos = dbos_test_app(app, patience=0.05)
    app.start_workflow(stuck)
    with pytest.raises(DBOSException, match=r"Still running after .* real time: .*stuck"):
        dbos.run_until_idle()
    go_on.set()


def test_a_crash_loses_what_was_not_durable_and_nothing_else(app: App, dbos_test_app: MakeTestApp) -> None:
    ran: list[int] = []

    @app.step()
    def step(number: int) -> int:
        ran.append(number)
        if ran == [1, 2]:
            dbos.crash()
        return number

    @app.workflow()
    def two() -> int:
        return step(1) + step(2)

    dbos = dbos_test_app(app)
    handle = app.start_workflow(two)
    first_life = dbos.core.executor
    dbos.run_until_idle()
    assert handle.get_result() == 3
    assert ran == [1, 2, 2]
    assert dbos.core.executor != first_life


def test_a_step_that_a_crash_overtook_records_nothing(app: App, dbos_test_app: MakeTestApp) -> None:
    inside, go_on = threading.Event(), threading.Event()
    results = iter(["first life", "second life"])

    @app.step()
    def step() -> str:
        result = next(results)
        if result == "first life":
            inside.set()
            assert go_on.wait(10)
        return result

    @app.workflow()
    def one() -> str:
        return step()

    dbos = dbos_test_app(app)
    handle = app.start_workflow(one)
    assert inside.wait(10)
    dbos.crash()
    go_on.set()
    assert handle.get_result() == "second life"


def test_a_new_process_may_be_of_another_version(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def sleeps() -> str:
        app.sleep(1)
        return app.core.version

    dbos = dbos_test_app(app, application_version="1")
    handle = app.start_workflow(sleeps)
    dbos.run_until_idle()
    dbos.crash(application_version="2")
    assert handle.get_result() == "2"


class Amount:
    def __init__(self, cents: int) -> None:
        self.cents = cents
        self.label = f"{cents} cents"

    def __reduce__(self) -> Any:
        return Amount, (0,)


def test_a_value_that_would_come_back_changed_fails_its_step(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    def price() -> Any:
        return Amount(5)

    @app.workflow()
    def asks() -> None:
        price()

    dbos_test_app(app, serializer="pickle")
    with pytest.raises(SerializationError, match="comes back changed"):
        asks()


def test_the_check_can_be_left_out(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def price() -> Any:
        return Amount(5)

    dbos_test_app(app, serializer="pickle", check_values=False)
    handle = app.start_workflow(price)
    handle.get_result()
    assert handle.get_status().output.cents == 0


def test_an_app_that_is_launched_is_left_alone(app: App, tmp_path: Path) -> None:
    app.configure({"name": "live", "system_database_url": f"sqlite:///{tmp_path}/live.sqlite"})
    with app, pytest.raises(DBOSException, match="launched already"), TestApp(app):
        pass


def test_nothing_is_left_behind(app: App) -> None:
    with TestApp(app) as dbos:
        folder = Path(dbos._folder.name)
        assert any(folder.iterdir())
    assert not folder.exists()
    assert not app.is_launched
    assert not [thread for thread in threading.enumerate() if thread.name == "dbos-committer"]


def test_a_clock_has_a_zone_and_does_not_go_back() -> None:
    with pytest.raises(DBOSException, match="time zone"):
        ManualClock(datetime(2030, 1, 1))  # noqa: DTZ001
    clock = ManualClock()
    with pytest.raises(DBOSException, match="not go back"):
        clock.advance(timedelta(seconds=-1))
    clock.advance(timedelta(days=1))
    assert clock.now == datetime(2030, 1, 2, tzinfo=UTC)
