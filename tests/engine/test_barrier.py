"""The lazy barrier: a step goes on at once, the next operation waits for the commit (protocol, rule 3; P5)."""

import asyncio
import threading
from typing import Any

import pytest

from dbos_events import App
from dbos_events.errors import BadWrite, StorageUnavailable
from dbos_events.storage.writes import Outcome, Write
from dbos_events.testing.plugin import MakeTestApp
from tests.engine.gates import PATIENCE, Gate


@pytest.fixture
def app() -> App:
    return App()


def in_thread(call: Any) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def until(condition: Any) -> None:
    """Wait for what another thread is about to do."""
    while not condition():
        threading.Event().wait(0.001)


def test_a_start_returns_when_it_is_durable(app: App, dbos_test_app: MakeTestApp) -> None:
    ran = threading.Event()

    @app.workflow()
    def quick() -> None:
        ran.set()

    dbos = dbos_test_app(app)
    gate = Gate(dbos.core)
    started: list[Any] = []
    starter = in_thread(lambda: started.append(app.start_workflow(quick)))
    assert gate.await_write()[0].only_starts
    assert not started
    assert not ran.is_set()
    gate.open()
    starter.join(PATIENCE)
    started[0].get_result()


def test_the_next_step_waits_for_the_commit_of_the_last(app: App, dbos_test_app: MakeTestApp) -> None:
    gates: list[Gate] = []
    order: list[str] = []

    @app.step()
    def first() -> None:
        gates.append(Gate(dbos.core))

    @app.step()
    def second() -> None:
        order.append("second runs")

    @app.workflow()
    def both() -> None:
        first()
        order.append("first returned")
        second()

    dbos = dbos_test_app(app)
    handle = app.start_workflow(both)
    until(lambda: gates)
    (write,) = gates[0].await_write()
    assert write.checkpoint is not None
    assert write.checkpoint.name == first.__qualname__
    (run,) = dbos.core.runner.active.values()
    waker = threading.Event()
    waker.wake = waker.set  # type: ignore[attr-defined]
    assert run.wake_when_settled(waker)  # type: ignore[arg-type]
    assert order == ["first returned"]
    gates[0].open()
    handle.get_result()
    assert waker.is_set()
    assert order == ["first returned", "second runs"]


def test_an_operation_waits_for_the_writes_of_all_branches(app: App, dbos_test_app: MakeTestApp) -> None:
    order: list[str] = []

    @app.step()
    async def beside() -> None:
        order.append("beside")
        gates.append(Gate(dbos.core))

    @app.step()
    async def after() -> None:
        order.append("after")

    @app.workflow()
    async def branches() -> None:
        async def other() -> None:
            while not gates or not gates[0].held:  # noqa: ASYNC110 - the committer is another thread
                await asyncio.sleep(0)
            order.append("asks")
            await after()

        await asyncio.gather(beside(), other())

    gates: list[Gate] = []
    dbos = dbos_test_app(app)

    async def start() -> str:
        return (await app.start_workflow_async(branches)).workflow_id

    workflow_id = asyncio.run(start())
    until(lambda: "asks" in order)
    on_loop = threading.Event()
    for _ in range(3):  # whatever is ready on the loop has run
        on_loop.clear()
        dbos.core.loop_inbox.post(on_loop.set)
        assert on_loop.wait(PATIENCE)
    assert order == ["beside", "asks"]
    gates[0].open()
    app.retrieve_workflow(workflow_id).get_result()
    assert order == ["beside", "asks", "after"]


def test_the_last_checkpoint_and_the_outcome_go_out_together(app: App, dbos_test_app: MakeTestApp) -> None:
    returned = threading.Event()

    @app.step()
    def only() -> int:
        gates.append(Gate(dbos.core))
        dbos.core.committer.submit(Write())  # something else is being committed
        gates[0].await_write()
        return 1

    @app.workflow()
    def one_step() -> int:
        result = only()
        returned.set()
        return result

    gates: list[Gate] = []
    dbos = dbos_test_app(app)
    handle = app.start_workflow(one_step)
    assert returned.wait(PATIENCE)
    until(lambda: len(dbos.core.committer._queue) == 2)
    batches = dbos.core.committer.batches
    gates[0].open()
    assert handle.get_result() == 1
    assert dbos.core.committer.batches == batches + 2


def test_nobody_sees_an_outcome_that_is_not_durable(app: App, dbos_test_app: MakeTestApp) -> None:
    gates: list[Gate] = []
    results: list[int] = []

    @app.workflow()
    def quick() -> int:
        gates.append(Gate(dbos.core))
        return 5

    dbos = dbos_test_app(app)
    handle = app.start_workflow(quick)
    until(lambda: gates)
    (write,) = gates[0].await_write()
    assert isinstance(write.change, Outcome)
    dbos.core.stepper = None
    waiting = in_thread(lambda: results.append(handle.get_result()))
    assert handle.get_status().status == "PENDING"
    assert results == []
    gates[0].open()
    waiting.join(PATIENCE)
    assert results == [5]


def test_the_outcome_waits_until_every_operation_has_settled(app: App, dbos_test_app: MakeTestApp) -> None:
    ended: list[str] = []

    @app.step()
    async def slow() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ended.append("slow")
            raise

    @app.workflow()
    async def leaves_a_task() -> int:
        task = asyncio.ensure_future(slow())
        await asyncio.sleep(0)
        ended.append("function")
        return 0 if task.done() else 1

    dbos_test_app(app)

    async def start() -> str:
        return (await app.start_workflow_async(leaves_a_task)).workflow_id

    workflow_id = asyncio.run(start())
    assert app.retrieve_workflow(workflow_id).get_result() == 1
    assert ended == ["function", "slow"]
    (step,) = app.list_workflow_steps(workflow_id)
    assert step.function_name == slow.__qualname__


def test_an_unreachable_database_makes_a_workflow_wait_and_lose_nothing(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(number: int) -> int:
        if number == 1:
            gate.fail(*[StorageUnavailable("no answer")] * 4)
        return number

    @app.workflow()
    def two() -> int:
        return step(1) + step(2)

    dbos = dbos_test_app(app)
    gate = Gate(dbos.core)
    gate.open()
    assert two() == 3


@pytest.mark.parametrize("color", ["sync", "async"])
def test_a_commit_whose_answer_was_lost_counts_once(app: App, dbos_test_app: MakeTestApp, color: str) -> None:
    runs: list[int] = []

    @app.workflow()
    def child() -> str:
        return "child"

    @app.step()
    def step(number: int) -> int:
        runs.append(number)
        gate.lose_answer(StorageUnavailable("the connection broke"))
        return number

    @app.workflow()
    def sync() -> list[Any]:
        gate.lose_answer(StorageUnavailable("the connection broke"))
        return [step(1), step(2), app.start_workflow(child).get_result()]

    @app.workflow()
    async def asynchronous() -> list[Any]:
        gate.lose_answer(StorageUnavailable("the connection broke"))
        return [step(1), step(2), await (await app.start_workflow_async(child)).get_result()]  # type: ignore[arg-type]

    dbos = dbos_test_app(app)
    gate = Gate(dbos.core)
    gate.open()
    gate.lose_answer(StorageUnavailable("the connection broke"))
    if color == "sync":
        assert sync() == [1, 2, "child"]
    else:
        assert asyncio.run(_await(asynchronous())) == [1, 2, "child"]
    assert runs == [1, 2]
    assert [workflow.status for workflow in app.list_workflows()] == ["SUCCESS"] * 2


async def _await(value: Any) -> Any:
    return await value


def test_a_value_that_the_database_refuses_fails_its_workflow_alone(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(name: str) -> str:
        return name

    @app.workflow()
    def calls(name: str) -> str:
        return step(name) + step("b")

    dbos = dbos_test_app(app)
    inner = dbos.core.committer._write_batch

    def picky(writes: Any) -> Any:
        if any(write.checkpoint is not None and "bad" in (write.checkpoint.output or "") for write in writes):
            raise BadWrite("invalid byte sequence")
        return inner(writes)

    dbos.core.committer._write_batch = picky
    handles = [app.start_workflow(calls, name) for name in ("a", "bad", "c", "d")]
    assert handles[0].get_result() == "ab"
    with pytest.raises(Exception, match="invalid byte sequence"):
        handles[1].get_result()
    assert handles[1].get_status().status == "ERROR"
    assert [handle.get_result() for handle in handles[2:]] == ["cb", "db"]
