"""Queues: order, and limits that are exact over processes."""

import threading
from typing import Any

import pytest

from dbos_events import App, Queue, SetWorkflowID
from dbos_events.errors import RegistrationError
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


def test_a_queue_starts_workflows_in_the_order_in_which_they_came(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    ran: list[int] = []
    queue = app.queue("one-by-one", concurrency=1)

    @app.workflow()
    def task(number: int) -> int:
        ran.append(number)
        return number * 2

    dbos_test_app(app)
    handles = [queue.enqueue(task, number) for number in range(5)]
    assert ran == []
    assert handles[4].get_result() == 8
    assert ran == [0, 1, 2, 3, 4]
    assert [handle.get_status().queue_name for handle in handles] == ["one-by-one"] * 5


@pytest.mark.parametrize("limit", ["concurrency", "worker_concurrency"])
def test_no_more_run_at_once_than_the_queue_allows(app: App, dbos_test_app: MakeTestApp, limit: str) -> None:
    running: set[int] = set()
    most: list[int] = []
    lock = threading.Lock()
    queue = Queue("narrow", app=app, **{limit: 2})  # type: ignore[arg-type]

    @app.workflow()
    def task(number: int) -> None:
        with lock:
            running.add(number)
            most.append(len(running))
        threading.Event().wait(0.005)
        with lock:
            running.remove(number)

    dbos = dbos_test_app(app)
    handles = [queue.enqueue(task, number) for number in range(9)]
    dbos.run_until_idle()
    assert {handle.get_status().status for handle in handles} == {"SUCCESS"}
    assert max(most) == 2


def test_a_sleeping_workflow_gives_its_place_up_and_takes_it_again(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    woken: list[str] = []
    queue = app.queue("one", concurrency=1, worker_concurrency=1)

    @app.workflow()
    def sleeps() -> None:
        app.sleep(60)
        woken.append("sleeper")

    @app.workflow()
    def quick() -> None:
        woken.append("quick")

    dbos = dbos_test_app(app)
    handles = [queue.enqueue(sleeps), queue.enqueue(quick)]
    dbos.run_until_idle()
    assert woken == ["quick"]
    dbos.advance(seconds=60)
    assert woken == ["quick", "sleeper"]
    assert handles[0].get_status().status == "SUCCESS"


def test_no_more_start_within_a_period_than_the_limiter_allows(app: App, dbos_test_app: MakeTestApp) -> None:
    times: list[int] = []
    queue = app.queue("slow", limiter={"limit": 2, "period": 10})

    @app.workflow()
    def task() -> None:
        times.append((dbos.clock.now_ms() - began) // 1000)

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    for _ in range(7):
        queue.enqueue(task)
    dbos.run_until_idle()
    assert times == [0, 0]
    dbos.advance(seconds=9.9)
    assert times == [0, 0]
    dbos.advance(seconds=60)
    assert len(times) == 7
    assert all(later - earlier >= 10 for earlier, later in zip(times, times[2:], strict=False))


def test_a_queue_that_nobody_declared_keeps_its_workflows(app: App, dbos_test_app: MakeTestApp) -> None:
    queue = app.queue("declared")

    @app.workflow()
    def task() -> int:
        return 1

    dbos = dbos_test_app(app)
    handle = queue.enqueue(task)
    del app.registry.queues["declared"]
    dbos.run_until_idle()
    assert handle.get_status().status == "ENQUEUED"
    app.registry.queues["declared"] = queue.limits
    assert handle.get_result() == 1


def test_a_step_can_be_enqueued_and_a_workflow_can_enqueue(app: App, dbos_test_app: MakeTestApp) -> None:
    queue = app.queue("steps")

    @app.step()
    def double(number: int) -> int:
        return number * 2

    @app.workflow()
    def fans_out() -> list[int]:
        return [handle.get_result() for handle in [queue.enqueue(double, number) for number in range(4)]]

    dbos_test_app(app)
    with SetWorkflowID("fan"):
        assert fans_out() == [0, 2, 4, 6]
    assert {row.workflow_id for row in app.list_workflows(parent_workflow_id="fan")} == {
        f"fan-{number}" for number in range(1, 5)
    }


def test_the_same_id_is_enqueued_once(app: App, dbos_test_app: MakeTestApp) -> None:
    ran: list[int] = []
    queue = app.queue("once")

    @app.workflow()
    def task(number: int) -> int:
        ran.append(number)
        return number

    dbos = dbos_test_app(app)
    for number in range(3):
        with SetWorkflowID("same"):
            handle = queue.enqueue(task, number)
    dbos.run_until_idle()
    assert handle.get_result() == 0
    assert ran == [0]


def test_a_crash_takes_a_queues_work_up_again(app: App, dbos_test_app: MakeTestApp) -> None:
    ran: list[int] = []
    queue = app.queue("recovered", concurrency=1)

    @app.workflow()
    def task(number: int) -> int:
        ran.append(number)
        if ran == [0]:
            dbos.crash()
        return number

    dbos = dbos_test_app(app)
    handles = [queue.enqueue(task, number) for number in range(3)]
    dbos.run_until_idle()
    assert [handle.get_status().output for handle in handles] == [0, 1, 2]
    assert ran == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "at least 1"),
        ({"concurrency": 1, "worker_concurrency": 2}, "cannot be above"),
        ({"limiter": {"limit": 0, "period": 1}}, "at least 1"),
        ({"limiter": {"limit": 1, "period": 0}}, "above 0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(app: App, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        app.queue("q", **options)


def test_a_queue_is_declared_once(app: App) -> None:
    app.queue("q", concurrency=1)
    app.queue("q", concurrency=1)
    with pytest.raises(RegistrationError, match="declared twice"):
        app.queue("q", concurrency=2)
    with pytest.raises(RegistrationError, match="reserved"):
        app.queue("_dbos_internal")


def test_a_queue_may_be_declared_after_launch(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def task() -> int:
        return 1

    dbos: TestApp = dbos_test_app(app)
    queue = app.queue("late", concurrency=1)
    assert queue.enqueue(task).get_result() == 1
    assert not dbos.run_until_idle()
