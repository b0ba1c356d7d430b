"""Scenarios of deadlines, cancelled trees, races, and events that are too late."""

import asyncio
from datetime import timedelta

from dbos_events import KafkaMessage, SetWorkflowID, SetWorkflowTimeout
from dbos_events.errors import DBOSAwaitedWorkflowCancelledError
from tests.crashes.outcome import End
from tests.crashes.scenarios import begin, reading, scenario
from tests.crashes.world import Log, Play, World

LATE: Log = {0: (b"a", b"b"), 1: (b"c",)}


@scenario(
    {
        "parent": End("SUCCESS", "child was too slow", ("before", "after")),
        "child": End("CANCELLED", None, ("work",)),
    },
    children={"parent": 1},
)
def deadline(world: World) -> Play:
    """A parked child passes its deadline; its parked parent is woken and goes on with the error."""
    before, work, after = world.step("before"), world.step("work"), world.step("after")

    @world.app.workflow(name="child")
    def child() -> None:
        work()
        world.app.sleep(3600)

    @world.app.workflow(name="parent")
    def parent() -> str:
        before()
        with SetWorkflowID("child"), SetWorkflowTimeout(60):
            handle = world.app.start_workflow(child)
        try:
            handle.get_result()
        except DBOSAwaitedWorkflowCancelledError:
            after()
            return "child was too slow"
        return "no error"

    def play() -> None:
        begin(world, "parent", world.app.start_workflow, parent)
        world.settle()
        world.advance(120)

    return play


@scenario({"task-0": End("SUCCESS", None, ("work",)), "task-1": End("CANCELLED", None)})
def claimed_too_late(world: World) -> Play:
    """Of two that are enqueued one has to wait for longer than it may."""
    work = world.step("work")
    line = world.app.queue("line", concurrency=1, limiter={"limit": 1, "period": 600})

    @world.app.workflow(name="task")
    def task() -> None:
        work()

    def enqueue() -> None:
        with SetWorkflowTimeout(queue_timeout_seconds=60):
            line.enqueue(task)

    def play() -> None:
        begin(world, "task-0", line.enqueue, task)
        world.settle()
        begin(world, "task-1", enqueue)
        world.advance(120)

    return play


@scenario(
    {
        "top": End("CANCELLED", None, ("top",)),
        "middle": End("CANCELLED", None, ("middle",)),
        "leaf": End("CANCELLED", None),
    },
    children={"top": 1, "middle": 1},
)
def cancelled_tree(world: World) -> Play:
    """Two that sleep and one that waits for another day are cancelled together."""
    top_step, middle_step = world.step("top"), world.step("middle")

    @world.app.workflow(name="leaf")
    def leaf() -> None:
        world.app.sleep(3600)

    @world.app.workflow(name="middle")
    def middle() -> None:
        middle_step()
        with SetWorkflowID("leaf"):
            world.app.start_workflow(leaf).get_result()

    @world.app.workflow(name="top")
    def top() -> None:
        top_step()
        with SetWorkflowID("middle"):
            world.app.start_workflow(middle).get_result()

    def play() -> None:
        begin(world, "top", world.app.start_workflow, top)
        world.settle()
        world.decide(lambda: world.app.cancel_workflow("top", cancel_children=True))
        world.advance(7200)

    return play


@scenario(
    {
        "race": End("SUCCESS", [["short"], "quick", 1], ("before", "after")),
        "nap-0": End("SUCCESS", "slow"),
        "nap-1": End("SUCCESS", "quick"),
    },
    children={"race": 2},
)
def race(world: World) -> Play:
    """Sleeps race, then workflows; then a wait that is over before anything has ended."""
    before, after = world.async_step("before"), world.async_step("after")

    @world.app.workflow(name="nap")
    async def nap(seconds: float) -> str:
        await world.app.sleep_async(seconds)
        return "quick" if seconds < 50 else "slow"

    @world.app.workflow(name="race")
    async def racing() -> list[object]:
        await before()

        async def sleeps(name: str, seconds: float) -> str:
            await world.app.sleep_async(seconds)
            return name

        tasks = [asyncio.create_task(sleeps(*one)) for one in (("long", 500.0), ("short", 20.0))]
        done, left = await world.app.asyncio_wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        handles = []
        for number, seconds in enumerate((90.0, 40.0)):
            with SetWorkflowID(f"nap-{number}"):
                handles.append(await world.app.start_workflow_async(nap, seconds))
        first = await (await world.app.wait_first_async(handles)).get_result()
        _, left = await world.app.asyncio_wait(left, timeout=30)
        for task in left:
            task.cancel()
        await after()
        return [[task.result() for task in done], first, len(left)]

    def play() -> None:
        begin(world, "race", world.app.start_workflow, racing)
        world.settle()
        world.advance(200)

    return play


@scenario({f"{place}": End("EXPIRED") for place in ("0/0", "0/1", "1/0")}, log=LATE)
def too_late(world: World) -> Play:
    """Events that are too late when they are taken in: each ends without a run, and its lane is free."""
    work = world.step("work")

    @world.app.kafka_consumer(
        None, "orders", name="shop", ordering="partition", expires=lambda _: timedelta(seconds=-1)
    )
    def handle(message: KafkaMessage) -> None:
        work()

    return reading(world)
