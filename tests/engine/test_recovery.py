"""Crashes, deploys, and several Apps (protocol, rules 1, 2 and 12; P6)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID
from dbos_events.errors import (
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    DBOSUnexpectedStepError,
    SerializationError,
)
from dbos_events.testing import ManualClock
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


def test_a_workflow_that_always_crashes_its_process_is_given_up(app: App, dbos_test_app: MakeTestApp) -> None:
    runs: list[int] = []

    @app.workflow(max_recovery_attempts=2)
    def deadly() -> None:
        runs.append(1)
        dbos.crash()

    @app.workflow()
    def parent() -> str:
        with SetWorkflowID("deadly"):
            handle = app.start_workflow(deadly)
        try:
            handle.get_result()
        except DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded as error:
            return str(error)
        return ""

    dbos = dbos_test_app(app)
    handle = app.start_workflow(parent)
    dbos.run_until_idle()
    assert len(runs) == 3
    assert app.retrieve_workflow("deadly").get_status().status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    assert "Mend the cause and resume it" in handle.get_result()


def test_progress_forgives_the_crashes_before_it(app: App, dbos_test_app: MakeTestApp) -> None:
    runs: dict[int, int] = {}

    @app.step()
    def step(number: int) -> int:
        runs[number] = runs.get(number, 0) + 1
        if runs[number] < 3:
            dbos.crash()
        return number

    @app.workflow(max_recovery_attempts=2)
    def many() -> int:
        return sum(step(number) for number in range(4))

    dbos = dbos_test_app(app)
    handle = app.start_workflow(many)
    dbos.run_until_idle()
    assert handle.get_result() == 6
    assert runs == dict.fromkeys(range(4), 3)
    assert handle.get_status().recovery_attempts == 0


def test_waking_up_is_no_crash(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow(max_recovery_attempts=1)
    def daily() -> int:
        for _ in range(5):
            app.sleep(86_400)
        return 5

    dbos = dbos_test_app(app)
    handle = app.start_workflow(daily)
    for _ in range(4):
        dbos.advance(days=1)
        dbos.crash()  # nothing was running: no crash of this workflow
    assert handle.get_result() == 5


def test_a_workflow_that_was_given_up_goes_on_when_it_is_resumed(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    mended: list[int] = []

    @app.workflow(max_recovery_attempts=0)
    def deadly() -> str:
        if not mended:
            dbos.crash()
        return "fine"

    dbos = dbos_test_app(app)
    handle = app.start_workflow(deadly)
    dbos.run_until_idle()
    assert handle.get_status().status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    mended.append(1)
    assert app.resume_workflow(handle.workflow_id).get_result() == "fine"


def test_input_that_cannot_be_read_fails_the_workflow_and_runs_nothing(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    runs: list[Any] = []
    queue = app.queue("q")

    @app.workflow()
    def task(value: Any = "default") -> None:
        runs.append(value)

    dbos = dbos_test_app(app, serializer="pickle")
    handle = queue.enqueue(task, len)
    dbos.crash(serializer="json")
    with pytest.raises(SerializationError, match="stored input"):
        handle.get_result()
    assert runs == []


# ---------------------------------------------------------------------- deploys


def orders_app(*steps: str) -> tuple[App, Callable[[], str]]:
    """A release of an application: its workflow sleeps for a minute, then calls these steps."""
    app = App()

    def step_called(name: str) -> Callable[[], str]:
        return app.step(name=name)(lambda: name)

    called = [step_called(name) for name in steps]

    @app.workflow(name="order")
    def order() -> str:
        done = [called[0]()]
        app.sleep(60)
        return " ".join([*done, *(each() for each in called[1:])])

    return app, order


@pytest.fixture
def deploy(dbos_test_app: MakeTestApp, tmp_path: Path) -> Callable[..., Any]:
    """Launch one more process of the application on the same database and clock."""
    clock = ManualClock()

    def launch(app: App, version: str) -> Any:
        url = f"sqlite:///{tmp_path}/shared.sqlite"
        return dbos_test_app(app, database_url=url, clock=clock, application_version=version)

    return launch


def test_a_live_process_of_its_version_is_preferred(deploy: Callable[..., Any]) -> None:
    (old_app, order), (new_app, _) = orders_app("reserve", "pay"), orders_app("check", "pay")
    old, new = deploy(old_app, "1"), deploy(new_app, "2")
    handle = old_app.start_workflow(order)
    old.run_until_idle()
    new.advance(seconds=60)
    assert handle.get_status().status == "PENDING"
    old.run_until_idle()
    assert handle.get_result() == "reserve pay"


def test_when_no_process_of_its_version_lives_current_code_takes_it(deploy: Callable[..., Any]) -> None:
    (old_app, order), (new_app, _) = orders_app("reserve", "pay"), orders_app("reserve", "send")
    old, new = deploy(old_app, "1"), deploy(new_app, "2")
    with SetWorkflowID("order-1"):
        old_app.start_workflow(order)
    old.run_until_idle()
    old.close()
    new.advance(seconds=60)
    assert new_app.retrieve_workflow("order-1").get_result() == "reserve send"


def test_code_that_does_not_fit_the_history_ends_it_as_a_version_mismatch(deploy: Callable[..., Any]) -> None:
    (old_app, order), (new_app, _) = orders_app("reserve", "pay"), orders_app("check", "pay")
    old, new = deploy(old_app, "1"), deploy(new_app, "2")
    with SetWorkflowID("order-1"):
        old_app.start_workflow(order)
    old.run_until_idle()
    old.close()
    new.advance(seconds=60)
    with pytest.raises(
        DBOSUnexpectedStepError, match="written by application version 1, this process runs 2"
    ) as error:
        new_app.retrieve_workflow("order-1").get_result()
    assert error.value.version_mismatch is True
    status = new_app.retrieve_workflow("order-1").get_status()
    assert (status.status, status.recovery_attempts) == ("ERROR", 0)


def test_work_that_has_not_started_runs_on_whatever_code_is_there(deploy: Callable[..., Any]) -> None:
    (old_app, order), (new_app, _) = orders_app("reserve"), orders_app("check")
    old_queue, _ = old_app.queue("q"), new_app.queue("q")
    deploy(old_app, "1")
    new = deploy(new_app, "2")
    handle = old_queue.enqueue(order)
    new.advance(seconds=60)
    assert new_app.retrieve_workflow(handle.workflow_id).get_result() == "check"


def test_started_work_of_a_queue_prefers_its_version_too(deploy: Callable[..., Any]) -> None:
    (old_app, order), (new_app, _) = orders_app("reserve"), orders_app("check")
    old_queue, _ = old_app.queue("q"), new_app.queue("q")
    old, new = deploy(old_app, "1"), deploy(new_app, "2")
    handle = old_queue.enqueue(order)
    old.run_until_idle()
    new.advance(seconds=60)
    assert handle.get_status().status == "ENQUEUED"
    old.run_until_idle()
    assert handle.get_result() == "reserve"


# ---------------------------------------------------------------------- several Apps


def counting_app(name: str, url: str) -> tuple[App, Callable[[int], int], list[int]]:
    app = App({"name": name, "system_database_url": url})
    ran: list[int] = []

    @app.step()
    def step(number: int) -> int:
        ran.append(number)
        return number + 1

    @app.workflow(name="count")
    def count(number: int) -> int:
        return step(step(number))

    app.queue("q")
    return app, count, ran


@pytest.mark.parametrize("files", [("one", "one"), ("one", "two")], ids=["one database", "two databases"])
def test_two_apps_in_one_process_keep_to_themselves(tmp_path: Path, files: tuple[str, str]) -> None:
    urls = [f"sqlite:///{tmp_path}/{file}.sqlite" for file in files]
    first, count_first, ran_first = counting_app("first", urls[0])
    second, count_second, ran_second = counting_app("second", urls[1])
    with first, second:
        assert count_first(1) == 3
        assert count_second(10) == 12
        with SetWorkflowID("queued"):
            first.queue("q").enqueue(count_first, 100)
        assert first.retrieve_workflow("queued").get_result() == 102
        second.destroy()
        assert count_first(5) == 7
    assert ran_first == [1, 2, 100, 101, 5, 6]
    assert ran_second == [10, 11]


def test_work_of_another_application_is_never_taken(dbos_test_app: MakeTestApp, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.sqlite"
    clock = ManualClock()
    (ours, order), (theirs, their_order) = orders_app("a"), orders_app("b")
    our_test = dbos_test_app(ours, database_url=url, clock=clock, name="ours")
    their_test = dbos_test_app(theirs, database_url=url, clock=clock, name="theirs")
    handles = [ours.start_workflow(order), theirs.start_workflow(their_order)]
    our_test.run_until_idle()
    their_test.run_until_idle()
    our_test.close()
    their_test.advance(seconds=60)
    assert [theirs.retrieve_workflow(handle.workflow_id).get_status().status for handle in handles] == [
        "PENDING",
        "SUCCESS",
    ]


def test_what_nobody_can_run_waits_until_somebody_registers_it(deploy: Callable[..., Any]) -> None:
    old_app, order = orders_app("reserve")
    old = deploy(old_app, "1")
    with SetWorkflowID("order-1"):
        old_app.start_workflow(order)
    old.run_until_idle()
    old.close()
    empty = App()
    nobody = deploy(empty, "2")
    nobody.advance(minutes=5)
    assert empty.retrieve_workflow("order-1").get_status().status == "PENDING"
    new_app, _ = orders_app("reserve")
    new = deploy(new_app, "3")
    new.run_until_idle()
    assert new_app.retrieve_workflow("order-1").get_result() == "reserve"
