"""Scenarios of schedules; each life begins at the same moment, so for the schedules the clock goes back with it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.crashes.outcome import End
from tests.crashes.scenarios import scenario
from tests.crashes.world import Play, World

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def tick(time: str, schedule: str = "job") -> str:
    return f"sched-shop/{schedule}-{time}[UTC]"


WORKED = End("SUCCESS", None, ("work",))
SLEPT = End("SUCCESS", None, ("before", "after"))


@scenario({tick("2030-01-01T00:01:00"): WORKED, tick("2030-01-01T00:02:00"): WORKED})
def schedule(world: World) -> Play:
    """A schedule in code fires twice."""
    work = world.step("work")

    @world.app.scheduled("1,2 0 1 1 *", name="job")
    @world.app.workflow(name="job")
    def job(scheduled_time: datetime, actual_time: datetime) -> None:
        work()

    return lambda: world.advance(150)


@scenario({tick("2030-01-01T00:01:00"): SLEPT, tick("2030-01-01T00:02:00"): SLEPT})
def schedule_that_buffers(world: World) -> Play:
    """The second tick waits until the first run has ended; both are on a queue."""
    before, after = world.step("before"), world.step("after")
    world.app.queue("line")

    @world.app.scheduled("1,2 0 1 1 *", name="job", overlap="buffer_one", queue_name="line")
    @world.app.workflow(name="job")
    def job(scheduled_time: datetime, actual_time: datetime) -> None:
        before()
        world.app.sleep(90)
        after()

    def play() -> None:
        # In stages: a claim whose answer was lost is found in the next one, and its run has time to end.
        for _ in range(5):
            world.advance(100)

    return play


@scenario(
    {
        tick("2029-12-31T23:58:00", "api"): WORKED,
        tick("2029-12-31T23:59:00", "api"): WORKED,
        tick("2030-01-01T00:01:00", "api"): WORKED,
    }
)
def schedule_by_operators(world: World) -> Play:
    """A schedule is made, paused, resumed, changed, and filled in."""
    work = world.step("work")

    @world.app.workflow(name="job")
    def job(scheduled_time: datetime, context: Any) -> None:
        work()

    def apply(expression: str) -> None:
        world.app.apply_schedules([{"schedule_name": "api", "workflow_fn": job, "schedule": expression}])

    def play() -> None:
        world.decide(lambda: apply("58,59,1 * * * *"))
        world.decide(lambda: world.app.pause_schedule("api"))
        world.decide(lambda: world.app.resume_schedule("api"))
        world.decide(lambda: world.app.backfill_schedule("api", BEGIN - timedelta(minutes=5), BEGIN))
        world.advance(100)

    return play
