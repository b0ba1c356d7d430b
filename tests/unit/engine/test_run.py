"""What a run says of the writes that it handed over, to those who look without a lock."""

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dbos_events.engine.core import Core
from dbos_events.engine.operations.common import _replayed
from dbos_events.engine.registry import Registered
from dbos_events.engine.replay import History
from dbos_events.engine.run import Run
from dbos_events.engine.runvalues import Place
from dbos_events.storage.writes import WRITTEN, Checkpoint, Refused, Result, Write


class Observed(Run):
    """Looks at itself whenever it judges an answer."""

    seen: list[bool]

    def _verdict_on(self, result: Result) -> BaseException | None:
        self.seen.append(self.is_settled())
        return super()._verdict_on(result)


class Overtaken(Observed):
    """A write of it is refused in the moment in which it was asked whether it may go on."""

    def enter(self) -> None:
        super().enter()
        self.settled(Write("w"), Refused(ValueError("too late")))


def a_run(kind: type[Observed] = Observed) -> Observed:
    core = cast("Core", SimpleNamespace())
    function = Registered("work", lambda: None, is_async=False)
    run = kind(core, "w", function, (), {})
    run.seen = []
    return run


def test_a_refused_write_counts_as_durable_only_after_its_verdict_is_known() -> None:
    run = a_run()
    run.handing()
    run.settled(Write("w"), Refused(ValueError("no such column")))
    assert run.seen == [False], "a call that begins now would take it for durable"
    with pytest.raises(ValueError, match="no such column"):
        run.is_settled()


def test_a_call_that_begins_while_a_write_is_refused_is_not_clear() -> None:
    run = a_run(Overtaken)
    run.core = cast("Core", SimpleNamespace(holds_lease=True))
    run.thread = threading.get_ident()
    run.handing()
    assert not run.is_clear()
    with pytest.raises(ValueError, match="too late"):
        run.is_clear()


def test_the_first_verdict_stays() -> None:
    run = a_run()
    for error in ("first", "second"):
        run.handing()
        run.settled(Write("w"), Refused(ValueError(error)))
    run.handing()
    run.settled(Write("w"), WRITTEN)
    with pytest.raises(ValueError, match="first"):
        run.is_settled()


def test_who_waits_is_woken_when_all_is_durable_and_not_before() -> None:
    run = a_run()
    woken: list[str] = []
    waker: Any = SimpleNamespace(wake=lambda: woken.append("woken"))
    run.handing()
    run.handing()
    assert run.wake_when_settled(waker)
    run.settled(Write("w"), WRITTEN)
    assert not woken
    run.settled(Write("w"), WRITTEN)
    assert woken == ["woken"]
    assert not run.wake_when_settled(waker), "all is durable already"


def test_a_call_that_does_not_fit_its_record_has_a_number_of_its_own_before_it_waits_for_its_turn() -> None:
    """Cancelled in that wait it is recorded, and beside the one that does not fit any more."""
    run = a_run()
    run.history = History([Checkpoint(1, "1", "before", 1, recorded_in=0)], {0: 0})
    place = Place("1", 1)
    next(_replayed(run, place, "now", None))
    assert place.number == 2
