"""Lanes in memory, with each interleaving of intake, answers and ends brought about by the test."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dbos_events.engine.run import Run
from dbos_events.engine.runvalues import LOST, PARKED, Ending, EventOrigin
from dbos_events.runtime.intake import lanes
from dbos_events.runtime.intake.lanes import CACHE, LaneGroup
from dbos_events.storage.subjects.lanes import LanePlace

WELL = Ending("ended")
FAILED = Ending("ended", error=ValueError("boom"))
KEY = "0/a"
OTHER = "0/b"


class Host:
    """A consumer: counts places in use and events that wait in memory."""

    def __init__(self) -> None:
        self.capacity = 100
        self.in_flight = 0
        self.cached = 0

    @property
    def free(self) -> int:
        return self.capacity - self.in_flight

    @property
    def cache_room(self) -> int:
        return self.capacity - self.cached

    def cache(self, count: int) -> None:
        self.cached += count

    def occupy(self, count: int) -> None:
        self.in_flight += count

    def left(self, _run: Run) -> None:
        self.in_flight -= 1


class Keeper:
    """The service: notes what it is told to run and to give back."""

    def __init__(self) -> None:
        self.session = 1
        self.executor = 1
        self.started: list[str] = []
        self.released: list[str] = []
        self.runs: dict[str, Run] = {}

    def run(self, runs: Sequence[Run]) -> None:
        self.started += [run.id for run in runs]

    def release(self, executor: int, workflow_ids: Sequence[str]) -> None:
        assert executor == 1
        self.released += workflow_ids

    def wake(self) -> None:
        pass


class Lanes:
    """A group, and the steps of an intake and of a question apart from each other."""

    def __init__(self, pinned: str | None = None) -> None:
        self.host = Host()
        self.keeper = Keeper()
        self.group = LaneGroup(self.keeper, LanePlace(1, 1, 0, 1), self.host, pinned)
        self.runs: dict[str, Run] = {}

    def make(self, *ids: str) -> list[Run]:
        core: Any = SimpleNamespace()
        function: Any = SimpleNamespace(name="handle")
        for id_ in ids:
            self.runs[id_] = Run(core, id_, function, (), {})
            self.runs[id_].origin = EventOrigin(1, quarantines=True, holds_lane=True)
        return [self.runs[id_] for id_ in ids]

    def admit(self, *ids: str, name: str = KEY, spilled: bool = False) -> None:
        self.group.admit([name], {name: self.make(*ids)}, {name} if spilled else set())

    def take_in(self, *ids: str, name: str = KEY) -> None:
        """An intake without anything in between."""
        kept, _ = self.group.plan({name: len(ids)})
        self.admit(*ids[: kept[name]], name=name, spilled=kept[name] < len(ids))

    def end(self, id_: str, ending: Ending = WELL) -> None:
        run = self.runs[id_]
        run.end(ending)
        assert run.host is not None
        run.host.left(run)

    def take(self, *ids: str, name: str = KEY, more: bool = False) -> bool:
        """The database's answer to a question that was asked before."""
        return self.group.take(name, self.make(*ids), more=more)

    def asked(self) -> list[str]:
        return self.group.questions(50)

    @property
    def started(self) -> list[str]:
        return self.keeper.started

    @property
    def released(self) -> list[str]:
        return self.keeper.released

    def assert_nothing_left(self) -> None:
        assert (self.host.in_flight, self.host.cached, self.group.size) == (0, 0, 0)
        assert not self.group.backlog


@pytest.fixture
def one() -> Lanes:
    return Lanes()


def test_a_lane_runs_one_event_after_the_other_and_is_forgotten(one: Lanes) -> None:
    one.take_in("1", "2")
    assert one.started == ["1"]
    one.end("1")
    assert one.started == ["1", "2"]
    one.end("2")
    one.assert_nothing_left()
    assert not one.group.knows(KEY)


def test_a_head_that_ends_well_during_an_intake_is_followed_by_what_was_taken_in(one: Lanes) -> None:
    one.take_in("1")
    assert one.group.plan({KEY: 1}) == ({KEY: 1}, set()), "the lane is known"
    one.end("1")
    one.admit("2")
    assert one.started == ["1", "2"]
    one.end("2")
    one.assert_nothing_left()


@pytest.mark.parametrize("ending", [FAILED, PARKED, LOST])
def test_what_was_taken_in_behind_a_head_that_stopped_meanwhile_goes_back(one: Lanes, ending: Ending) -> None:
    one.take_in("1")
    one.group.plan({KEY: 2})
    one.end("1", ending)
    one.admit("2", "3")
    assert one.started == ["1"]
    assert one.released == ["2", "3"]
    assert one.asked() == [KEY]
    one.group.blocked(KEY, watched=False)
    one.assert_nothing_left()


def test_what_went_back_is_asked_for_also_when_the_head_was_taken_again_meanwhile(one: Lanes) -> None:
    one.take_in("1")
    one.group.plan({KEY: 1})
    one.end("1", PARKED)
    assert one.asked() == [KEY]
    assert one.take("1"), "it woke up, and nothing stood behind it yet"
    one.admit("2")
    assert one.released == ["2"]
    one.end("1")
    assert one.asked() == [KEY], "the event behind it is in the database"


def test_the_cached_events_of_a_head_that_fails_go_back(one: Lanes) -> None:
    one.take_in("1", "2", "3")
    one.end("1", FAILED)
    assert one.released == ["2", "3"]
    assert one.asked() == [KEY]
    one.assert_nothing_left()


def test_a_recorded_failure_frees_the_lane(one: Lanes) -> None:
    one.take_in("1", "2")
    one.runs["1"].origin = EventOrigin(1, quarantines=False, holds_lane=True)
    one.end("1", FAILED)
    assert one.started == ["1", "2"]


def test_an_intake_that_fails_leaves_the_lane_as_it_was(one: Lanes) -> None:
    one.take_in("1")
    one.group.plan({KEY: 3, OTHER: 1})
    one.group.admit([KEY, OTHER], {}, set())
    one.end("1")
    one.assert_nothing_left()
    assert not one.group.knows(KEY)
    assert not one.group.knows(OTHER)


def test_after_an_intake_that_failed_a_head_that_stopped_is_asked_for(one: Lanes) -> None:
    one.take_in("1")
    one.group.plan({KEY: 1})
    one.end("1", PARKED)
    one.group.admit([KEY], {}, set())
    assert one.asked() == [KEY]


def test_lanes_that_close_during_an_intake_start_nothing_more(one: Lanes) -> None:
    one.take_in("1", "2")
    one.group.plan({KEY: 1, OTHER: 1})
    assert [run.id for run in one.group.close()] == ["2"]
    one.group.admit([KEY, OTHER], {KEY: one.make("3"), OTHER: one.make("4")}, set())
    assert one.started == ["1"]
    assert one.released == ["3", "4"]
    assert one.asked() == []
    one.end("1")
    assert one.started == ["1"]
    assert one.host.in_flight == 0


def test_more_than_may_wait_in_memory_stays_in_the_database(one: Lanes) -> None:
    one.take_in(*map(str, range(CACHE + 5)))
    assert one.host.cached == CACHE
    assert one.group.plan({KEY: 1}) == ({KEY: 0}, set()), "those behind what is not in memory are not, either"
    one.group.admit([KEY], {}, {KEY})
    for number in range(CACHE + 1):
        assert one.asked() == []
        one.end(str(number))
    assert one.asked() == [KEY]
    assert one.take(str(CACHE + 1), more=True)
    one.end(str(CACHE + 1))
    assert one.asked() == [KEY]
    one.group.settled(KEY)
    one.assert_nothing_left()


def test_slow_lanes_that_fill_the_memory_hold_up_no_other_lane(one: Lanes) -> None:
    one.host.capacity = 20
    one.take_in(*(f"a{number}" for number in range(15)))
    one.take_in(*(f"b{number}" for number in range(15)), name=OTHER)
    assert one.host.cache_room == 0
    one.take_in("c0", "c1", name="0/c")
    assert one.started == ["a0", "b0", "c0"]
    one.end("c0")
    assert one.asked() == ["0/c"]
    assert one.group.depth(1) == 1
    assert one.take("c1", name="0/c")
    assert one.started[-1] == "c1"


def test_no_more_lanes_are_asked_for_than_may_run(one: Lanes) -> None:
    one.host.capacity = 2
    one.group.activate([f"0/{number}" for number in range(5)])
    assert one.asked() == ["0/0", "0/1"], "those first that were first"
    assert one.take("0", name="0/0")
    assert one.take("1", name="0/1")
    assert one.asked() == []
    assert one.group.backlog == 3
    one.end("0")
    assert one.asked() == ["0/2"]


def test_lanes_that_wait_for_answers_in_crowds_stop_the_intake(
    one: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "ASKED_AT_MOST", 3)
    one.group.activate(["0/1", "0/2"])
    assert one.group.flowing
    one.group.activate(["0/3"])
    assert not one.group.flowing


def test_an_answer_that_comes_before_the_intake_ends_is_not_overtaken(one: Lanes) -> None:
    assert one.group.plan({KEY: 1}) == ({KEY: 1}, {KEY}), "nobody knows what stands in the lane"
    one.group.activate([KEY])
    assert one.asked() == [KEY]
    assert one.take("1"), "a former holder left it"
    one.group.admit([KEY], {}, {KEY})  # the intake found it, too
    one.end("1")
    assert one.asked() == [KEY]


def test_an_answer_that_saw_what_an_intake_has_just_inserted_changes_nothing(one: Lanes) -> None:
    one.group.plan({KEY: 1})
    one.group.activate([KEY])
    assert one.asked() == [KEY]
    assert one.group.knows(KEY), "so it is no orphan"
    one.group.blocked(KEY, watched=True)
    one.admit("1")
    assert one.released == ["1"]
    assert one.asked() == [KEY], "at once, not when somebody looks again"


def test_an_answer_of_nothing_leaves_alone_what_was_spilled_since(one: Lanes) -> None:
    one.group.activate([KEY])
    assert one.asked() == [KEY]
    one.group.plan({KEY: 1})
    one.group.admit([KEY], {}, {KEY})
    one.group.settled(KEY)
    assert one.asked() == [KEY]


def test_an_answer_to_a_lane_that_is_closed_is_refused(one: Lanes) -> None:
    one.group.activate([KEY])
    assert one.asked() == [KEY]
    one.group.close()
    assert not one.take("1")
    one.assert_nothing_left()


def test_a_lane_that_somebody_else_runs_is_looked_at_again(one: Lanes) -> None:
    one.group.activate([KEY])
    assert one.asked() == [KEY]
    one.group.blocked(KEY, watched=True)
    assert one.asked() == []
    one.group.look_again()
    assert one.asked() == [KEY]


def test_a_lane_that_is_put_aside_during_an_intake_is_remembered(one: Lanes) -> None:
    one.group.activate([KEY])
    assert one.asked() == [KEY]
    one.group.plan({KEY: 1})
    one.group.blocked(KEY, watched=False)
    one.group.admit([KEY], {}, {KEY})
    assert one.asked() == [KEY]


def test_a_process_that_is_another_executor_by_now_starts_nothing(one: Lanes) -> None:
    one.take_in("1", "2")
    one.group.activate([OTHER])
    one.keeper.session = 2
    one.end("1", LOST)
    assert one.started == ["1"]
    assert one.asked() == []
    one.group.close()
    assert (one.host.in_flight, one.host.cached) == (0, 0)


def test_a_pinned_lane_takes_nothing_in_while_it_cannot_go_on() -> None:
    one = Lanes("0")
    assert not one.group.flowing, "it is not known what stands in it"
    assert one.asked() == ["0"]
    one.group.settled("0")
    assert one.group.flowing
    one.take_in(*map(str, range(CACHE + 5)), name="0")
    assert one.group.flowing, "all of it is in memory"
    one.end("0", FAILED)
    assert not one.group.flowing
    assert len(one.released) == CACHE + 4
    assert one.asked() == ["0"]
    one.group.blocked("0", watched=False)
    one.group.look_again()
    assert one.asked() == ["0"], "it is never forgotten"
