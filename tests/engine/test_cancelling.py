"""Rule 20: what a cancel interrupts, what may still be recorded after it, and how far it reaches."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID, SetWorkflowTimeout
from dbos_events.errors import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSStepTimeoutError,
    DBOSWorkflowCancelledError,
    RegistrationError,
)
from dbos_events.testing.plugin import MakeTestApp

PATIENCE = 10.0


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def calls() -> list[str]:
    return []


@contextmanager
def running(app: App, url: str) -> Iterator[None]:
    app.configure({"name": "cancelling", "system_database_url": url, "park_after_seconds": 3600.0})
    with app:
        yield


def steps_of(app: App, workflow_id: str) -> list[str]:
    return [step.function_name.rpartition(".")[2] for step in app.list_workflow_steps(workflow_id)]


def has_left(app: App, workflow_id: str) -> None:
    """Wait until the run is not in this process any more."""
    run = app.core.runner.active.get(workflow_id)
    event = threading.Event()

    class Waker:
        def wake(self) -> None:
            event.set()

    if run is not None and run.when_ended(Waker()):
        assert event.wait(PATIENCE)


# -- preemptible steps ----------------------------------------------------------------------------


def test_a_preemptible_step_is_interrupted_by_a_cancel_and_not_recorded(
    app: App, calls: list[str], database_url: str
) -> None:
    inside = threading.Event()

    @app.step(preemptible=True)
    async def endless() -> None:
        try:
            inside.set()
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            calls.append("interrupted")
            raise

    @app.workflow()
    async def work() -> None:
        try:
            await endless()
        except BaseException as error:
            calls.append(type(error).__name__)
            raise

    with running(app, database_url), SetWorkflowID("w"):
        handle = app.start_workflow(work)
        assert inside.wait(PATIENCE)
        app.cancel_workflow("w")
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            handle.get_result()
        has_left(app, "w")
        assert calls == ["interrupted", "DBOSWorkflowCancelledError"]
        assert steps_of(app, "w") == []


def test_a_preemptible_step_is_interrupted_by_the_deadline(
    app: App, calls: list[str], database_url: str
) -> None:
    @app.step(preemptible=True, timeout_seconds=3600)
    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            calls.append("interrupted")

    @app.workflow()
    async def work() -> None:
        await endless()

    with running(app, database_url):
        with SetWorkflowTimeout(0.1):
            handle = app.start_workflow(work)
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            handle.get_result()
        has_left(app, handle.workflow_id)
    assert calls == ["interrupted"]


def test_the_timeout_of_a_preemptible_step_is_its_own_error(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step(preemptible=True, timeout_seconds=0.01)
    async def slow() -> None:
        await asyncio.sleep(3600)

    @app.step(preemptible=True)
    async def quick() -> str:
        await asyncio.sleep(0)
        return "done"

    @app.workflow()
    async def work() -> str:
        with pytest.raises(DBOSStepTimeoutError):
            await slow()
        return await quick()

    dbos_test_app(app)
    assert app.start_workflow(work).get_result() == "done"


def test_a_step_that_is_not_preemptible_runs_to_its_end(
    app: App, calls: list[str], database_url: str
) -> None:
    inside, go_on = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    @app.step()
    async def slow() -> None:
        loops.append(asyncio.get_running_loop())
        inside.set()
        await go_on.wait()
        calls.append("ended")

    @app.workflow()
    async def work() -> None:
        await slow()
        calls.append("returned")

    with running(app, database_url):
        handle = app.start_workflow(work)
        assert inside.wait(PATIENCE)
        app.cancel_workflow(handle.workflow_id)
        loops[0].call_soon_threadsafe(go_on.set)
        has_left(app, handle.workflow_id)
        assert calls[0] == "ended"
        assert handle.get_status().status == "CANCELLED"


def test_only_async_steps_are_preemptible(app: App) -> None:
    with pytest.raises(RegistrationError, match="preemptible"):

        @app.step(preemptible=True)
        def plain() -> None: ...


# -- shields --------------------------------------------------------------------------------------


def test_without_a_shield_a_finally_records_nothing(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def refund() -> None:
        calls.append("refunded")

    @app.workflow()
    def work() -> None:
        try:
            app.sleep(60)
        finally:
            refund()

    dbos = dbos_test_app(app, park_after_seconds=3600.0)
    handle = app.start_workflow(work)
    dbos.run_until_idle()
    app.cancel_workflow(handle.workflow_id)
    dbos.run_until_idle()
    assert dbos.core.runner.active == {}
    assert calls == []
    assert steps_of(app, handle.workflow_id) == ["sleep"]


def cancelled_while_it_sleeps(app: App, work: Callable[[], Any], make: MakeTestApp) -> list[str]:
    """Start the workflow, cancel it, let it clean up; gives the names of its steps."""
    dbos = make(app, park_after_seconds=3600.0)
    handle = app.start_workflow(work)
    dbos.run_until_idle()
    app.cancel_workflow(handle.workflow_id)
    dbos.advance(seconds=2)
    assert dbos.core.runner.active == {}
    assert handle.get_status().status == "CANCELLED"
    return steps_of(app, handle.workflow_id)


def test_in_a_shield_what_is_done_after_a_cancel_is_recorded(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def refund(amount: int) -> int:
        calls.append(f"refunded {amount}")
        return amount

    @app.workflow()
    def child() -> str:
        return "child"

    @app.workflow()
    def work() -> None:
        try:
            app.sleep(60)
        finally:
            with app.shielded(30):
                calls.append(str(refund(5) + refund(7)))
                app.sleep(1)
                calls.append(app.start_workflow(child).get_result())

    recorded = cancelled_while_it_sleeps(app, work, dbos_test_app)
    assert calls == ["refunded 5", "refunded 7", "12", "child"]
    assert recorded == ["sleep", "refund", "refund", "sleep", "child", "getResult"]


def test_in_an_async_workflow_tasks_that_are_started_in_a_shield_are_covered(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    async def tell(amount: int) -> None:
        calls.append(f"told of {amount}")

    @app.workflow()
    async def work() -> None:
        try:
            await app.sleep_async(60)
        except DBOSWorkflowCancelledError:
            with app.shielded(30):
                await asyncio.gather(tell(5), tell(7))
            async with app.shielded(30):
                await app.sleep_async(1)
                await tell(12)
            raise

    recorded = cancelled_while_it_sleeps(app, work, dbos_test_app)
    assert sorted(calls) == ["told of 12", "told of 5", "told of 7"]
    assert sorted(recorded) == ["sleep", "sleep", "tell", "tell", "tell"]


def test_in_a_shield_a_workflow_waits_for_values_of_its_own_and_others_are_told_that_it_has_ended(
    app: App, database_url: str
) -> None:
    began, cleaned = threading.Event(), threading.Event()
    answers: list[Any] = []

    @app.workflow()
    async def cleans() -> None:
        async def publishes() -> None:
            await app.recv_async("go", timeout_seconds=PATIENCE)
            await app.set_event_async("state", "undone")

        try:
            await app.sleep_async(1000)
        finally:
            async with app.shielded(60):
                reading = app.get_event_async("w", "state", PATIENCE)
                began.set()
                answers.extend(await asyncio.gather(reading, publishes()))
                answers.append(await app.get_event_async("w", "never", 0.01))
                cleaned.set()

    with running(app, database_url):
        with SetWorkflowID("w"):
            app.start_workflow(cleans)
        app.cancel_workflow("w")
        assert began.wait(PATIENCE)
        assert app.get_event("w", "state", PATIENCE) is None, "whoever reads it is not kept waiting"
        app.send("w", None, "go")
        assert cleaned.wait(PATIENCE)
        has_left(app, "w")
        assert answers == ["undone", None, None]
        assert app.get_event("w", "state", 0) == "undone"


def test_a_shield_ends_at_its_own_deadline_also_where_the_workflow_waits_in_it(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def note(what: str) -> None:
        calls.append(what)

    @app.workflow()
    def work() -> None:
        try:
            app.sleep(3600)
        finally:
            with app.shielded(10):
                note("shielded")
                app.sleep(3600)
                note("too late")

    dbos = dbos_test_app(app, park_after_seconds=7200.0)
    with SetWorkflowTimeout(5):
        handle = app.start_workflow(work)
    dbos.advance(seconds=14)
    assert list(dbos.core.runner.active) == [handle.workflow_id]
    dbos.advance(seconds=2)
    assert dbos.core.runner.active == {}
    assert calls == ["shielded"]


def test_a_cancel_within_a_shield_counts_at_its_end(app: App, calls: list[str], database_url: str) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @app.step()
    def step(name: str) -> None:
        calls.append(name)
        if name == "first":
            inside.set()
            assert go_on.wait(PATIENCE)

    @app.workflow()
    def work() -> None:
        with app.shielded(60):
            step("first")
            step("second")
        step("third")

    with running(app, database_url):
        handle = app.start_workflow(work)
        assert inside.wait(PATIENCE)
        app.cancel_workflow(handle.workflow_id)
        go_on.set()
        has_left(app, handle.workflow_id)
        assert calls == ["first", "second"]
        assert steps_of(app, handle.workflow_id) == ["step", "step"]
        app.resume_workflow(handle.workflow_id)
        handle.get_result()
        assert calls == ["first", "second", "third"]


def test_a_workflow_that_cleaned_up_can_be_resumed_and_cancelled_again(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(name: str) -> str:
        calls.append(name)
        return name

    @app.workflow()
    def careful() -> str:
        step("charge")
        try:
            app.sleep(60)
        except DBOSWorkflowCancelledError:
            with app.shielded(30):
                step("refund")
            raise
        return step("ship")

    dbos = dbos_test_app(app, park_after_seconds=3600.0)
    with SetWorkflowID("w"):
        handle = app.start_workflow(careful)
    for _ in range(2):
        dbos.run_until_idle()
        app.cancel_workflow("w")
        dbos.run_until_idle()
        assert handle.get_status().status == "CANCELLED"
        app.resume_workflow("w")
    dbos.crash()
    assert handle.get_result() == "ship"
    assert calls == ["charge", "refund", "refund", "ship"]


def test_a_child_that_is_started_in_a_shield_has_the_end_of_that_as_its_deadline(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def child() -> None:
        app.sleep(3600)

    @app.workflow()
    def work() -> None:
        try:
            app.sleep(3600)
        finally:
            with app.shielded(30), SetWorkflowID("child"):
                app.start_workflow(child)

    dbos = dbos_test_app(app, park_after_seconds=7200.0)
    with SetWorkflowTimeout(5):
        app.start_workflow(work)
    dbos.advance(seconds=6)
    status = app.get_workflow_status("child")
    assert status is not None
    assert status.status == "PENDING"
    assert status.workflow_deadline_epoch_ms is not None
    assert status.created_at is not None
    assert status.workflow_deadline_epoch_ms - status.created_at == 30_000


def test_a_run_that_was_taken_over_records_nothing_in_a_shield(
    app: App, calls: list[str], database_url: str
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @app.step()
    def step(name: str) -> None:
        calls.append(name)
        if name == "first" and len(calls) == 1:
            inside.set()
            assert go_on.wait(PATIENCE)

    @app.workflow()
    def work() -> None:
        with app.shielded(60):
            step("first")
            step("second")

    with running(app, database_url):
        handle = app.start_workflow(work)
        assert inside.wait(PATIENCE)
        app.cancel_workflow(handle.workflow_id)
        app.resume_workflow(handle.workflow_id)
        handle.get_result()
        go_on.set()
        has_left(app, handle.workflow_id)
        assert steps_of(app, handle.workflow_id) == ["step", "step"]
        assert calls.count("second") <= 2


def test_a_shield_does_nothing_outside_of_workflows_and_refuses_what_is_not_a_time(app: App) -> None:
    with app.shielded(1):
        pass
    for wrong in (0, -1, None, "5", float("nan")):
        with pytest.raises(DBOSException, match="shielded"):
            app.shielded(wrong)  # type: ignore[arg-type]


# -- trees ----------------------------------------------------------------------------------------


def test_a_tree_is_cancelled_whole_and_only_where_that_is_asked_for(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    queue = app.queue("q", worker_concurrency=1)

    @app.workflow()
    def leaf(seconds: float) -> str:
        app.sleep(seconds)
        return "leaf"

    @app.workflow()
    def middle(name: str) -> None:
        for number in range(2):
            with SetWorkflowID(f"{name}-leaf-{number}"):
                queue.enqueue(leaf, 3600)
        with SetWorkflowID(f"{name}-quick"):
            app.start_workflow(leaf, 0)
        app.sleep(60)

    @app.workflow()
    def top(name: str) -> None:
        with SetWorkflowID(f"{name}-middle"):
            app.start_workflow(middle, name)

    dbos = dbos_test_app(app, park_after_seconds=7200.0)
    for name in ("a", "b"):
        with SetWorkflowID(name):
            app.start_workflow(top, name)
    dbos.run_until_idle()

    def status(name: str) -> str:
        found = app.get_workflow_status(name)
        assert found is not None
        return found.status

    assert status("a") == "SUCCESS"
    app.cancel_workflow("a")
    assert status("a-middle") == "PENDING"
    app.cancel_workflow("a", cancel_children=True)
    dbos.run_until_idle()
    assert [status(f"a{name}") for name in ("", "-middle", "-leaf-0", "-leaf-1", "-quick")] == [
        "SUCCESS", "CANCELLED", "CANCELLED", "CANCELLED", "SUCCESS",
    ]  # fmt: skip
    assert status("b-middle") == "PENDING"
    with pytest.raises(DBOSNonExistentWorkflowError):
        app.cancel_workflows(["b-middle", "nobody"], cancel_children=True)
    assert status("b-middle") == "PENDING"
    asyncio.run(app.cancel_workflow_async("b-middle", cancel_children=True))
    assert [status(f"b-{name}") for name in ("middle", "leaf-0", "leaf-1")] == ["CANCELLED"] * 3


def test_a_cancel_by_another_process_stops_what_runs_here_at_once(
    app: App, calls: list[str], migrated_postgres: str
) -> None:
    other = App({"name": "cancelling", "system_database_url": migrated_postgres})
    seen = threading.Event()

    @app.workflow()
    def waits() -> None:
        try:
            app.sleep(3600)
        except DBOSWorkflowCancelledError:
            seen.set()
            raise

    app.configure(
        {
            "name": "cancelling",
            "system_database_url": migrated_postgres,
            "park_after_seconds": 3600.0,
            "lease_seconds": 3600.0,
        }
    )
    with app, other:
        handle = app.start_workflow(waits)
        other.cancel_workflow(handle.workflow_id)
        assert seen.wait(PATIENCE)
