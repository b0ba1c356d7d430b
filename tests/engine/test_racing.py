"""Races over durable operations: the same winner, the same value and the same order in each life of a workflow (rule 4)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dbos_events import DBOS, App, SetWorkflowID
from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.errors import DBOSAwaitedWorkflowCancelledError, DBOSException
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp

FIRST, FAILS = asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def lives() -> list[list[Any]]:
    """What each life of the workflow saw."""
    return []


def start(app: App, dbos: TestApp, function: Callable[..., Awaitable[Any]], *args: Any) -> str:
    async def begin() -> str:
        return (await app.start_workflow_async(function, *args)).workflow_id  # type: ignore[arg-type]

    workflow_id = asyncio.run(begin())
    dbos.run_until_idle()
    return workflow_id


def names(app: App, workflow_id: str) -> list[str]:
    return [step.function_name for step in app.list_workflow_steps(workflow_id)]


# -- asyncio_wait ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, tuple, set], ids=lambda one: one.__name__)
def test_which_tasks_have_ended_is_the_same_in_a_replay(
    app: App, lives: list[list[Any]], dbos_test_app: MakeTestApp, form: Callable[[Any], Any]
) -> None:
    @app.workflow()
    async def races() -> None:
        life: list[Any] = []
        lives.append(life)

        async def nap(seconds: float) -> float:
            await app.sleep_async(seconds)
            return seconds

        tasks = [asyncio.create_task(nap(seconds)) for seconds in (30, 10, 20)]
        left = form(tasks)
        while left:
            done, left = await app.asyncio_wait(left, return_when=FIRST)
            life.append((sorted(task.result() for task in done), len(left)))
        await app.sleep_async(600)

    dbos = dbos_test_app(app)
    workflow_id = start(app, dbos, races)
    dbos.advance(seconds=15)
    dbos.crash()
    app.retrieve_workflow(workflow_id).get_result()
    assert lives[-1] == [([10], 2), ([20], 1), ([30], 0)]
    assert all(life == lives[-1][: len(life)] for life in lives)
    assert names(app, workflow_id).count("DBOS.asyncio_wait") == 3


def test_a_timeout_is_durable_and_what_it_leaves_stays_pending_in_a_replay(
    app: App, lives: list[list[Any]], dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    async def patient() -> list[int]:
        tasks = [asyncio.create_task(app.sleep_async(seconds)) for seconds in (5, 3600)]
        done, pending = await app.asyncio_wait(tasks, timeout=60)
        life = [len(done), len(pending), int(tasks[0] in done)]
        lives.append([*life])
        await app.sleep_async(7200)  # by then the other has ended as well
        again, _ = await app.asyncio_wait(tasks, timeout=0)
        return [*life, len(again)]

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    workflow_id = start(app, dbos, patient)
    assert dbos.core.runner.active == {}, "a long wait costs a row"
    dbos.advance(seconds=50)
    dbos.crash()  # it does not begin anew
    dbos.advance(seconds=10)
    assert lives == [[1, 1, 1]]
    assert app.retrieve_workflow(workflow_id).get_result() == [1, 1, 1, 2]
    assert dbos.clock.now_ms() - began <= 7_270_000
    assert {tuple(life) for life in lives} == {(1, 1, 1)}


def test_the_first_exception_ends_the_wait_and_is_where_it_was(
    app: App, lives: list[list[Any]], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    async def fails() -> None:
        raise OSError("broken")

    @app.workflow()
    async def work() -> str:
        async def later() -> None:
            await app.sleep_async(10)
            await fails()

        tasks = [asyncio.create_task(app.sleep_async(seconds)) for seconds in (5, 60)]
        tasks.append(asyncio.create_task(later()))
        done, pending = await app.asyncio_wait(tasks, return_when=FAILS)
        lives.append([len(done), pending == {tasks[1]}])
        for task in pending:
            task.cancel()
        return str(tasks[2].exception())

    dbos = dbos_test_app(app)
    workflow_id = start(app, dbos, work)
    dbos.crash()
    assert app.retrieve_workflow(workflow_id).get_result() == "broken"
    assert lives == [[2, True]]


def test_outside_of_workflows_it_is_asyncios_own(app: App, dbos_test_app: MakeTestApp) -> None:
    async def race() -> list[float]:
        tasks = [asyncio.create_task(asyncio.sleep(pause, pause)) for pause in (0.0, 3600.0)]
        done, pending = await app.asyncio_wait(tasks, return_when=FIRST)
        for task in pending:
            task.cancel()
        return [task.result() for task in done]

    assert asyncio.run(race()) == [0.0]


def test_what_cannot_be_waited_for_is_refused(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def work() -> None:
        with pytest.raises(ValueError, match="at least one"):
            app.asyncio_wait([])
        task = asyncio.create_task(asyncio.sleep(0))
        with pytest.raises(ValueError, match="return_when"):
            app.asyncio_wait([task], return_when="SOON")
        coro = asyncio.sleep(0)
        with pytest.raises(TypeError, match="set of coroutines"):
            app.asyncio_wait({coro})
        done, _ = await app.asyncio_wait([coro, task])
        assert len(done) == 2

    dbos_test_app(app)
    app.start_workflow(work).get_result()


# -- wait_first -----------------------------------------------------------------------------------


def test_the_first_of_several_workflows_is_given_and_recorded(
    app: App, lives: list[list[Any]], dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def nap(seconds: float) -> float:
        app.sleep(seconds)
        return seconds

    @app.workflow()
    def parent() -> list[float]:
        handles = [app.start_workflow(nap, seconds) for seconds in (30, 10, 20)]
        order = []
        while handles:
            first = app.wait_first(handles)
            order.append(first.get_result())
            handles.remove(first)
        lives.append(order)
        return order

    @app.workflow()
    async def parent_async() -> float:
        handles = [await app.start_workflow_async(nap, seconds) for seconds in (30, 10)]  # type: ignore[arg-type]
        winner: float = await (await app.wait_first_async(handles)).get_result()
        await app.sleep_async(600)
        return winner

    dbos = dbos_test_app(app)
    handle = app.start_workflow(parent)
    assert handle.get_result() == [10, 20, 30]
    assert names(app, handle.workflow_id).count("DBOS.waitFirst") == 3
    other = start(app, dbos, parent_async)
    dbos.advance(seconds=60)
    dbos.crash()
    assert app.retrieve_workflow(other).get_result() == 10


def test_outside_of_workflows_also_one_that_was_cancelled_is_the_first(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def nap(seconds: float) -> float:
        app.sleep(seconds)
        return seconds

    dbos = dbos_test_app(app)
    handles = [app.start_workflow(nap, seconds) for seconds in (60, 30)]
    assert app.wait_first(handles) is handles[1]
    app.cancel_workflow(handles[0].workflow_id)
    assert app.wait_first([handles[0]]) is handles[0]
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handles[0].get_result()

    async def ask() -> object:
        return await app.wait_first_async([WorkflowHandleAsync(app, handles[1].workflow_id)])

    assert isinstance(asyncio.run(ask()), WorkflowHandleAsync)
    assert isinstance(app.wait_first([WorkflowHandle(app, handles[1].workflow_id)]), WorkflowHandle)
    dbos.run_until_idle()


def test_nothing_to_wait_for_is_refused(app: App, dbos_test_app: MakeTestApp) -> None:
    dbos_test_app(app)
    with pytest.raises(ValueError, match="at least one"):
        app.wait_first([])
    with pytest.raises(DBOSException, match="handles"):
        app.wait_first(["w"])  # type: ignore[type-var]
    assert DBOS.wait_first.__name__ == "wait_first"


def test_a_timeout_for_which_a_replay_is_too_slow_ends_what_it_ended_before(
    app: App, lives: list[list[Any]], dbos_test_app: MakeTestApp
) -> None:
    """Three calls within one timeout: two had ended, the third was cut off. The machine of the replay is slower."""
    slow = [0.0, 0.4]

    @app.step()
    async def step(name: str, seconds: float = 0.0) -> str:
        await asyncio.sleep(seconds)
        return name

    @app.workflow()
    async def work() -> list[str]:
        life: list[Any] = []
        lives.append(life)

        async def other() -> None:
            await asyncio.sleep(slow[min(len(lives), 2) - 1])
            await step("first")

        async def bounded() -> None:
            try:
                async with asyncio.timeout(0.2):
                    life.append(await step("second", 0.05))
                    life.append(await step("third"))
                    life.append(await step("never", 3600))
            except TimeoutError:
                life.append("timeout")
            life.append(await step("after"))

        await asyncio.gather(other(), bounded())
        await app.sleep_async(60)
        return life

    dbos = dbos_test_app(app)
    workflow_id = start(app, dbos, work)
    assert app.retrieve_workflow(workflow_id).get_result() == ["second", "third", "timeout", "after"]
    assert lives == [["second", "third", "timeout", "after"]] * 2


# -- a cancellation while a start is being written ------------------------------------------------


def test_a_cancellation_during_the_start_of_a_child_is_seen_and_seen_again(
    app: App, lives: list[list[Any]], dbos_test_app: MakeTestApp
) -> None:
    """The child is recorded: who cancelled its start is not lost for that, now or in a replay."""

    @app.workflow()
    async def child() -> str:
        return "child"

    @app.workflow()
    async def parent(how: str) -> str:
        life: list[Any] = []
        lives.append(life)

        async def starts() -> object:
            with SetWorkflowID(f"child-{how}"):
                return await (child() if how == "call" else app.start_workflow_async(child))

        task = asyncio.create_task(starts())
        await asyncio.sleep(0)  # it has handed its write over by now, and waits for the answer
        await asyncio.sleep(0)
        task.cancel()
        try:
            life.append(await task)
        except asyncio.CancelledError:
            life.append("cancelled")
        await app.sleep_async(60)
        return str(life)

    dbos = dbos_test_app(app)
    for how in ("call", "start"):
        lives.clear()
        workflow_id = start(app, dbos, parent, how)
        assert app.get_result(f"child-{how}") == "child"
        dbos.crash()
        assert app.retrieve_workflow(workflow_id).get_result() == "['cancelled']"
        assert len(lives) > 1
        assert all(life == ["cancelled"] for life in lives)
