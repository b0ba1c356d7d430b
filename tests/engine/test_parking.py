"""Waits that cost a row, and what unwinding must not do (protocol, rule 5; P9)."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from dbos_events import App
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


async def started(app: App, function: Any, *args: Any) -> str:
    return (await app.start_workflow_async(function, *args)).workflow_id


def test_a_sleeping_workflow_is_a_row_and_nothing_in_memory(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def sleeps(number: int) -> int:
        app.sleep(86_400)
        return number

    @app.workflow()
    async def sleeps_async(number: int) -> int:
        await app.sleep_async(86_400)
        return number

    dbos = dbos_test_app(app, max_executor_threads=2)
    handles = [app.start_workflow(sleeps, number) for number in range(20)]

    async def start_all() -> list[str]:
        return [await started(app, sleeps_async, number) for number in range(20)]

    ids = asyncio.run(start_all())
    dbos.run_until_idle()
    assert dbos.core.runner.active == {}
    assert sum(thread.name.startswith("dbos-workflow") for thread in threading.enumerate()) <= 2
    dbos.advance(days=1)
    assert [handle.get_result() for handle in handles] == list(range(20))
    assert [app.retrieve_workflow(each).get_result() for each in ids] == list(range(20))


def test_a_crash_does_not_prolong_a_sleep(app: App, dbos_test_app: MakeTestApp) -> None:
    woken: list[int] = []

    @app.workflow()
    def sleeps() -> None:
        app.sleep(100)
        woken.append(dbos.clock.now_ms())

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    app.start_workflow(sleeps)
    dbos.advance(seconds=60)
    dbos.crash()
    dbos.advance(seconds=39.9)
    assert woken == []
    dbos.advance(seconds=0.1)
    assert woken == [began + 100_000]


def test_a_gather_of_sleeps_leaves_memory_and_wakes_for_each(app: App, dbos_test_app: MakeTestApp) -> None:
    woken: list[tuple[int, float]] = []

    @app.step()
    async def note(number: int) -> None:
        woken.append((number, (dbos.clock.now_ms() - began) / 1000))

    @app.workflow()
    async def sleeps() -> None:
        async def branch(number: int) -> None:
            await app.sleep_async(number * 10)
            await note(number)

        await asyncio.gather(*(branch(number) for number in (3, 1, 2)))

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    workflow_id = asyncio.run(started(app, sleeps))
    for _ in range(3):
        dbos.run_until_idle()
        assert dbos.core.runner.active == {}
        dbos.advance(seconds=10)
    assert woken == [(1, 10.0), (2, 20.0), (3, 30.0)]
    assert app.retrieve_workflow(workflow_id).get_status().status == "SUCCESS"


def test_unwinding_runs_no_durable_operation(app: App, dbos_test_app: MakeTestApp) -> None:
    calls: list[str] = []

    @app.step()
    def step(name: str) -> None:
        calls.append(name)

    @app.workflow()
    def child() -> None:
        calls.append("child")

    @app.workflow()
    def cleans_up() -> str:
        try:
            app.sleep(60)
        except BaseException:  # noqa: BLE001 - the worst that a user can do
            step("except")
        finally:
            step("finally")
            app.start_workflow(child)
        return "done"

    dbos = dbos_test_app(app)
    handle = app.start_workflow(cleans_up)
    dbos.run_until_idle()
    assert calls == []
    assert len(app.list_workflow_steps(handle.workflow_id)) == 1
    assert handle.get_result() == "done"
    assert calls == ["finally", "child"]
    assert len(app.list_workflows()) == 2


def test_what_an_unwinding_function_returns_or_raises_is_discarded(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def swallows(raises: bool) -> str:
        try:
            app.sleep(60)
        except BaseException:  # noqa: BLE001 - the worst that a user can do
            if raises:
                raise ValueError("made of the unwinding") from None
            return "made of the unwinding"
        return "woken"

    dbos = dbos_test_app(app)
    handles = [app.start_workflow(swallows, raises) for raises in (True, False)]
    dbos.run_until_idle()
    assert [handle.get_status().status for handle in handles] == ["PENDING"] * 2
    assert [handle.get_result() for handle in handles] == ["woken"] * 2


def test_gather_cannot_swallow_the_unwinding(
    app: App, dbos_test_app: MakeTestApp, caplog: pytest.LogCaptureFixture
) -> None:
    results: list[Any] = []
    calls: list[str] = []

    @app.step()
    async def step(name: str) -> str:
        calls.append(name)
        return name

    @app.workflow()
    async def swallows() -> str:
        async def branch() -> str:
            await app.sleep_async(60)
            return await step("in the branch")

        results.append(await asyncio.gather(branch(), branch(), return_exceptions=True))
        return await step("after")

    dbos = dbos_test_app(app)
    with caplog.at_level(logging.WARNING):
        workflow_id = asyncio.run(started(app, swallows))
        dbos.run_until_idle()
    assert calls == []
    assert app.get_workflow_status(workflow_id).status == "PENDING"  # type: ignore[union-attr]
    assert app.retrieve_workflow(workflow_id).get_result() == "after"
    assert results[-1] == ["in the branch"] * 2
    assert calls == ["in the branch"] * 2 + ["after"]
    assert caplog.text == ""


def test_a_run_with_something_else_to_do_stays_in_memory(app: App, dbos_test_app: MakeTestApp) -> None:
    gate = asyncio.Event()
    lives: list[int] = []

    @app.step()
    async def busy() -> None:
        await gate.wait()

    @app.workflow()
    async def both() -> None:
        lives.append(1)
        await asyncio.gather(busy(), app.sleep_async(60))

    dbos = dbos_test_app(app)
    workflow_id = asyncio.run(started(app, both))
    while dbos.clock.next_alarm() is None:
        threading.Event().wait(0.001)
    assert list(dbos.core.runner.active) == [workflow_id]
    dbos.core.loop_inbox.post(gate.set)
    app.retrieve_workflow(workflow_id).get_result()
    assert lives == [1, 1]


def test_a_short_wait_stays_in_memory(app: App, dbos_test_app: MakeTestApp) -> None:
    lives: list[int] = []

    @app.workflow()
    def sleeps(seconds: float) -> None:
        lives.append(1)
        app.sleep(seconds)

    dbos = dbos_test_app(app, park_after_seconds=2.0)
    short = app.start_workflow(sleeps, 1.9)
    long = app.start_workflow(sleeps, 2.1)
    dbos.run_until_idle()
    assert list(dbos.core.runner.active) == [short.workflow_id]
    dbos.advance(seconds=5)
    assert [handle.get_status().status for handle in (short, long)] == ["SUCCESS"] * 2
    assert len(lives) == 3


def test_a_wait_of_unknown_length_parks_after_the_threshold(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def child() -> None:
        app.sleep(60)

    @app.workflow()
    def parent() -> None:
        app.start_workflow(child).get_result()

    dbos = dbos_test_app(app, park_after_seconds=2.0)
    handle = app.start_workflow(parent)
    dbos.run_until_idle()
    assert handle.workflow_id in dbos.core.runner.active
    dbos.advance(seconds=2)
    assert dbos.core.runner.active == {}
    handle.get_result()


def test_waking_is_prompt_without_any_help(tmp_path: Any) -> None:
    """On real services: a parked sleep, and a parent that is parked on its child."""
    app = App(
        {"name": "prompt", "system_database_url": f"sqlite:///{tmp_path}/p.sqlite", "park_after_seconds": 0}
    )

    @app.workflow()
    def child() -> int:
        app.sleep(0.05)
        return 1

    @app.workflow()
    def parent() -> int:
        return app.start_workflow(child).get_result()

    with app:
        app.core.clock.monotonic()
        parent()
        began = app.core.clock.monotonic()
        assert parent() == 1
        assert app.core.clock.monotonic() - began < 0.9, "a poll of a second would take longer"
