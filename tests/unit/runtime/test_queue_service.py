"""The queue service: what it does first, and when a run that leaves makes it look again."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dbos_events.engine.core import Core
from dbos_events.engine.registry import Registry
from dbos_events.engine.run import Run
from dbos_events.engine.waking import Hub
from dbos_events.model.queue import QueueLimits, QueueState
from dbos_events.runtime.queues import QueueService
from dbos_events.runtime.taken import Taken
from dbos_events.runtime.weights import Weights
from dbos_events.storage.subjects.queues import Claim
from dbos_events.storage.subjects.taking import TakenWorkflow, Taker
from dbos_events.testing import ManualClock


class Rows:
    """A database in which some workflows wait on one queue."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.asked: list[str] = []

    def claim(self, _taker: Taker, queue: QueueState, count: int, **_: Any) -> Claim:
        self.asked.append(queue.name)
        found = min(self.waiting, count) if queue.name else 0
        self.waiting -= found
        rows = [SimpleNamespace(id=str(number), queue_partition_key=None) for number in range(found)]
        return Claim(cast("list[TakenWorkflow]", rows))


def service(rows: Rows, limits: QueueLimits, *, max_in_flight: int = 10) -> QueueService:
    registry = Registry(queues={"q": limits})
    clock = ManualClock()
    core = SimpleNamespace(
        storage=SimpleNamespace(queues=rows), registry=registry, executor=1, application="a", version="v",
        waits_for_version=False, hub=Hub(), clock=clock,
    )  # fmt: skip
    rows.read = lambda _: [QueueState("a", "q", limits, 1)]  # type: ignore[attr-defined]
    taken = SimpleNamespace(
        start=lambda *_, **__: [], start_lost=lambda _: [], taking=nullcontext, weights=Weights()
    )
    return QueueService(cast("Core", core), cast("Taken", taken), max_in_flight)


RUN = cast("Run", SimpleNamespace(queue="q", partition=None, id="0"))


def test_queues_come_before_what_was_resumed() -> None:
    rows = Rows(waiting=1)
    service(rows, QueueLimits()).tick()
    assert rows.asked == ["q", ""]


def test_a_run_that_leaves_an_empty_queue_makes_nobody_look_again() -> None:
    queues = service(Rows(waiting=1), QueueLimits())
    queues.tick()
    queues.left(RUN)
    assert not queues._wake.is_set()


@pytest.mark.parametrize(
    ("limits", "max_in_flight"),
    [(QueueLimits(), 1), (QueueLimits(worker_concurrency=1), 10), (QueueLimits(concurrency=1), 10)],
    ids=["process", "worker", "shared"],
)
def test_a_run_that_leaves_makes_room_for_one_that_may_wait(limits: QueueLimits, max_in_flight: int) -> None:
    queues = service(Rows(waiting=2), limits, max_in_flight=max_in_flight)
    queues.tick()
    queues.left(RUN)
    assert queues._wake.is_set()


def test_room_that_is_used_up_between_two_looks_is_remembered() -> None:
    rows = Rows(waiting=1)
    queues = service(rows, QueueLimits(), max_in_flight=1)
    queues.tick()  # takes the only place
    queues.tick()  # has no place, so it cannot know what waits
    queues.left(RUN)
    assert queues._wake.is_set()
