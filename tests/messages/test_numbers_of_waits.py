"""The numbers and names that programs of DBOS Transact see of their waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID
from dbos_events.engine.context import CURRENT
from dbos_events.errors import DBOSException
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


def numbered(app: App, workflow_id: str) -> list[tuple[int, str]]:
    return [(step.function_id, step.function_name) for step in app.list_workflow_steps(workflow_id)]


def test_a_receipt_and_a_reading_of_an_event_take_two_numbers_each(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def child() -> None: ...

    @app.workflow()
    def parent() -> tuple[Any, ...]:
        app.set_event("here", 1)
        seen = app.get_event("parent", "here", 5)
        received = app.recv("topic", timeout_seconds=5)
        handle = app.start_workflow(child)
        return seen, received, app.recv(timeout_seconds=0), handle.workflow_id

    dbos_test_app(app)
    with SetWorkflowID("parent"):
        handle = app.start_workflow(parent)
    app.send("parent", "hello", "topic")
    assert handle.get_result() == (1, "hello", None, "parent-6")
    assert [name for _, name in numbered(app, "parent")] == [
        "DBOS.setEvent",
        "DBOS.getEvent", "DBOS.sleep",
        "DBOS.recv", "DBOS.sleep",
        child.__qualname__,
        "DBOS.recv", "DBOS.sleep",
    ]  # fmt: skip
    assert [number for number, _ in numbered(app, "parent")] == list(range(1, 9))


def test_the_end_of_a_wait_is_shown_while_it_lasts_and_afterwards(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def waits() -> Any:
        return app.recv(timeout_seconds=1000)

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    with SetWorkflowID("w"):
        handle = app.start_workflow(waits)
    dbos.run_until_idle()
    [limit] = app.list_workflow_steps("w")
    assert (limit.function_id, limit.function_name, limit.output) == (2, "DBOS.sleep", began + 1_000_000)
    app.send("w", "hello")
    assert handle.get_result() == "hello"
    [received, limit] = app.list_workflow_steps("w")
    assert (received.function_id, received.output) == (1, "hello")
    assert (limit.function_id, limit.output) == (2, began + 1_000_000)


def test_a_replay_gives_children_behind_a_wait_the_same_ids(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def child() -> None: ...

    @app.workflow()
    def parent() -> str:
        app.recv(timeout_seconds=0)
        app.sleep(1000)
        app.recv(timeout_seconds=0)
        return app.start_workflow(child).workflow_id

    dbos = dbos_test_app(app)
    with SetWorkflowID("parent"):
        handle = app.start_workflow(parent)
    dbos.run_until_idle()
    dbos.crash()
    assert handle.get_result() == "parent-6", "as without the crash: two receipts and a sleep are before it"


def test_receipts_at_once_are_numbered_in_the_order_of_the_calls(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    async def gathers() -> list[Any]:
        return await asyncio.gather(*(app.recv_async(topic, timeout_seconds=0) for topic in "ab"))

    dbos_test_app(app)
    with SetWorkflowID("w"):
        assert app.start_workflow(gathers).get_result() == [None, None]
    assert numbered(app, "w") == [
        (1, "DBOS.recv"), (2, "DBOS.sleep"),
        (3, "DBOS.recv"), (4, "DBOS.sleep"),
    ]  # fmt: skip


def test_steps_are_listed_in_part_and_without_what_they_returned(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def price(number: int) -> int:
        return 10 * number

    @app.workflow()
    def prices() -> None:
        for number in range(4):
            price(number)

    dbos_test_app(app)
    with SetWorkflowID("w"):
        prices()
    listed = app.list_workflow_steps("w", offset=1, limit=2)
    assert [(step.function_id, step.output) for step in listed] == [(2, 10), (3, 20)]
    assert [dict(step.items())["output"] for step in app.list_workflow_steps("w", load_output=False)] == [
        None
    ] * 4
    assert [step.function_id for step in asyncio.run(app.list_workflow_steps_async("w", offset=3))] == [4]
    assert app.list_workflow_steps("w", limit=0) == []
    with pytest.raises(DBOSException, match="limit must be 0 or more"):
        app.list_workflow_steps("w", limit=-1)


def test_a_step_that_is_not_tried_again_has_no_number_of_attempts(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    def status() -> tuple[int | None, int | None]:
        scope = CURRENT.get()
        assert scope is not None
        assert scope.step is not None
        return scope.step.current_attempt, scope.step.max_attempts

    once = app.step(name="once")(status)
    thrice = app.step(name="thrice", retries_allowed=True, max_attempts=3)(status)

    @app.workflow()
    def both() -> list[tuple[int | None, int | None]]:
        return [once(), thrice()]

    dbos_test_app(app)
    assert both() == [(None, None), (0, 3)]


def test_resuming_several_gives_a_handle_on_each(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def waits(number: int) -> tuple[int, Any]:
        return number, app.recv(timeout_seconds=None)

    dbos_test_app(app)
    for number in range(2):
        with SetWorkflowID(f"w{number}"):
            app.start_workflow(waits, number)
    app.cancel_workflows(["w0", "w1"])
    handles = app.resume_workflows(["w1", "w0"])
    for handle in handles:
        app.send(handle.workflow_id, "go")
    assert [handle.get_result() for handle in handles] == [(1, "go"), (0, "go")]
    assert app.resume_workflows([]) == []


def test_a_sleep_outside_of_workflows_takes_what_one_inside_takes(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    dbos_test_app(app)
    app.sleep(-1)
    asyncio.run(app.sleep_async(-1))
    with pytest.raises(DBOSException, match="seconds must be a number"):
        app.sleep("1")  # type: ignore[arg-type]
