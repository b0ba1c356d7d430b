"""Event loops: which one a workflow runs on, what others do to it, and what becomes of runs whose loop ends."""

import asyncio
import functools
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from dbos_events import App, Queue, SetWorkflowID
from dbos_events.engine import homes
from dbos_events.engine.context import NEXT_WORKFLOW_ID
from dbos_events.model.workflow import ERROR
from dbos_events.runtime import loops

PATIENCE = 20.0
TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class Ended(threading.Event):
    """Is told when a run has left."""

    def wake(self) -> None:
        self.set()


NewLoop = Callable[[], asyncio.AbstractEventLoop]


def uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


def in_debug_mode() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


@pytest.fixture(params=[asyncio.new_event_loop, uvloop, in_debug_mode], ids=["asyncio", "uvloop", "debug"])
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    found: NewLoop = request.param
    return found


@pytest.fixture
def app(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setattr(loops, "LOOK_SECONDS", 0.05)
    app = App({"name": "loops", "system_database_url": database_url, "park_after_seconds": 0})
    yield app
    app.destroy()


def run(new_loop: NewLoop, main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def start(app: App, function: Any, *args: Any) -> Any:
    """Start it; the handle gives what the coroutine does."""
    return app.start_workflow(function, *args)


async def started(app: App, function: Any, *args: Any) -> str:
    return (await app.start_workflow_async(function, *args)).workflow_id


# -- where workflows run --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["called", "started", "child"])
def test_what_a_running_loop_begins_stays_on_it_and_has_its_context(
    app: App, new_loop: NewLoop, way: str
) -> None:
    shared: list[asyncio.Event] = []

    @app.step()
    async def step() -> str:
        return TENANT.get()

    @app.workflow()
    async def waits() -> tuple[str, str]:
        before = await step()
        await shared[0].wait()
        return before, TENANT.get()

    @app.workflow()
    async def parent() -> Any:
        TENANT.set("of the parent")
        return await waits()

    async def main() -> Any:
        shared.append(asyncio.Event())
        TENANT.set("customer 7")
        asyncio.get_running_loop().call_later(0.05, shared[0].set)
        if way == "started":
            handle = await app.start_workflow_async(waits)
            TENANT.set("somebody else")
            return await handle.get_result()
        return await (waits() if way == "called" else parent())

    app.launch()
    tenant = "of the parent" if way == "child" else "customer 7"
    assert tuple(run(new_loop, asyncio.wait_for(main(), PATIENCE))) == (tenant, tenant)
    assert TENANT.get() == "nobody"


def test_a_workflow_does_not_take_the_id_that_its_caller_was_given(app: App) -> None:
    seen: list[object] = []

    @app.workflow()
    async def child() -> None: ...

    @app.workflow()
    async def parent() -> str:
        seen.append(NEXT_WORKFLOW_ID.get())
        return (await app.start_workflow_async(child)).workflow_id

    async def main() -> str:
        with SetWorkflowID("mine"):
            return await parent()

    app.launch()
    assert (asyncio.run(main()), seen) == ("mine-1", [None])


def test_what_a_thread_starts_and_what_is_queued_runs_on_the_launchs_loop(app: App) -> None:
    @app.workflow()
    async def where() -> str:
        return f"{threading.current_thread().name} {TENANT.get()}"

    queue = app.queue("jobs")

    async def main() -> list[str]:
        TENANT.set("of the caller")
        handle = await queue.enqueue_async(where)
        return [await handle.get_result()]

    app.launch()
    assert start(app, where).get_result() == "dbos-loop nobody"
    assert asyncio.run(main()) == ["dbos-loop nobody"]


@pytest.mark.postgres
def test_small_commits_go_out_from_each_loop_that_has_runs(migrated_postgres: str, new_loop: NewLoop) -> None:
    app = App({"name": "loops", "system_database_url": migrated_postgres})

    @app.step()
    async def step(number: int) -> int:
        return number

    @app.workflow()
    async def two(number: int) -> int:
        return await step(number) + await step(number)

    async def main() -> int:
        for number in range(5000):
            assert await two(number) == 2 * number
            if any(near.batches for near in app.core.committer.others):
                return sum(await asyncio.gather(*(two(number) for number in range(20))))
        pytest.fail("nothing went out from the caller's loop")

    app.launch()
    try:
        assert run(new_loop, main()) == 380
        app.core.homes.look()
        assert app.core.committer.others == (), "the loop has ended, and its connection stays open"
    finally:
        app.destroy()


# -- loops that end -------------------------------------------------------------------------------


def ends_at_once(new_loop: NewLoop, main: Coroutine[Any, Any, str]) -> str:
    return str(run(new_loop, main))


def is_closed_over_it(new_loop: NewLoop, main: Coroutine[Any, Any, str]) -> str:
    """Nobody cancels the tasks, as a hand-written server does it."""
    loop = new_loop()
    found = loop.run_until_complete(main)
    KEPT.append(asyncio.all_tasks(loop))
    loop.close()
    return found


def stands_still(new_loop: NewLoop, main: Coroutine[Any, Any, str]) -> str:
    """As a program that runs its loop for each request."""
    KEPT.append(loop := new_loop())
    return loop.run_until_complete(main)


KEPT: list[Any] = []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("begun", [False, True], ids=["before the first step", "in a step"])
@pytest.mark.parametrize("end", [ends_at_once, is_closed_over_it, stands_still])
def test_runs_of_a_loop_that_ends_go_on_elsewhere_and_it_is_said(
    app: App,
    new_loop: NewLoop,
    end: Any,
    begun: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(homes, "STANDS_STILL", 0.2)
    caplog.set_level(logging.WARNING, "dbos_events")
    home: list[asyncio.AbstractEventLoop] = []
    calls: list[str] = []

    @app.step()
    async def first() -> str:
        calls.append("first")
        return "first"

    @app.step()
    async def second() -> str:
        calls.append("second")
        if asyncio.get_running_loop() is home[0]:
            here.set()
            await asyncio.Event().wait()
        return "second"

    @app.workflow()
    async def both() -> str:
        return await first() + await second()

    here: asyncio.Event

    async def main() -> str:
        nonlocal here
        here = asyncio.Event()
        home.append(asyncio.get_running_loop())
        workflow_id = await started(app, both)
        if begun:
            await here.wait()
        return workflow_id

    app.launch()
    workflow_id = end(new_loop, main())
    assert app.retrieve_workflow(workflow_id).get_result() == "firstsecond"
    assert calls.count("first") == 1
    assert "event loop" in caplog.text
    assert app.core.runner.active == {}
    for loop in KEPT:
        if isinstance(loop, asyncio.AbstractEventLoop):
            loop.close()
    KEPT.clear()
    gc.collect()  # tasks that nobody ended are heard of here


@pytest.mark.parametrize("way", ["queued", "started"])
def test_when_the_launchs_loop_ends_its_work_goes_on_and_it_is_said(
    app: App, new_loop: NewLoop, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    @app.workflow()
    async def work() -> str:
        await app.sleep_async(0.05)
        return "done"

    queue = app.queue("jobs")
    run(new_loop, app.launch_async())
    handle: Any = queue.enqueue(work) if way == "queued" else start(app, work)
    assert handle.get_result() == "done"
    assert "launched on" in caplog.text


def test_a_run_that_is_cancelled_while_it_ends_its_tasks_goes_on_elsewhere(
    app: App, new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "dbos_events")
    home: list[asyncio.AbstractEventLoop] = []
    being_ended: list[asyncio.Event] = []

    async def takes_its_time() -> None:
        for _ in range(20):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                being_ended[0].set()

    @app.workflow()
    async def leaves_a_task() -> str:
        if asyncio.get_running_loop() is home[0]:
            KEPT.append(asyncio.create_task(takes_its_time()))
            await asyncio.sleep(0)
        return "done"

    async def main() -> str:
        being_ended.append(asyncio.Event())
        home.append(asyncio.get_running_loop())
        workflow_id = await started(app, leaves_a_task)
        await being_ended[0].wait()
        return workflow_id

    app.launch()
    workflow_id = run(new_loop, main())
    KEPT.clear()
    assert app.retrieve_workflow(workflow_id).get_result() == "done"
    assert "goes on from its history" in caplog.text


def test_a_loop_of_ours_that_somebody_stops_for_a_moment_is_kept(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, go_on = threading.Event(), threading.Event()

    @app.workflow()
    async def work() -> None:
        seen.append(asyncio.get_running_loop())

    seen: list[asyncio.AbstractEventLoop] = []
    app.launch()
    own: Any = app.launched._own_loop
    loop, real = app.core.loop_inbox.loop, own._run

    def runs_again() -> None:
        stopped.set()
        assert go_on.wait(PATIENCE)
        real()

    monkeypatch.setattr(own, "_run", runs_again)
    loop.call_soon_threadsafe(loop.stop)
    assert stopped.wait(PATIENCE)
    assert not loop.is_running()
    handle = start(app, work)
    go_on.set()
    handle.get_result()
    assert seen == [loop]


def test_a_workflow_that_cancels_its_own_task_fails_after_a_few_tries(app: App) -> None:
    tries: list[int] = []

    @app.workflow()
    async def cancels_itself() -> None:
        tries.append(len(tries))
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    app.launch()
    handle = start(app, cancels_itself)
    with pytest.raises(Exception, match="cancelled 4 times"):
        handle.get_result()
    assert handle.get_status().status == ERROR
    assert len(tries) == 4


def test_a_loop_is_run_for_each_event_and_made_anew(app: App, new_loop: NewLoop) -> None:
    @app.step()
    async def step(number: int) -> int:
        return number

    @app.workflow()
    async def event(number: int) -> int:
        return await step(number) + await step(1)

    app.launch()
    assert [run(new_loop, event(number)) for number in range(20)] == [number + 1 for number in range(20)]
    loop = new_loop()
    assert [loop.run_until_complete(event(number)) for number in range(20)] == list(range(1, 21))
    loop.close()


@pytest.mark.parametrize("way", ["a step of a sync workflow", "a call", "a start", "a wait"])
def test_nothing_keeps_a_loop_that_nobody_else_has(app: App, new_loop: NewLoop, way: str) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    @app.step()
    async def step() -> int:
        return 1

    async def steps() -> int:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        return await step() + await step()

    @app.workflow()
    def sync_workflow() -> int:
        return int(run(new_loop, steps()))

    @app.workflow()
    async def workflow() -> int:
        return await step() + await step()

    async def main() -> int:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        if way == "a call":
            return await workflow()
        if way == "a start":
            return int(await (await app.start_workflow_async(workflow)).get_result())
        return int(await app.get_result_async(done))

    app.launch()
    done = app.start_workflow(sync_workflow).workflow_id
    app.retrieve_workflow(done).get_result()
    for _ in range(20):
        if way == "a step of a sync workflow":
            assert app.start_workflow(sync_workflow).get_result() == 2
        else:
            assert run(new_loop, main()) == 2
    app.core.homes.look()
    gc.collect()
    alive = [loop for loop in loops if loop() is not None]
    assert len(alive) <= 1, f"{len(alive)} of {len(loops)} loops are in memory"  # a thread has its last one


# -- what others do to a loop ---------------------------------------------------------------------


def as_asyncio_does(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


class Traced(asyncio.Task):  # type: ignore[type-arg]
    """A task of somebody's instrumentation."""


def of_their_own_kind(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return Traced(coroutine, loop=loop, **options)


def around_what_was_there() -> Any:
    previous = asyncio.get_running_loop().get_task_factory()
    assert previous is not None
    return functools.partial(_by, previous)


def _by(previous: Any, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    return previous(loop, coroutine, **options)


def none_at_all() -> None:
    return None


@pytest.mark.parametrize("moment", ["after the launch", "in the run"])
@pytest.mark.parametrize(
    "factory", [lambda: as_asyncio_does, lambda: of_their_own_kind, around_what_was_there, none_at_all],
    ids=["as asyncio", "own kind", "around ours", "none"],
)  # fmt: skip
def test_workflows_replay_whatever_task_factory_is_set_later(
    app: App, new_loop: NewLoop, factory: Any, moment: str
) -> None:
    done: list[str] = []

    @app.step()
    async def step(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        done.append(name)
        return name

    async def branch(name: str, seconds: float) -> list[str]:
        return [await step(f"{name}1", seconds), await step(f"{name}2", 0)]

    @app.workflow()
    async def both() -> list[list[str]]:
        if moment == "in the run":
            asyncio.get_running_loop().set_task_factory(factory())
        found = await asyncio.gather(branch("A", 0.05), branch("B", 0.02))
        await app.sleep_async(0.2)
        return list(found)

    async def main() -> Any:
        await app.launch_async()
        if moment == "after the launch":
            asyncio.get_running_loop().set_task_factory(factory())
        result = await both()
        await app.destroy_async()
        return result

    assert run(new_loop, main()) == [["A1", "A2"], ["B1", "B2"]]
    assert sorted(done) == ["A1", "A2", "B1", "B2"]


def test_tasks_made_past_the_factory_have_places_of_their_own_and_it_is_said(
    app: App, new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    lives: list[object] = []

    @app.step()
    async def step(name: str) -> str:
        done.append(name)
        return name

    async def branch(name: str) -> list[str]:
        first = await step(f"{name}1")
        await asyncio.sleep(0.05 if (name == "A") == (len(lives) == 1) else 0)  # the other one in the replay
        return [first, await step(f"{name}2")]

    @app.workflow()
    async def both() -> list[list[str]]:
        lives.append(None)
        await step("before")
        loop = asyncio.get_running_loop()
        tasks = [asyncio.Task(branch(name), loop=loop) for name in "AB"]
        found = [await task for task in tasks]
        await app.sleep_async(0.2)
        return found

    app.launch()
    assert run(new_loop, both()) == [["A1", "A2"], ["B1", "B2"]]
    assert len(done) == 5, "a step of them was repeated"
    assert "task factory" in caplog.text


def test_branches_of_a_loop_that_a_sync_workflow_runs_have_places_of_their_own(
    app: App, new_loop: NewLoop
) -> None:
    done: list[str] = []
    lives: list[object] = []

    @app.step()
    async def step(name: str) -> str:
        done.append(name)
        return name

    async def branch(name: str) -> list[str]:
        first = await step(f"{name}1")
        await asyncio.sleep(0.05 if (name == "A") == (len(lives) == 1) else 0)  # the other one in the replay
        return [first, await step(f"{name}2")]

    async def gathers() -> list[list[str]]:
        found: list[list[str]] = await asyncio.gather(*(branch(name) for name in "AB"))
        return found

    @app.workflow()
    def both() -> list[list[str]]:
        lives.append(None)
        found: list[list[str]] = run(new_loop, gathers())
        app.sleep(0.2)
        return found

    app.launch()
    assert app.start_workflow(both).get_result() == [["A1", "A2"], ["B1", "B2"]]
    assert len(done) == 4, "a step of them was repeated"


async def by_asyncio(wait: Any) -> str:
    try:
        async with asyncio.timeout(0.1):
            await wait()
    except TimeoutError:
        return "in time"
    return "too late"


async def by_wait_for(wait: Any) -> str:
    try:
        await asyncio.wait_for(wait(), 0.1)
    except TimeoutError:
        return "in time"
    return "too late"


async def by_a_timer_of_their_own(wait: Any) -> str:
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(delay=0.1, callback=task.cancel)
    try:
        await wait()
    except asyncio.CancelledError:
        task.uncancel()
        return "in time"
    finally:
        timer.cancel()
    return "too late"


async def in_a_branch(wait: Any) -> str:
    _, found = await asyncio.gather(asyncio.sleep(0), by_asyncio(wait))
    return str(found)


@pytest.mark.parametrize("bound", [by_asyncio, by_wait_for, by_a_timer_of_their_own, in_a_branch])
def test_a_timeout_around_a_wait_that_would_cost_a_row_is_kept(
    app: App, new_loop: NewLoop, bound: Any
) -> None:
    @app.workflow()
    async def bounded() -> str:
        return str(await bound(lambda: app.sleep_async(3600)))

    app.launch()
    assert run(new_loop, asyncio.wait_for(bounded(), PATIENCE)) == "in time"


def test_a_wait_costs_a_row_again_when_its_timeouts_are_over(app: App, new_loop: NewLoop) -> None:
    @app.workflow()
    async def waits() -> str:
        async with asyncio.timeout(3600):
            await app.sleep_async(0)
        asyncio.get_running_loop().call_later(0, int)
        await app.sleep_async(3600)
        return "never"

    async def main() -> None:
        handle = await app.start_workflow_async(waits)
        run = app.core.runner.active[handle.workflow_id]
        ended = Ended()
        if run.when_ended(ended):
            await asyncio.to_thread(ended.wait, PATIENCE)
        assert run.ending is not None
        assert run.ending.kind == "parked"

    app.launch()
    run(new_loop, asyncio.wait_for(main(), PATIENCE))


def test_an_eager_task_is_not_alone_while_it_begins(app: App, new_loop: NewLoop) -> None:
    """A factory that runs code of the task before it gives it, as asyncio's of Python 3.12 does."""
    alone: list[bool] = []

    def eager(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        run = next(iter(app.core.runner.active.values()), None)
        if run is not None and run.tasks is not None and coroutine.__name__ == "branch":
            alone.append(run.tasks.alone)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def branch() -> None: ...

    @app.workflow()
    async def workflow() -> bool:
        await asyncio.create_task(branch())
        assert app.core.runner.active
        return True

    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(eager)
        return await workflow()

    app.launch()
    assert run(new_loop, main()) is True
    assert alone == [False]


@pytest.mark.parametrize("way", ["enqueued", "started", "called"])
def test_a_task_outside_of_workflows_that_only_starts_workflows_can_be_cancelled(app: App, way: str) -> None:
    queue, ids = Queue("work", app=app), list[str]()

    @app.workflow()
    async def work() -> None: ...

    async def producer() -> None:
        while True:
            ids.append(f"{way}-{len(ids)}")
            with SetWorkflowID(ids[-1]):
                if way == "enqueued":
                    await queue.enqueue_async(work)
                elif way == "started":
                    await app.start_workflow_async(work)
                else:
                    await work()

    async def main() -> None:
        task = asyncio.create_task(producer())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()
        for id_ in ids[-4:-1]:  # the last one may not have been written
            handle: Any = await app.retrieve_workflow_async(id_)
            await asyncio.wait_for(handle.get_result(), PATIENCE)

    app.launch()
    asyncio.run(main())
