"""Rule 5: who looks, finds nothing and goes to rest misses no signal that comes in between."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from dbos_events.engine.pool import Pool
from dbos_events.engine.run import Run
from dbos_events.engine.waits import Wait
from dbos_events.engine.waking import Hub, LoopInbox
from dbos_events.storage.writes import WRITTEN, Park, Write
from dbos_events.testing import ManualClock
from tests.storage.racing import PATIENCE, meanwhile


class World:
    """What a wait uses of the engine. Its clock stands still, so a signal that is missed is missed for ever."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.there = False
        self.core: Any = SimpleNamespace(
            hub=self.hub,
            clock=ManualClock(),
            park_after=60.0,
            stepper=None,
            pool=Pool(1),
            runner=SimpleNamespace(is_crowded=False),
            committer=SimpleNamespace(before_blocking=lambda: None),
            refuse_when_stopped=lambda: None,
            ask=lambda look: look(),
            readers=ThreadPoolExecutor(1),
            inbox=lambda: LoopInbox(asyncio.get_running_loop()),
        )

    def comes_after(self, look: str) -> dict[str, Any]:
        """Looks of a wait, of which the named one finds nothing just before the thing comes, and is told of."""

        def find(name: str) -> Any:
            found = "found" if self.there else None
            if name == look and not self.there:
                self.there = True
                self.hub.signal("workflow:w")
            return found

        return {"peek": lambda: find("peek"), "look": lambda: find("look")}

    def wait(self, look: str) -> Wait:
        return Wait(self.core, None, park=Park(None), channel="workflow:w", **self.comes_after(look))


@pytest.mark.parametrize("look", ["peek", "look"])
def test_rule_5_a_thread_that_looked_in_vain_hears_of_what_came_before_it_rests(look: str) -> None:
    world = World()
    with meanwhile(world.wait(look).block) as waiting:
        assert waiting.result(PATIENCE) == "found"


@pytest.mark.parametrize("look", ["peek", "look"])
def test_rule_5_a_task_that_looked_in_vain_hears_of_what_came_before_it_rests(look: str) -> None:
    world = World()

    async def wait() -> Any:
        return await asyncio.wait_for(world.wait(look).suspend(), PATIENCE)

    assert asyncio.run(wait()) == "found"


@pytest.mark.parametrize("settles_first", [True, False])
def test_rule_3_a_commit_that_lands_while_the_next_operation_begins_to_wait(settles_first: bool) -> None:
    core: Any = SimpleNamespace(runner=SimpleNamespace())
    function: Any = SimpleNamespace(name="work")
    run = Run(core, "w", function, (), {})
    run.handing()
    waker = SimpleNamespace(woken=0)
    waker.wake = lambda: setattr(waker, "woken", waker.woken + 1)
    assert not run.is_settled()
    if settles_first:
        run.settled(Write("w", 1), WRITTEN)
        assert not run.wake_when_settled(waker), "it need not wait"
    else:
        assert run.wake_when_settled(waker)
        run.settled(Write("w", 1), WRITTEN)
        assert waker.woken == 1
    assert run.is_settled()
