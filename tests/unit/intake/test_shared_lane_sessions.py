"""A process that registered anew drops the lane of a topic, also where it got the number again that it had."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dbos_events.runtime.intake.shared import SharedLane


class _Lanes:
    def __init__(self) -> None:
        self.held: list[int] = []

    def hold(self, executor: int, _consumer: int, _incarnation: int, _lane: str) -> int:
        self.held.append(executor)
        return len(self.held)

    def count_open(self, *_where: object) -> int:
        return 0


@pytest.mark.parametrize("number", [7, 8], ids=["same-number", "another-number"])
def test_the_lane_is_held_anew_under_a_new_epoch(number: int) -> None:
    lanes = _Lanes()
    core: Any = SimpleNamespace(
        storage=SimpleNamespace(lanes=lanes), executor=7, registrations=1, signal=lambda _name: None
    )
    keeper: Any = SimpleNamespace(session=1, executor=7, wake=lambda: None, release=lambda *_: None)
    host: Any = SimpleNamespace(capacity=10, free=10, cache_room=10, cache=lambda _count: None)
    lane = SharedLane(core, keeper, 1, 1, host)
    lane.poll()
    first = lane.group
    lane.poll()
    assert lane.group is first
    core.registrations, core.executor = 2, number
    keeper.session, keeper.executor = 2, number
    lane.poll()
    assert lane.group is not None
    assert lane.group is not first
    assert lanes.held == [7, number]
    assert lane.group.place.epoch == 2
