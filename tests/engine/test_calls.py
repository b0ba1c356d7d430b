"""Direct calls, ids, and what a handle tells."""

import asyncio
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID
from dbos_events.errors import (
    DBOSConflictingWorkflowError,
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSWorkflowFunctionNotFoundError,
)
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


def test_a_direct_call_gives_what_the_function_returns(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    def double(number: int) -> int:
        return number * 2

    @app.workflow()
    def total(*numbers: int, start: int = 0) -> int:
        return sum(double(number) for number in numbers) + start

    dbos_test_app(app)
    assert total(1, 2, start=10) == 16


async def awaited(value: Any) -> Any:
    return await value


@pytest.mark.asyncio
async def test_an_async_workflow_is_awaited(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    @app.workflow()
    async def total(*numbers: int) -> int:
        return sum(await asyncio.gather(*(double(number) for number in numbers)))

    dbos_test_app(app)
    assert await total(1, 2, 3) == 12


def test_a_workflow_raises_its_own_error_to_its_caller(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def fails() -> None:
        raise LookupError("no such order")

    dbos_test_app(app)
    with pytest.raises(LookupError, match="no such order"):
        fails()
    (stored,) = app.list_workflows()
    assert stored.status == "ERROR"
    assert isinstance(stored.error, LookupError)


def test_one_id_is_one_workflow(app: App, dbos_test_app: MakeTestApp) -> None:
    runs = []

    @app.workflow()
    def once(number: int) -> int:
        runs.append(number)
        return number

    dbos_test_app(app)
    for number in (1, 2):
        with SetWorkflowID("the-one"):
            assert once(number) == 1
    with SetWorkflowID("the-one"):
        assert app.start_workflow(once, 3).get_result() == 1
    assert runs == [1]


def test_an_id_of_another_function_is_refused(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def one() -> None: ...

    @app.workflow()
    def other() -> None: ...

    dbos_test_app(app)
    with SetWorkflowID("taken"):
        one()
    with SetWorkflowID("taken"), pytest.raises(DBOSConflictingWorkflowError, match=r"other.*another id"):
        other()


def test_only_the_first_start_of_a_block_gets_its_id(
    app: App, dbos_test_app: MakeTestApp, caplog: pytest.LogCaptureFixture
) -> None:
    @app.workflow()
    def named() -> None: ...

    dbos_test_app(app)
    with SetWorkflowID("first"):
        handles = [app.start_workflow(named) for _ in range(2)]
    assert handles[0].workflow_id == "first" != handles[1].workflow_id
    assert "Only the first workflow" in caplog.text


@pytest.mark.parametrize("bad", ["", "  ", "a\0b", "\ud800", 5])
def test_an_id_that_no_database_can_store_is_refused(bad: Any) -> None:
    with pytest.raises(DBOSException, match="workflow id"):
        SetWorkflowID(bad)


def test_a_handle_tells_how_its_workflow_stands(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def sleeps(name: str) -> str:
        app.sleep(60)
        return name

    dbos = dbos_test_app(app, application_version="v7", executor_id="here")
    handle = app.start_workflow(sleeps, "x")
    dbos.run_until_idle()
    status = handle.get_status()
    assert (status.status, status.name, status.app_version) == (
        "PENDING",
        "test_a_handle_tells_how_its_workflow_stands.<locals>.sleeps",
        "v7",
    )
    assert status.input == {"args": ("x",), "kwargs": {}}
    assert handle.get_result() == "x"
    assert (handle.get_status().status, handle.get_status().output) == ("SUCCESS", "x")
    assert app.retrieve_workflow(handle.workflow_id).get_result() == "x"


def test_a_workflow_that_is_not_there_is_said_to_be_missing(app: App, dbos_test_app: MakeTestApp) -> None:
    dbos_test_app(app)
    assert app.get_workflow_status("nobody") is None
    for ask in (app.retrieve_workflow, app.cancel_workflow, app.resume_workflow):
        with pytest.raises(DBOSNonExistentWorkflowError, match="nobody"):
            ask("nobody")


def test_a_plain_function_cannot_be_started(app: App, dbos_test_app: MakeTestApp) -> None:
    dbos_test_app(app)
    with pytest.raises(DBOSWorkflowFunctionNotFoundError, match="not a workflow or step"):
        app.start_workflow(len, ())


def test_a_step_can_be_started_as_a_workflow(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    def double(number: int) -> int:
        return number * 2

    dbos_test_app(app)
    handle = app.start_workflow(double, 4)
    assert handle.get_result() == 8
    assert [step.function_name for step in app.list_workflow_steps(handle.workflow_id)] == [
        double.__qualname__
    ]


def test_a_step_outside_of_workflows_is_a_plain_call(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    def double(number: int) -> int:
        return number * 2

    assert double(2) == 4  # without a launch, too
    dbos_test_app(app)
    assert double(2) == 4
    assert app.list_workflows() == []


@pytest.mark.asyncio
async def test_blocking_verbs_on_a_running_loop_name_their_twin(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def quick() -> int:
        return 1

    dbos_test_app(app)
    handle = await app.start_workflow_async(quick)
    assert await handle.get_result() == 1
    calls = {
        "start_workflow": lambda: app.start_workflow(quick),
        "retrieve_workflow": lambda: app.retrieve_workflow(handle.workflow_id),
        "get_workflow_status": lambda: app.get_workflow_status(handle.workflow_id),
        "list_workflows": app.list_workflows,
        "list_workflow_steps": lambda: app.list_workflow_steps(handle.workflow_id),
        "cancel_workflows": lambda: app.cancel_workflow(handle.workflow_id),
        "resume_workflows": lambda: app.resume_workflow(handle.workflow_id),
        "sleep": lambda: app.sleep(0),
    }
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match=rf"await DBOS\.{name}_async"):
            call()
        assert hasattr(app, f"{name}_async")


def test_nothing_works_before_launch_and_the_error_says_so(app: App) -> None:
    @app.workflow()
    def one() -> None: ...

    with pytest.raises(DBOSException, match=r"launch\(\)"):
        one()


def test_functions_of_another_app_are_refused(app: App, dbos_test_app: MakeTestApp) -> None:
    other = App()

    @other.workflow()
    def theirs() -> None: ...

    dbos_test_app(app)
    with pytest.raises(DBOSException, match="belongs to another App"):
        app.start_workflow(theirs)


def test_two_workflows_cannot_share_a_name(app: App) -> None:
    @app.workflow(name="same")
    def one() -> None: ...

    with pytest.raises(DBOSException, match="Two workflows are called 'same'"):

        @app.workflow(name="same")
        def other() -> None: ...


def test_sys_exit_in_a_workflow_or_a_step_is_its_error(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    async def step_exits() -> None:
        raise SystemExit(3)

    @app.workflow()
    async def exits_in_a_step() -> None:
        await asyncio.gather(step_exits(), step_exits())

    @app.workflow()
    def exits() -> None:
        raise SystemExit(4)

    dbos_test_app(app)
    with pytest.raises(DBOSException, match=r"sys\.exit\(3\)"):
        asyncio.run(awaited(exits_in_a_step()))
    with pytest.raises(DBOSException, match=r"sys\.exit\(4\)"):
        exits()


def test_a_cancelled_error_that_escapes_is_the_workflows_error(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def awaits_a_cancelled_task() -> None:
        task = asyncio.create_task(asyncio.sleep(1000))
        await asyncio.sleep(0)
        task.cancel()
        await task

    dbos = dbos_test_app(app)
    with pytest.raises(DBOSException, match="CancelledError"):
        asyncio.run(awaited(awaits_a_cancelled_task()))
    assert not dbos.core.runner.active
