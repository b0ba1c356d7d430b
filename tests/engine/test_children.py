"""Workflows that start workflows."""

import asyncio
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID
from dbos_events.errors import DBOSAwaitedWorkflowCancelledError
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


def test_a_child_is_named_after_its_parent_and_its_place(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def child(name: str) -> str:
        return name

    @app.workflow()
    def parent() -> list[str]:
        direct = child("direct")
        background = app.start_workflow(child, "background")
        with SetWorkflowID("its-own"):
            named = app.start_workflow(child, "named")
        return [direct, background.get_result(), named.get_result()]

    dbos_test_app(app)
    with SetWorkflowID("parent"):
        assert parent() == ["direct", "background", "named"]
    children = app.list_workflows(parent_workflow_id="parent")
    assert sorted(each.workflow_id for each in children) == ["its-own", "parent-1", "parent-3"]
    steps = app.list_workflow_steps("parent")
    assert [step.child_workflow_id for step in steps] == [
        "parent-1", "parent-1", "parent-3", "its-own", "parent-3", "its-own",
    ]  # fmt: skip


def test_a_child_is_started_once_over_crashes(app: App, dbos_test_app: MakeTestApp) -> None:
    runs: list[str] = []

    @app.workflow()
    def child() -> str:
        runs.append("child")
        return "result"

    @app.step()
    def crashes() -> None:
        runs.append("step")
        if runs.count("step") == 1:
            dbos.crash()

    @app.workflow()
    def parent() -> str:
        handle = app.start_workflow(child)
        crashes()
        return handle.get_result()

    dbos = dbos_test_app(app)
    handle = app.start_workflow(parent)
    dbos.run_until_idle()
    assert handle.get_result() == "result"
    assert runs.count("step") == 2
    assert len(app.list_workflows()) == 2


def test_a_childs_error_is_its_parents_to_handle(app: App, dbos_test_app: MakeTestApp) -> None:
    seen: list[str] = []

    @app.workflow()
    def child() -> None:
        raise KeyError("missing")

    @app.workflow()
    def parent() -> None:
        for call in (child, app.start_workflow(child).get_result):
            try:
                call()
            except KeyError as error:
                seen.append(str(error))
        app.sleep(60)

    dbos_test_app(app)
    parent()
    assert seen == ["'missing'"] * 4


def test_a_parent_learns_that_its_child_was_cancelled(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def child() -> None:
        app.sleep(3600)

    @app.workflow()
    def parent() -> str:
        with SetWorkflowID("child"):
            handle = app.start_workflow(child)
        try:
            handle.get_result()
        except DBOSAwaitedWorkflowCancelledError:
            return "cancelled"
        return "ended"

    dbos = dbos_test_app(app)
    handle = app.start_workflow(parent)
    dbos.run_until_idle()
    app.cancel_workflow("child")
    started = dbos.clock.now_ms()
    assert handle.get_result() == "cancelled"
    assert dbos.clock.now_ms() == started


@pytest.mark.parametrize("park_after_seconds", [0.0, 3600.0], ids=["parked", "resident"])
def test_deep_nesting_in_a_pool_of_two_ends(
    app: App, dbos_test_app: MakeTestApp, park_after_seconds: float
) -> None:
    @app.workflow()
    def down(depth: int) -> int:
        if depth == 0:
            return 0
        return app.start_workflow(down, depth - 1).get_result() + 1

    dbos_test_app(app, max_executor_threads=2, park_after_seconds=park_after_seconds)
    assert app.start_workflow(down, 12).get_result() == 12


def test_as_many_parents_as_threads_do_not_wait_for_ever(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def child(number: int) -> int:
        return number

    @app.workflow()
    def parent(number: int) -> int:
        return app.start_workflow(child, number).get_result()

    dbos_test_app(app, max_executor_threads=64, park_after_seconds=3600.0)
    handles = [app.start_workflow(parent, number) for number in range(64)]
    assert [handle.get_result() for handle in handles] == list(range(64))


def test_async_parents_and_children_mix_with_sync_ones(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def sync_child(number: int) -> int:
        app.sleep(10)
        return number

    @app.workflow()
    async def async_child(number: int) -> int:
        await app.sleep_async(20)
        return number

    @app.workflow()
    async def parent() -> list[Any]:
        handles = [await app.start_workflow_async(child, 1) for child in (sync_child, async_child)]
        waited = await asyncio.gather(*(handle.get_result() for handle in handles))
        return [*waited, await async_child(3)]

    @app.workflow()
    def grandparent() -> list[Any]:
        return app.start_workflow(parent).get_result()  # type: ignore[return-value]

    dbos_test_app(app)
    assert grandparent() == [1, 1, 3]


def test_a_workflow_may_wait_for_one_that_is_not_its_child(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def slow() -> str:
        app.sleep(100)
        return "slow"

    @app.workflow()
    def waits() -> str:
        return str(app.get_result("slow"))

    dbos = dbos_test_app(app)
    with SetWorkflowID("slow"):
        app.start_workflow(slow)
    started = dbos.clock.now_ms()
    assert app.start_workflow(waits).get_result() == "slow"
    assert dbos.clock.now_ms() - started < 110_000
