"""Cancel and resume."""

import asyncio
import threading
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID
from dbos_events.errors import DBOSAwaitedWorkflowCancelledError, DBOSException
from dbos_events.testing.plugin import MakeTestApp

PATIENCE = 10.0


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def calls() -> list[str]:
    return []


def test_a_cancelled_workflow_stops_at_its_next_operation(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(name: str) -> None:
        calls.append(name)
        if name == "a":
            inside.set()
            assert go_on.wait(PATIENCE)

    @app.workflow()
    def steps() -> None:
        try:
            for name in "abc":
                step(name)
        except Exception:  # noqa: BLE001 - a cancellation passes through this
            calls.append("swallowed")

    inside, go_on = threading.Event(), threading.Event()
    dbos = dbos_test_app(app)
    handle = app.start_workflow(steps)
    assert inside.wait(PATIENCE)
    app.cancel_workflow(handle.workflow_id)
    go_on.set()
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    dbos.run_until_idle()
    assert calls == ["a"]
    assert handle.get_status().status == "CANCELLED"


def test_a_cancelled_sleeper_never_wakes(app: App, calls: list[str], dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def sleeps() -> None:
        app.sleep(60)
        calls.append("woken")

    dbos = dbos_test_app(app)
    handle = app.start_workflow(sleeps)
    dbos.run_until_idle()
    app.cancel_workflow(handle.workflow_id)
    dbos.advance(days=1)
    assert calls == []
    assert handle.get_status().status == "CANCELLED"


def test_a_resident_sleeper_is_woken_by_its_cancellation(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def sleeps() -> None:
        app.sleep(60)
        calls.append("woken")

    @app.step(retries_allowed=True, interval_seconds=60)
    async def fails() -> None:
        calls.append("attempt")
        raise OSError

    @app.workflow()
    async def retries() -> None:
        await fails()

    dbos = dbos_test_app(app, park_after_seconds=3600.0)

    async def start() -> str:
        return (await app.start_workflow_async(retries)).workflow_id

    ids = [app.start_workflow(sleeps).workflow_id, asyncio.run(start())]
    dbos.run_until_idle()
    assert sorted(dbos.core.runner.active) == sorted(ids)
    app.cancel_workflows(ids)
    dbos.run_until_idle()
    assert dbos.core.runner.active == {}
    assert calls == ["attempt"]


def test_a_cancelled_workflow_leaves_its_queue(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    queue = app.queue("q", concurrency=1)

    @app.workflow()
    def task(name: str) -> None:
        calls.append(name)

    dbos = dbos_test_app(app)
    handles = [queue.enqueue(task, name) for name in "abc"]
    app.cancel_workflow(handles[1].workflow_id)
    app.cancel_workflow(handles[1].workflow_id)
    dbos.run_until_idle()
    assert calls == ["a", "c"]


def test_cancelling_what_has_ended_changes_nothing(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def quick() -> int:
        return 1

    dbos_test_app(app)
    handle = app.start_workflow(quick)
    handle.get_result()
    app.cancel_workflow(handle.workflow_id)
    app.resume_workflow(handle.workflow_id)
    assert handle.get_status().status == "SUCCESS"


def test_a_resumed_workflow_goes_on_where_its_history_ends(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(name: str) -> str:
        calls.append(name)
        return name

    @app.workflow()
    def steps() -> str:
        first = step("a")
        app.sleep(60)
        return first + step("b")

    dbos = dbos_test_app(app)
    handle = app.start_workflow(steps)
    dbos.run_until_idle()
    app.cancel_workflow(handle.workflow_id)
    dbos.advance(hours=1)
    assert app.resume_workflow(handle.workflow_id).get_result() == "ab"
    assert calls == ["a", "b"]
    assert handle.get_status().status == "SUCCESS"


def test_a_run_that_was_resumed_elsewhere_writes_nothing_more(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    """The old run of a resumed workflow is fenced by its token, also within one process."""
    inside, go_on, old_ended = threading.Event(), threading.Event(), threading.Event()

    @app.step()
    def step() -> int:
        calls.append("step")
        if calls == ["step"]:
            inside.set()
            assert go_on.wait(PATIENCE)
            return 1
        assert old_ended.wait(PATIENCE)
        return 2

    @app.workflow()
    def steps() -> int:
        result = step()
        app.sleep(1)
        return result

    dbos = dbos_test_app(app)
    handle = app.start_workflow(steps)
    assert inside.wait(PATIENCE)
    old_ended.wake = old_ended.set  # type: ignore[attr-defined]
    dbos.core.runner.active[handle.workflow_id].when_ended(old_ended)  # type: ignore[arg-type]
    app.resume_workflow(handle.workflow_id)
    dbos.app.launched.queues.tick()
    go_on.set()
    assert handle.get_result() == 2
    assert app.list_workflow_steps(handle.workflow_id)[0].output == 2


def test_verbs_within_a_workflow_are_recorded(app: App, dbos_test_app: MakeTestApp) -> None:
    seen: list[Any] = []

    @app.workflow()
    def victim() -> None:
        app.sleep(3600)

    @app.workflow()
    def operator() -> None:
        with SetWorkflowID("victim"):
            app.start_workflow(victim)
        app.cancel_workflow("victim")
        status = app.get_workflow_status("victim")
        assert status is not None
        seen.append((status.status, len(app.list_workflows(name=victim.__qualname__))))
        app.resume_workflow("victim")
        app.sleep(60)

    dbos_test_app(app)
    handle = app.start_workflow(operator)
    handle.get_result()
    assert seen == [("CANCELLED", 1)] * 2
    names = [step.function_name for step in app.list_workflow_steps(handle.workflow_id)]
    assert names[1:] == [
        "DBOS.cancelWorkflow", "DBOS.getStatus", "DBOS.listWorkflows", "DBOS.resumeWorkflow", "DBOS.sleep",
    ]  # fmt: skip


def test_listings_filter_and_page(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def task(number: int) -> int:
        if number == 3:
            raise ValueError(number)
        return number

    dbos = dbos_test_app(app)
    for number in range(5):
        with SetWorkflowID(f"task-{number}"):
            app.start_workflow(task, number)
        dbos.run_until_idle()
        dbos.advance(seconds=1)
    assert [row.workflow_id for row in app.list_workflows(status="ERROR")] == ["task-3"]
    assert [row.workflow_id for row in app.list_workflows(limit=2, offset=1)] == ["task-1", "task-2"]
    assert [row.workflow_id for row in app.list_workflows(sort_desc=True, limit=1)] == ["task-4"]
    assert [row.output for row in app.list_workflows(workflow_id_prefix="task-")] == [0, 1, 2, None, 4]
    with pytest.raises(DBOSException, match=r"ISO|time"):
        app.list_workflows(start_time="yesterday")
