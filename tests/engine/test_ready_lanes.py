"""Lanes in which an event became ready are asked for in turn, however many there are (docs/protocol.md, rule 10)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dbos_events.clock import SystemClock
from dbos_events.runtime.intake import keeper
from dbos_events.runtime.intake.keeper import LaneService
from dbos_events.storage.subjects.lanes import LanePlace

PAGE = 3


class _Lanes:
    """So many lanes are ready that one page never shows them all; nothing takes the first ones away."""

    def __init__(self, lanes: int) -> None:
        self.names = [f"0/{number:02}" for number in range(lanes)]

    def ready(
        self, executor: int, consumer: int, count: int, after: tuple[int, str] = (0, "")
    ) -> list[tuple[int, int, str]]:
        assert (executor, consumer) == (7, 1)
        return [(5, 0, lane) for lane in self.names if (5, lane) > after][:count]


@pytest.mark.parametrize("lanes", [0, 1, PAGE, PAGE + 1, 2 * PAGE, 10])
def test_what_is_ready_all_the_time_in_the_first_lanes_keeps_no_other_lane_waiting(
    monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    monkeypatch.setattr(keeper, "READY_AT_ONCE", PAGE)
    ready = _Lanes(lanes)
    core: Any = SimpleNamespace(
        storage=SimpleNamespace(lanes=ready), executor=7, registrations=1, clock=SystemClock()
    )
    service = LaneService(core, taken=SimpleNamespace())  # type: ignore[arg-type]
    host: Any = SimpleNamespace(free=100, cache_room=100)
    group = service.open(LanePlace(1, 5, 0, 1), host, by_key=True)
    asked: set[str] = set()
    for _ in range(lanes // PAGE + 1):
        service._poll()
        asked.update(group.questions(100))
    assert set(ready.names) <= asked
