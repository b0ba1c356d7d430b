"""Debounced calls: one run after a quiet time, with the last, the first or all of the calls."""

import asyncio
import random
from typing import Any

import pytest

from dbos_events import App, Debouncer, SetEnqueueOptions, SetWorkflowAttributes
from dbos_events.error import DBOSException
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp


class Office:
    """An App with a workflow that notes what it was called with."""

    def __init__(self, make: MakeTestApp) -> None:
        self.app = app = App()
        self.ran: list[Any] = []
        self.queue = app.queue("q")

        @app.workflow(name="note")
        def note(what: Any, *, more: Any = None) -> Any:
            self.ran.append(what if more is None else (what, more))
            return what

        @app.workflow(name="caller")
        def caller(key: str, what: Any) -> str:
            handle = self.debouncer.debounce(key, 10, what)
            app.sleep(60)
            return handle.workflow_id

        self.note, self.caller = note, caller
        self.debouncer = Debouncer.create(note)
        self.dbos: TestApp = make(app)


@pytest.fixture
def office(dbos_test_app: MakeTestApp) -> Office:
    return Office(dbos_test_app)


def test_the_last_call_counts_once_it_is_quiet(office: Office) -> None:
    handles = []
    for number in range(4):
        handles.append(office.debouncer.debounce("k", 10, number))
        office.dbos.advance(seconds=9)
    assert office.ran == []
    office.dbos.advance(seconds=1)
    assert office.ran == [3]
    assert [handle.get_result() for handle in handles] == [3, 3, 3, 3]
    assert len({handle.workflow_id for handle in handles}) == 1


def test_keys_have_nothing_to_do_with_each_other(office: Office) -> None:
    first, second = office.debouncer.debounce("a", 10, 1), office.debouncer.debounce("b", 20, 2)
    office.dbos.advance(seconds=10)
    assert office.ran == [1]
    assert (first.get_result(), second.get_result()) == (1, 2)


@pytest.mark.parametrize(("keep", "ran"), [("last", 4), ("first", 0), ("all", [0, 1, 2, 3, 4])])
def test_what_is_kept_of_the_calls(office: Office, keep: Any, ran: Any) -> None:
    debouncer = Debouncer.create(office.note, keep=keep)
    handles = [debouncer.debounce("k", 10, number) for number in range(5)]
    assert handles[0].get_result() == ran
    assert office.ran == [ran]


def test_the_limit_is_that_of_the_first_call(office: Office) -> None:
    short = Debouncer.create(office.note, debounce_timeout_sec=25)
    endless = Debouncer.create(office.note)
    short.debounce("k", 10, 0)
    for number in range(1, 4):
        office.dbos.advance(seconds=8)
        endless.debounce("k", 10, number)
    office.dbos.advance(seconds=0.9)
    assert office.ran == []
    office.dbos.advance(seconds=0.1)
    assert office.ran == [3]


def test_a_limit_below_the_period_counts(office: Office) -> None:
    Debouncer.create(office.note, debounce_timeout_sec=2).debounce("k", 10, "x")
    office.dbos.advance(seconds=2)
    assert office.ran == ["x"]


def test_who_comes_after_the_close_opens_the_next_window(office: Office) -> None:
    first = office.debouncer.debounce("k", 10, 1)
    office.dbos.clock.move_to(
        office.dbos.clock.now_ms() + 10_000
    )  # its time has come, and nobody has looked yet
    second = office.debouncer.debounce("k", 10, 2)
    assert first.workflow_id != second.workflow_id
    assert (first.get_result(), second.get_result()) == (1, 2)
    assert office.ran == [1, 2]


def test_a_run_that_was_cancelled_takes_no_more_calls(office: Office) -> None:
    first = office.debouncer.debounce("k", 10, 1)
    office.app.cancel_workflow(first.workflow_id)
    second = office.debouncer.debounce("k", 10, 2)
    assert second.get_result() == 2
    assert office.ran == [2]


@pytest.mark.parametrize("keep", ["last", "all"])
def test_a_thousand_calls_around_the_edge_are_each_in_exactly_one_run(office: Office, keep: Any) -> None:
    chance = random.Random(7)
    debouncer = Debouncer.create(office.note, debounce_timeout_sec=0.05, keep=keep)
    calls: dict[str, list[int]] = {}
    for number in range(1000):
        handle = debouncer.debounce("k", 0.005, number)
        calls.setdefault(handle.workflow_id, []).append(number)
        office.dbos.clock.move_to(office.dbos.clock.now_ms() + chance.choice([0, 1, 4, 5, 6]))
        if chance.random() < 0.3:
            office.dbos.run_until_idle()
    office.dbos.advance(seconds=1)
    assert len(calls) > 50
    expected = [members if keep == "all" else members[-1] for members in calls.values()]
    assert office.ran == expected
    assert {status.status for status in office.app.list_workflows()} == {"SUCCESS"}


def test_a_call_of_a_workflow_is_recorded_in_one_write_and_replayed(office: Office) -> None:
    handle = office.app.start_workflow(office.caller, "k", "x")
    office.dbos.run_until_idle()
    [step] = office.app.list_workflow_steps(handle.workflow_id)[:1]
    assert step.function_name == "DBOS.debounce_delayed_workflow"
    outside = office.debouncer.debounce("k", 10, "y")
    assert step.child_workflow_id == outside.workflow_id
    assert handle.get_result() == outside.workflow_id
    assert office.ran == ["y"]


def test_two_workflows_call_the_same_run(office: Office) -> None:
    first = office.app.start_workflow(office.caller, "k", "x")
    office.dbos.run_until_idle()
    second = office.app.start_workflow(office.caller, "k", "y")
    assert first.get_result() == second.get_result()
    assert office.ran == ["y"]


def test_a_run_on_a_queue_keeps_to_it(office: Office) -> None:
    debouncer = Debouncer.create(office.note, queue=office.queue)
    with SetWorkflowAttributes({"tenant": 7}):
        handle = debouncer.debounce("k", 10, "x", more=1)
    status = handle.get_status()
    assert (status.queue_name, status.status, status.attributes) == ("q", "DELAYED", {"tenant": 7})
    handle.get_result()
    assert office.ran == [("x", 1)]


def test_an_async_workflow_is_debounced(office: Office) -> None:
    @office.app.workflow(name="anote")
    async def anote(what: int) -> int:
        office.ran.append(what)
        return what

    debouncer = Debouncer.create_async(anote)

    async def program() -> list[Any]:
        handles = [await debouncer.debounce_async("k", 1, number) for number in range(3)]
        with pytest.raises(RuntimeError, match="debounce_async"):
            debouncer.debounce("k", 1, 9)
        return [await handle.get_result() for handle in handles]

    assert asyncio.run(program()) == [2, 2, 2]
    assert office.ran == [2]


@pytest.mark.parametrize(
    ("key", "period"),
    [("", 1), (None, 1), ("k", -1), ("k", float("nan")), ("k", "1"), ("k", 1e20), ("a\0", 1)],
)
def test_a_call_that_cannot_be_debounced_is_refused(office: Office, key: Any, period: Any) -> None:
    with pytest.raises(DBOSException):
        office.debouncer.debounce(key, period, 1)
    assert office.app.list_workflows() == []


def test_a_debouncer_that_cannot_work_is_refused(office: Office) -> None:
    for arguments in ({"keep": "some"}, {"debounce_timeout_sec": -1}, {"queue": " "}):
        with pytest.raises(DBOSException):
            Debouncer.create(office.note, **arguments)  # type: ignore[arg-type]
    with pytest.raises(DBOSException, match="not a workflow"):
        Debouncer.create(lambda: None)
    with SetEnqueueOptions(priority=1), pytest.raises(DBOSException, match="priority"):
        office.debouncer.debounce("k", 1, 1)
    with pytest.raises(DBOSException, match="one argument"):
        Debouncer.create(office.note, keep="all").debounce("k", 1, 1, more=2)


def test_a_call_within_a_step_is_refused(office: Office) -> None:
    @office.app.step()
    def step() -> None:
        office.debouncer.debounce("k", 1, 1)

    @office.app.workflow()
    def work() -> None:
        step()

    with pytest.raises(DBOSException, match="step"):
        work()
