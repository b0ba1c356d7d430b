"""Rule 20: a workflow has until its deadline, whatever it does and whoever runs it."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dbos_events import App, SetEnqueueOptions, SetWorkflowID, SetWorkflowTimeout
from dbos_events.errors import DBOSAwaitedWorkflowCancelledError, DBOSException, DBOSWorkflowCancelledError
from dbos_events.testing.plugin import MakeTestApp

PATIENCE = 10.0


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def calls() -> list[str]:
    return []


def noter(app: App, calls: list[str]) -> Callable[[str], None]:
    @app.step()
    def note(what: str) -> None:
        calls.append(what)

    return note


def sleeper(app: App, calls: list[str]) -> Callable[[float], str]:
    @app.workflow()
    def sleeps(seconds: float) -> str:
        app.sleep(seconds)
        calls.append("woken")
        return "slept"

    return sleeps


def ended(app: App, workflow_id: str) -> tuple[str, str | None]:
    status = app.get_workflow_status(workflow_id)
    assert status is not None
    return status.status, status.end_reason


# -- the deadline ---------------------------------------------------------------------------------


@pytest.mark.parametrize("park_after", [0.0, 3600.0], ids=["parked", "resident"])
def test_a_workflow_that_is_started_is_cancelled_at_its_deadline(
    app: App, calls: list[str], dbos_test_app: MakeTestApp, park_after: float
) -> None:
    sleeps = sleeper(app, calls)
    dbos = dbos_test_app(app, park_after_seconds=park_after)
    began = dbos.clock.now_ms()
    with SetWorkflowTimeout(10):
        handle = app.start_workflow(sleeps, 60)
    status = handle.get_status()
    assert status.workflow_timeout_ms == 10_000
    assert status.workflow_deadline_epoch_ms == began + 10_000
    dbos.advance(seconds=9)
    assert handle.get_status().status == "PENDING"
    dbos.advance(seconds=1)
    assert ended(app, handle.workflow_id) == ("CANCELLED", "timeout")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    dbos.advance(days=1)
    assert calls == []
    assert dbos.core.runner.active == {}


def test_a_direct_call_raises_at_its_deadline(app: App, calls: list[str], dbos_test_app: MakeTestApp) -> None:
    sleeps = sleeper(app, calls)

    @app.workflow()
    async def sleeps_async() -> None:
        await app.sleep_async(60)

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    with SetWorkflowTimeout(1), pytest.raises(DBOSAwaitedWorkflowCancelledError):
        sleeps(60)

    async def call() -> None:
        with SetWorkflowTimeout(1):
            await sleeps_async()

    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        asyncio.run(call())
    assert dbos.clock.now_ms() == began + 2_000


def test_what_ends_in_time_ends_as_it_would(app: App, calls: list[str], dbos_test_app: MakeTestApp) -> None:
    sleeps = sleeper(app, calls)
    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(10):
        handle = app.start_workflow(sleeps, 9)
    assert handle.get_result() == "slept"
    dbos.advance(days=1)
    assert ended(app, handle.workflow_id) == ("SUCCESS", None)


def test_all_workflows_in_the_block_are_bounded_and_none_after_it(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    sleeps = sleeper(app, calls)
    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(5):
        bounded = [app.start_workflow(sleeps, 60) for _ in range(2)]
        with SetWorkflowTimeout(20):
            longer = app.start_workflow(sleeps, 60)
        with SetWorkflowTimeout(None):
            free = app.start_workflow(sleeps, 60)
        bounded.append(app.start_workflow(sleeps, 60))
    outside = app.start_workflow(sleeps, 60)
    dbos.advance(seconds=6)
    assert {handle.get_status().status for handle in bounded} == {"CANCELLED"}
    assert longer.get_status().status == "PENDING"
    dbos.advance(seconds=15)
    assert longer.get_status().status == "CANCELLED"
    assert (free.get_result(), outside.get_result()) == ("slept", "slept")


def test_on_a_queue_it_counts_from_the_claim(app: App, calls: list[str], dbos_test_app: MakeTestApp) -> None:
    queue = app.queue("q", worker_concurrency=1)
    sleeps = sleeper(app, calls)
    dbos = dbos_test_app(app, park_after_seconds=3600.0)
    first = queue.enqueue(sleeps, 30)
    with SetWorkflowTimeout(10):
        second = queue.enqueue(sleeps, 60)
    assert second.get_status().workflow_deadline_epoch_ms is None
    dbos.advance(seconds=29)
    assert second.get_status().status == "ENQUEUED"
    assert first.get_result() == "slept"
    dbos.run_until_idle()
    assert second.get_status().workflow_deadline_epoch_ms == dbos.clock.now_ms() + 10_000
    dbos.advance(seconds=10)
    assert ended(app, second.workflow_id) == ("CANCELLED", "timeout")


def test_a_parked_workflow_of_a_queue_keeps_the_deadline_of_its_first_claim(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    queue = app.queue("q")
    note = noter(app, calls)

    @app.workflow()
    def sleeps() -> None:
        for _ in range(5):
            app.sleep(3)
            note("woken")

    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(10):
        handle = queue.enqueue(sleeps)
    dbos.run_until_idle()
    deadline = handle.get_status().workflow_deadline_epoch_ms
    dbos.advance(seconds=7)
    assert handle.get_status().workflow_deadline_epoch_ms == deadline
    dbos.advance(days=1)
    assert ended(app, handle.workflow_id) == ("CANCELLED", "timeout")
    assert calls == ["woken"] * 3


def test_a_crash_does_not_move_the_deadline(app: App, calls: list[str], dbos_test_app: MakeTestApp) -> None:
    note = noter(app, calls)

    @app.workflow()
    def sleeps() -> None:
        app.sleep(8)
        note("first")
        app.sleep(8)
        note("second")

    dbos = dbos_test_app(app, park_after_seconds=3600.0)
    with SetWorkflowTimeout(10):
        handle = app.start_workflow(sleeps)
    dbos.advance(seconds=5)
    dbos.crash()
    dbos.advance(seconds=4)
    assert calls == ["first"]
    dbos.crash()
    dbos.advance(seconds=1)
    assert ended(app, handle.workflow_id) == ("CANCELLED", "timeout")


def test_a_deadline_that_passes_while_no_process_lives_is_kept_by_the_next_one(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    sleeps = sleeper(app, calls)
    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(10):
        handle = app.start_workflow(sleeps, 8)
    with SetWorkflowTimeout(10):
        late = app.start_workflow(sleeps, 12)
    dbos.run_until_idle()
    dbos.clock.move_to(
        dbos.clock.now_ms() + 60_000
    )  # nobody has ticked: both the sleeps and the deadlines are over
    dbos.crash()
    dbos.run_until_idle()
    assert ended(app, handle.workflow_id) == ended(app, late.workflow_id) == ("CANCELLED", "timeout")
    assert calls == []


# -- children -------------------------------------------------------------------------------------


def test_a_child_has_the_earlier_deadline_unless_that_is_cut(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    sleeps = sleeper(app, calls)
    queue = app.queue("q")

    @app.workflow()
    def parent() -> None:
        with SetWorkflowID("inherits"):
            app.start_workflow(sleeps, 60)
        with SetWorkflowTimeout(5), SetWorkflowID("earlier"):
            app.start_workflow(sleeps, 60)
        with SetWorkflowTimeout(20), SetWorkflowID("later"):
            app.start_workflow(sleeps, 60)
        with SetWorkflowTimeout(None), SetWorkflowID("cut"):
            app.start_workflow(sleeps, 60)
        with SetWorkflowID("queued"):
            queue.enqueue(sleeps, 60)
        with SetWorkflowTimeout(20), SetWorkflowID("queued-later"):
            queue.enqueue(sleeps, 60)
        app.sleep(3600)

    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(10), SetWorkflowID("parent"):
        app.start_workflow(parent)
    dbos.run_until_idle()
    began = dbos.clock.now_ms()

    def left(workflow_id: str) -> int | None:
        status = app.get_workflow_status(workflow_id)
        assert status is not None
        deadline = status.workflow_deadline_epoch_ms
        return None if deadline is None else deadline - began

    names = ["parent", "inherits", "earlier", "later", "cut", "queued", "queued-later"]
    assert [left(name) for name in names] == [10_000, 10_000, 5_000, 10_000, None, 10_000, 10_000]
    dbos.advance(seconds=10)
    assert {ended(app, name) for name in names if name != "cut"} == {("CANCELLED", "timeout")}
    assert app.get_result("cut") == "slept"


def test_a_grandchild_has_the_deadline_too_and_after_a_replay_as_before(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    sleeps = sleeper(app, calls)

    @app.workflow()
    def middle() -> None:
        app.sleep(2)
        with SetWorkflowID("leaf"):
            app.start_workflow(sleeps, 60)
        app.sleep(60)

    @app.workflow()
    def top() -> None:
        with SetWorkflowID("middle"):
            middle()

    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(10), SetWorkflowID("top"):
        handle = app.start_workflow(top)
    deadline = handle.get_status().workflow_deadline_epoch_ms
    dbos.advance(seconds=3)
    leaf = app.get_workflow_status("leaf")
    assert leaf is not None
    assert leaf.workflow_deadline_epoch_ms == deadline
    dbos.advance(seconds=7)
    assert {ended(app, one) for one in ("top", "middle", "leaf")} == {("CANCELLED", "timeout")}


def test_a_parked_parent_is_woken_by_the_deadline_of_its_child_and_gets_the_error(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    sleeps = sleeper(app, calls)

    @app.workflow()
    def parent() -> str:
        with SetWorkflowTimeout(5), SetWorkflowID("child"):
            try:
                sleeps(60)
            except DBOSAwaitedWorkflowCancelledError as error:
                return error.workflow_id
        return "no error"

    dbos = dbos_test_app(app)
    handle = app.start_workflow(parent)
    dbos.advance(seconds=5)
    assert handle.get_status().status == "SUCCESS"
    assert handle.get_result() == "child"
    dbos.crash()
    assert handle.get_result() == "child"


# -- resume, retries ------------------------------------------------------------------------------


def test_a_resumed_workflow_gets_a_new_deadline(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    note = noter(app, calls)

    @app.workflow()
    def sleeps() -> None:
        app.sleep(8)
        note("first")
        app.sleep(8)
        note("second")

    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(10):
        handle = app.start_workflow(sleeps)
    dbos.advance(seconds=10)
    assert ended(app, handle.workflow_id) == ("CANCELLED", "timeout")
    app.resume_workflow(handle.workflow_id)
    dbos.run_until_idle()
    status = handle.get_status()
    assert (status.status, status.end_reason) == ("PENDING", None)
    assert status.workflow_deadline_epoch_ms == dbos.clock.now_ms() + 10_000
    dbos.advance(seconds=9)
    assert handle.get_status().status == "SUCCESS"
    assert calls == ["first", "second"]


# -- not claimed in time --------------------------------------------------------------------------


def test_what_is_not_claimed_in_time_ends_without_a_run(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    queue = app.queue("q", worker_concurrency=1)
    sleeps = sleeper(app, calls)
    dbos = dbos_test_app(app, park_after_seconds=3600.0)
    queue.enqueue(sleeps, 30)
    dbos.run_until_idle()
    with SetWorkflowTimeout(queue_timeout_seconds=10):
        late = queue.enqueue(sleeps, 1)
    with SetWorkflowTimeout(queue_timeout_seconds=60):
        in_time = queue.enqueue(sleeps, 90)
    dbos.advance(seconds=10)
    assert ended(app, late.workflow_id) == ("CANCELLED", "queue-timeout")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        late.get_result()
    assert in_time.get_result() == "slept"  # once claimed, that bound is over
    assert calls == ["woken", "woken"]


def test_a_workflow_that_waits_for_its_place_again_is_not_late(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    queue = app.queue("q")
    sleeps = sleeper(app, calls)
    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(queue_timeout_seconds=5):
        handle = queue.enqueue(sleeps, 60)
    dbos.run_until_idle()
    dbos.advance(seconds=61)
    assert handle.get_result() == "slept"


def test_what_is_enqueued_by_name_has_its_timeouts_among_the_options(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    sleeps = sleeper(app, calls)
    app.queue("q", worker_concurrency=1)
    name = sleeps.__dbos_name__  # type: ignore[attr-defined]
    dbos = dbos_test_app(app, park_after_seconds=3600.0)
    common = {"workflow_name": name, "queue_name": "q"}
    bounded = app.enqueue_workflow_with_options({**common, "workflow_timeout": 10}, 60)  # type: ignore[arg-type]
    dbos.run_until_idle()
    late = app.enqueue_workflow_with_options({**common, "queue_timeout_seconds": 5}, 1)  # type: ignore[arg-type]
    dbos.advance(seconds=10)
    assert ended(app, bounded.workflow_id) == ("CANCELLED", "timeout")
    assert ended(app, late.workflow_id) == ("CANCELLED", "queue-timeout")


def test_the_time_to_be_claimed_counts_from_the_end_of_a_delay(
    app: App, calls: list[str], dbos_test_app: MakeTestApp
) -> None:
    sleeps = sleeper(app, calls)
    queue = app.queue("q")
    dbos = dbos_test_app(app)
    with SetWorkflowTimeout(10, queue_timeout_seconds=5), SetEnqueueOptions(delay_seconds=60):
        handle = queue.enqueue(sleeps, 1)
    dbos.advance(seconds=59)
    assert handle.get_status().status == "DELAYED"
    assert handle.get_result() == "slept"


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "5", 1e12])
def test_a_timeout_that_is_not_a_time_is_refused(wrong: Any) -> None:
    with pytest.raises(DBOSException, match="timeout"):
        SetWorkflowTimeout(wrong)
    with pytest.raises(DBOSException, match="queue_timeout_seconds"):
        SetWorkflowTimeout(1, queue_timeout_seconds=wrong)


def test_a_block_in_use_is_not_entered_again() -> None:
    block = SetWorkflowTimeout(1)
    with block, pytest.raises(DBOSException, match="in use"), block:
        pass
    with block:
        pass


# -- on a real clock ------------------------------------------------------------------------------


def test_a_deadline_is_kept_to_the_moment_and_stops_what_waits(app: App, database_url: str) -> None:
    seen = threading.Event()

    @app.workflow()
    def waits() -> None:
        try:
            app.sleep(60)
        except DBOSWorkflowCancelledError:
            seen.set()
            raise

    app.configure({"name": "timeouts", "system_database_url": database_url, "park_after_seconds": 3600.0})
    with app:
        with SetWorkflowTimeout(0.2), pytest.raises(DBOSAwaitedWorkflowCancelledError):
            waits()
        assert seen.wait(PATIENCE)
        (status,) = app.list_workflows()
        assert status.completed_at is not None
        assert status.workflow_deadline_epoch_ms is not None
        assert status.completed_at >= status.workflow_deadline_epoch_ms
