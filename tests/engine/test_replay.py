"""Replay of concurrent branches: same values, same winner, or an error that shows both histories (rule 4)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID
from dbos_events.errors import DBOSUnexpectedStepError
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp
from tests.engine.gates import Gate


class Trace:
    """What each life of a workflow saw."""

    def __init__(self) -> None:
        self.lives: list[list[Any]] = []

    def begin(self) -> Callable[[Any], None]:
        life: list[Any] = []
        self.lives.append(life)
        return life.append


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def trace() -> Trace:
    return Trace()


def run(app: App, dbos: TestApp, function: Callable[..., Awaitable[Any]], *args: Any) -> str:
    """Start an async workflow and let it run as far as it comes without time."""

    async def start() -> str:
        return (await app.start_workflow_async(function, *args)).workflow_id  # type: ignore[arg-type]

    workflow_id = asyncio.run(start())
    dbos.run_until_idle()
    return workflow_id


def test_the_same_caller_gets_the_same_value_in_nested_gathers(
    app: App, trace: Trace, dbos_test_app: MakeTestApp
) -> None:
    pauses = random.Random(5)

    @app.step()
    async def step(name: str) -> str:
        await asyncio.sleep(pauses.random() / 100)
        return name

    @app.workflow()
    async def nested() -> None:
        note = trace.begin()

        async def branch(name: str, depth: int) -> list[Any]:
            first = await step(f"{name}1")
            inner = await asyncio.gather(*(branch(f"{name}{n}", depth - 1) for n in "xy")) if depth else []
            return [first, await step(f"{name}2"), *inner]

        note(await asyncio.gather(*(branch(name, 2) for name in "abc")))
        await app.sleep_async(60)

    dbos = dbos_test_app(app)
    workflow_id = run(app, dbos, nested)
    app.retrieve_workflow(workflow_id).get_result()
    first, replayed = trace.lives
    assert first == replayed
    assert first[0][1][0] == "b1"


@pytest.mark.parametrize("winner", ["a", "b"])
def test_a_race_has_the_same_winner_again(
    app: App, trace: Trace, dbos_test_app: MakeTestApp, winner: str
) -> None:
    @app.step()
    async def racer(name: str) -> str:
        if name != winner:
            await asyncio.sleep(0.02)
        return name

    @app.workflow()
    async def race() -> str:
        note = trace.begin()
        for finished in asyncio.as_completed([racer("a"), racer("b")]):
            note(await finished)
        await app.sleep_async(60)
        return "done"

    dbos = dbos_test_app(app)
    app.retrieve_workflow(run(app, dbos, race)).get_result()
    first, replayed = trace.lives
    assert first == replayed
    assert first[0] == winner


def test_a_loser_that_was_cancelled_stays_cancelled(
    app: App, trace: Trace, dbos_test_app: MakeTestApp
) -> None:
    slow_runs: list[int] = []

    @app.step()
    async def fast() -> str:
        return "fast"

    @app.step()
    async def slow() -> str:
        slow_runs.append(1)
        if len(slow_runs) == 1:
            await asyncio.sleep(1000)
        return "slow"

    @app.step()
    async def note_winner(name: str) -> str:
        return name

    @app.workflow()
    async def race() -> str:
        note = trace.begin()
        tasks = [asyncio.ensure_future(slow()), asyncio.ensure_future(fast())]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        note([await task for task in done])
        note(await note_winner(str(len(pending))))
        await app.sleep_async(60)
        return "done"

    dbos = dbos_test_app(app)
    app.retrieve_workflow(run(app, dbos, race)).get_result()
    assert trace.lives[0] == trace.lives[1] == [["fast"], "1"]
    assert slow_runs == [1]


def test_a_sleep_that_lost_a_race_does_not_win_it_in_a_late_replay(
    app: App, trace: Trace, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    async def answer() -> str:
        await asyncio.sleep(0.01)
        return "answer"

    @app.step()
    async def note_winner(name: str) -> str:
        return name

    @app.workflow()
    async def race() -> str:
        note = trace.begin()

        async def patience() -> str:
            await app.sleep_async(30)
            return "patience"

        tasks = [asyncio.ensure_future(patience()), asyncio.ensure_future(answer())]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        note(await note_winner(" ".join([task.result() for task in done])))
        await app.sleep_async(3600)
        return "done"

    dbos = dbos_test_app(app)
    app.retrieve_workflow(run(app, dbos, race)).get_result()
    assert trace.lives == [["answer"]] * 2


def test_a_sleep_that_won_a_race_wins_it_again(app: App, trace: Trace, dbos_test_app: MakeTestApp) -> None:
    gate = asyncio.Event()

    @app.step()
    async def answer() -> str:
        while (due := dbos.clock.next_alarm()) is None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        dbos.clock.move_to(due)
        await gate.wait()
        return "answer"

    @app.step()
    async def note_winner(name: str) -> str:
        return name

    @app.workflow()
    async def race() -> str:
        note = trace.begin()

        async def patience() -> str:
            await app.sleep_async(0.01)
            return "patience"

        tasks = [asyncio.ensure_future(answer()), asyncio.ensure_future(patience())]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winners = [task.result() for task in done]
        gate.set()
        note([*winners, await tasks[0]])
        note(await note_winner(winners[0]))
        await app.sleep_async(3600)
        return "done"

    dbos = dbos_test_app(app)
    app.retrieve_workflow(run(app, dbos, race)).get_result()
    assert trace.lives == [[["patience", "answer"], "patience"]] * 2


def test_a_timeout_cancels_a_step_and_does_so_again(
    app: App, trace: Trace, dbos_test_app: MakeTestApp
) -> None:
    calls: list[int] = []

    @app.step()
    async def slow() -> str:
        calls.append(1)
        await asyncio.sleep(1000)
        return "slow"

    @app.workflow()
    async def impatient() -> str:
        note = trace.begin()
        for _ in range(2):
            try:
                await asyncio.wait_for(slow(), 0.01)
            except TimeoutError:
                note("wait_for")
            try:
                async with asyncio.timeout(0.01):
                    await slow()
            except TimeoutError:
                note("timeout")
        await app.sleep_async(60)
        return "done"

    dbos = dbos_test_app(app)
    workflow_id = run(app, dbos, impatient)
    called = len(calls)
    app.retrieve_workflow(workflow_id).get_result()
    assert trace.lives == [["wait_for", "timeout"] * 2] * 2
    assert len(calls) == called


def test_a_timeout_around_a_durable_wait_still_counts(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.02):
                await app.sleep_async(3600)
        except TimeoutError:
            return "gave up"
        return "waited"

    dbos = dbos_test_app(app)
    started = dbos.clock.now_ms()
    assert app.retrieve_workflow(run(app, dbos, impatient)).get_result() == "gave up"
    assert dbos.clock.now_ms() == started


def test_a_timeout_that_ends_while_a_sleep_is_being_recorded_ends_the_sleep(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    async def impatient() -> str:
        gates.append(Gate(dbos.core))
        try:
            async with asyncio.timeout(0.02) as bound:
                asyncio.get_running_loop().call_later(0.05, gates[0].open)
                await app.sleep_async(3600)
        except TimeoutError:
            return "gave up"
        return f"waited, {bound.expired()}"

    gates: list[Gate] = []
    dbos = dbos_test_app(app)
    workflow_id = run(app, dbos, impatient)
    assert gates[0].held
    assert app.retrieve_workflow(workflow_id).get_result() == "gave up"


def test_a_start_that_is_being_written_is_done_though_its_task_is_cancelled_and_says_so(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    async def child(name: str) -> str:
        return name

    @app.workflow()
    async def starts() -> bool:
        task = asyncio.ensure_future(app.start_workflow_async(child, "x"))
        while dbos.core.committer.batches == before:
            await asyncio.sleep(0)
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    dbos = dbos_test_app(app)

    async def start() -> str:
        return (await app.start_workflow_async(starts)).workflow_id

    before = 1
    workflow_id = asyncio.run(start())
    assert app.retrieve_workflow(workflow_id).get_result() is True
    assert app.get_result(f"{workflow_id}-1.1") == "x"


def test_a_workflow_that_changed_its_calls_ends_with_both_histories(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    lives: list[int] = []

    @app.step()
    def one() -> None: ...

    @app.step()
    def two() -> None: ...

    @app.step()
    def three() -> None: ...

    @app.workflow()
    def changes() -> None:
        lives.append(1)
        one()
        (two if len(lives) == 1 else three)()
        app.sleep(60)

    dbos_test_app(app)
    with SetWorkflowID("changing"), pytest.raises(DBOSUnexpectedStepError) as caught:
        changes()
    message = str(caught.value)
    recorded, now = message.split("This run:")
    assert "changing" in message
    assert "1: " in recorded
    assert two.__qualname__ in recorded
    assert three.__qualname__ in now
    assert "put whatever may differ" in now
    assert caught.value.version_mismatch is False


def test_other_arguments_are_another_call(app: App, dbos_test_app: MakeTestApp) -> None:
    lives: list[int] = []

    @app.step()
    def pay(amount: int) -> None: ...

    @app.workflow()
    def changes() -> None:
        lives.append(1)
        pay(len(lives))
        app.sleep(60)

    dbos_test_app(app)
    with pytest.raises(DBOSUnexpectedStepError, match="with other arguments"):
        changes()


def test_numbers_are_taken_at_the_call_and_a_call_that_is_not_awaited_yet_keeps_its_own(
    app: App, trace: Trace, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    async def step(name: str) -> str:
        return name

    @app.workflow()
    async def later() -> None:
        note = trace.begin()
        first, second = step("first"), step("second")
        note(await second)
        note(await first)
        await app.sleep_async(60)

    dbos = dbos_test_app(app)
    workflow_id = run(app, dbos, later)
    app.retrieve_workflow(workflow_id).get_result()
    assert trace.lives == [["second", "first"]] * 2
    assert [step.output for step in app.list_workflow_steps(workflow_id)][:2] == ["first", "second"]
