"""Values that workflows publish under a key: set_event, get_event, get_all_events (protocol, rule 17)."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from dbos_events import DBOS, App, KafkaMessage, Retry, SetWorkflowID
from dbos_events.errors import DBOSException, SerializationError
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


@dataclass(frozen=True)
class Address:
    street: str
    lines: tuple[str, ...]


def names(app: App, workflow_id: str) -> list[str]:
    return [step.function_name for step in app.list_workflow_steps(workflow_id)]


def test_a_value_is_there_with_its_types_and_the_last_one_of_a_key_counts(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def publishes() -> None:
        app.set_event("address", Address("Elm", ("a", "b")))
        app.set_event("state", "packed")
        app.set_event("state", "sent")
        app.set_event("nothing", None)

    dbos_test_app(app)
    with SetWorkflowID("w"):
        publishes()
    assert app.get_event("w", "address") == Address("Elm", ("a", "b"))
    assert app.get_event("w", "state") == "sent"
    assert app.get_event("w", "nothing") is None
    everything = {"address": Address("Elm", ("a", "b")), "nothing": None, "state": "sent"}
    assert app.get_all_events("w") == everything
    assert app.get_all_events("unknown") == {}
    assert names(app, "w") == ["DBOS.setEvent"] * 4


def test_the_verbs_for_event_loops_do_the_same(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def publishes() -> None:
        await app.set_event_async("k", 1)

    @app.workflow()
    async def reads() -> list[Any]:
        return [await app.get_event_async("w", "k"), await app.get_all_events_async("w")]

    dbos_test_app(app)

    async def work() -> list[Any]:
        with SetWorkflowID("w"):
            await publishes()
        return [await reads(), await app.get_event_async("w", "k"), await app.get_all_events_async("w")]

    assert asyncio.run(work()) == [[1, {"k": 1}], 1, {"k": 1}]


def test_a_workflow_waits_for_a_value_as_a_row_and_gets_the_same_one_in_a_replay(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def publishes() -> None:
        app.sleep(100)
        app.set_event("k", "first")
        app.sleep(100)
        app.set_event("k", "second")

    @app.workflow()
    def reads() -> list[Any]:
        got = [app.get_event("p", "k", 1000)]
        app.sleep(1000)
        got.append(app.get_event("p", "k", 1000))
        return got

    dbos = dbos_test_app(app)
    with SetWorkflowID("p"):
        app.start_workflow(publishes)
    with SetWorkflowID("r"):
        handle = app.start_workflow(reads)
    dbos.run_until_idle()
    assert dbos.core.runner.active == {}
    dbos.crash()
    assert handle.get_result() == ["first", "second"]
    assert names(app, "r") == [
        "DBOS.getEvent", "DBOS.sleep",
        "DBOS.sleep",
        "DBOS.getEvent", "DBOS.sleep",
    ]  # fmt: skip


def test_a_wait_ends_in_time_and_a_crash_does_not_prolong_it(app: App, dbos_test_app: MakeTestApp) -> None:
    ended: list[int] = []

    @app.workflow()
    def publishes() -> None:
        app.sleep(10_000)
        app.set_event("k", 1)

    @app.workflow()
    def reads() -> Any:
        value = app.get_event("p", "k", 100)
        ended.append(dbos.clock.now_ms() - began)
        return value

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    with SetWorkflowID("p"):
        app.start_workflow(publishes)
    handle = app.start_workflow(reads)
    dbos.advance(seconds=60)
    dbos.crash()
    dbos.advance(seconds=39)
    assert ended == []
    dbos.advance(seconds=1)
    assert ended == [100_000]
    assert handle.get_result() is None


def test_a_wait_ends_at_once_when_the_workflow_ends_without_the_key(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def silent(fails: bool) -> None:
        app.sleep(10)
        if fails:
            raise ValueError("no")

    @app.workflow()
    def reads(workflow_id: str) -> Any:
        return app.get_event(workflow_id, "k", 1_000_000)

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    handles = []
    for name, fails in (("a", False), ("b", True)):
        with SetWorkflowID(name):
            app.start_workflow(silent, fails)
        handles.append(app.start_workflow(reads, name))
    with SetWorkflowID("c"):
        app.start_workflow(silent, False)
    handles.append(app.start_workflow(reads, "c"))
    dbos.run_until_idle()
    app.cancel_workflow("c")
    assert [handle.get_result() for handle in handles] == [None] * 3
    assert app.get_event("a", "k", 1_000_000) is None
    assert dbos.clock.now_ms() - began < 60_000


def test_a_workflow_that_does_not_exist_is_waited_for_until_the_time_is_over(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def publishes() -> None:
        app.set_event("k", 1)

    @app.workflow()
    def reads() -> list[Any]:
        return [app.get_event("later", "k", 1000), app.get_event("never", "k", 100)]

    dbos = dbos_test_app(app)
    handle = app.start_workflow(reads)
    dbos.advance(seconds=100)
    with SetWorkflowID("later"):
        app.start_workflow(publishes)
    assert handle.get_result() == [1, None]
    began = dbos.clock.now_ms()
    assert app.get_event("never", "k", 50) is None
    assert dbos.clock.now_ms() - began == 50_000


def test_a_wait_for_no_time_looks_once(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def publishes() -> Any:
        before = app.get_event("w", "k", 0)
        app.set_event("k", 1)
        return [before, app.get_event("w", "k", 0), app.get_event("w", "other", -5)]

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    with SetWorkflowID("w"):
        assert publishes() == [None, 1, None]
    assert dbos.clock.now_ms() == began


def test_a_step_publishes_at_once_and_leaves_one_row_for_a_key(app: App, dbos_test_app: MakeTestApp) -> None:
    seen: list[Any] = []

    @app.step()
    def works() -> None:
        for percent in range(0, 101, 10):
            app.set_event("progress", percent)
            seen.append(app.get_event("w", "progress", 0))

    @app.workflow()
    def publishes() -> None:
        works()

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        publishes()
    assert seen == list(range(0, 101, 10))
    assert names(app, "w") == [works.__qualname__]
    assert rows_of(dbos) == [("progress", "100")]


def rows_of(dbos: Any) -> list[tuple[str, str]]:
    """The rows of published values that count."""
    query = "SELECT key, value FROM published_values WHERE cut_in IS NULL ORDER BY take, number"
    rows = dbos.core.storage.database.transact(lambda tx: tx.connection.exec_driver_sql(query).all())
    return [tuple(row) for row in rows]


def test_a_step_in_a_thread_of_its_own_publishes_for_its_workflow(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    async def works() -> None:
        await asyncio.gather(*(asyncio.to_thread(app.set_event, f"k{n}", n) for n in range(20)))

    @app.workflow()
    async def publishes() -> None:
        await works()

    dbos_test_app(app)

    async def run() -> None:
        with SetWorkflowID("w"):
            await publishes()

    asyncio.run(run())
    assert app.get_all_events("w") == {f"k{n}": n for n in range(20)}


def test_a_crash_between_publishes_it_once(app: App, dbos_test_app: MakeTestApp) -> None:
    runs: list[str] = []

    @app.step()
    def crashes() -> None:
        runs.append("step")
        if len(runs) == 1:
            dbos.crash()

    @app.workflow()
    def publishes() -> None:
        app.set_event("k", "before")
        crashes()
        app.set_event("k", "after")

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(publishes)
    dbos.run_until_idle()
    assert len(runs) == 2
    assert [value for _, value in rows_of(dbos)] == ['"before"', '"after"']


def test_a_retry_keeps_what_was_set_before_the_failure_and_takes_back_what_the_failed_step_set(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    seen: list[Any] = []

    @app.step()
    def fails_once() -> None:
        assert DBOS.workflow_id is not None
        seen.append(app.get_event(DBOS.workflow_id, "state", 0))
        app.set_event("state", "in the step")
        if len(seen) == 1:
            raise ConnectionError("down")

    @app.kafka_consumer(None, "orders", retries=Retry(max_attempts=2, interval_seconds=60, jitter=False))
    def handle(message: KafkaMessage) -> None:
        app.set_event("state", "begun")
        fails_once()
        app.set_event("done", True)

    dbos = dbos_test_app(app)
    waiting = dbos.deliver(handle, b"x")
    dbos.run_until_idle()
    assert app.get_all_events(waiting.workflow_id) == {"state": "begun"}, "between the attempts"
    dbos.advance(seconds=120)
    assert seen == ["begun", "begun"]
    assert app.get_all_events(waiting.workflow_id) == {"done": True, "state": "in the step"}


class Shop:
    """A consumer that publishes before and after a step that fails until it is mended."""

    def __init__(self, app: App) -> None:
        self.broken = True

        @app.step()
        def charge() -> None:
            if self.broken:
                raise OSError("down")

        @app.step()
        def pick() -> str:
            return "picked"

        @app.kafka_consumer(None, "orders", name="shop")
        def on_order(msg: KafkaMessage[bytes]) -> None:
            app.set_event("state", "begun")
            app.set_event("state", pick())
            if self.broken:
                app.set_event("only before", 1)
            try:
                charge()
            finally:
                app.set_event("charged", not self.broken)

        self.handler = on_order


@pytest.mark.parametrize(
    ("order", "before"),
    [
        ({}, {"charged": False, "only before": 1, "state": "picked"}),
        ({"from_step": 3}, {"state": "begun"}),
        ({"from_step": 2}, {"state": "begun"}),
        ({"fresh": True}, {}),
    ],
    ids=["default", "from the second set", "from the step", "fresh"],
)
def test_what_a_redrive_does_without_is_not_visible_any_more(
    app: App, dbos_test_app: MakeTestApp, order: dict[str, Any], before: dict[str, Any]
) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    event = dbos.deliver(shop.handler, b"x").workflow_id
    dbos.run_until_idle()
    everything = {"charged": False, "only before": 1, "state": "picked"}
    assert app.get_all_events(event) == everything
    app.redrive_events([event], reason="mended", **order)
    assert app.get_all_events(event) == before
    assert app.get_event(event, "state", 0) == before.get("state")


@pytest.mark.parametrize("cut", ["from_step", "fresh"])
def test_a_redriven_workflow_publishes_anew(app: App, dbos_test_app: MakeTestApp, cut: str) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    event = dbos.deliver(shop.handler, b"x").workflow_id
    dbos.run_until_idle()
    shop.broken = False
    order: dict[str, Any] = {"from_step": 2} if cut == "from_step" else {"fresh": True}
    app.redrive_events([event], reason="mended", **order)
    dbos.run_until_idle()
    assert app.get_all_events(event) == {"charged": True, "state": "picked"}


def test_a_value_that_cannot_be_stored_fails_there_and_names_workflow_and_key(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def in_a_step() -> None:
        app.set_event("lock", threading.Lock())

    @app.workflow()
    def publishes() -> str:
        for call in (lambda: app.set_event("lock", threading.Lock()), in_a_step):
            with pytest.raises(SerializationError, match="'lock' of workflow w"):
                call()
        app.set_event("k", 1)
        return "went on"

    dbos_test_app(app)
    with SetWorkflowID("w"):
        assert publishes() == "went on"
    assert app.get_all_events("w") == {"k": 1}


def test_a_huge_value_is_published_and_read(app: App, dbos_test_app: MakeTestApp) -> None:
    huge = "x" * 20_000_000

    @app.workflow()
    def publishes() -> None:
        app.set_event("huge", huge)

    @app.workflow()
    def reads() -> int:
        return len(app.get_event("w", "huge"))

    dbos_test_app(app)
    with SetWorkflowID("w"):
        publishes()
    assert reads() == len(huge)


@pytest.mark.parametrize("key", ["", "ä" * 500, "a/b", "%", "a" * 1000, "\t"])
def test_a_key_may_be_any_text(app: App, dbos_test_app: MakeTestApp, key: str) -> None:
    @app.workflow()
    def reads() -> Any:
        return app.get_event("p", key, 100)

    @app.workflow()
    def publishes() -> None:
        app.sleep(50)
        app.set_event(key, key)

    dbos_test_app(app)
    with SetWorkflowID("p"):
        app.start_workflow(publishes)
    assert reads() == key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (3, "not text"),
        (None, "not text"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogate"),
        ("a" * 1001, "1,001 bytes"),
    ],
)
def test_a_key_that_no_database_takes_is_refused_before_anything_is_written(
    app: App, dbos_test_app: MakeTestApp, key: Any, says: str
) -> None:
    @app.workflow()
    def publishes() -> None:
        with pytest.raises(DBOSException, match=says):
            app.set_event(key, 1)
        with pytest.raises(DBOSException, match=says):
            app.get_event("w", key)

    dbos_test_app(app)
    with SetWorkflowID("w"):
        publishes()
    assert names(app, "w") == []


@pytest.mark.parametrize("seconds", [float("nan"), "5", True])
def test_a_time_to_wait_that_is_none_is_refused(app: App, dbos_test_app: MakeTestApp, seconds: Any) -> None:
    dbos_test_app(app)
    with pytest.raises(ValueError, match="timeout_seconds"):
        app.get_event("w", "k", seconds)


def test_an_endless_wait_ends_with_the_value(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def publishes() -> None:
        app.sleep(10_000_000)
        app.set_event("k", 1)

    @app.workflow()
    def reads(seconds: float | None) -> Any:
        return app.get_event("p", "k", seconds)

    dbos_test_app(app)
    with SetWorkflowID("p"):
        app.start_workflow(publishes)
    handles = [app.start_workflow(reads, seconds) for seconds in (None, float("inf"), 1e300)]
    assert [handle.get_result() for handle in handles] == [1, 1, 1]


def test_outside_of_workflows_nothing_can_be_published(app: App, dbos_test_app: MakeTestApp) -> None:
    with pytest.raises(DBOSException, match="must be called from within a workflow or a step"):
        app.set_event("k", 1)
    dbos_test_app(app)
    with pytest.raises(DBOSException, match="must be called from within a workflow or a step"):
        app.set_event("k", 1)


def test_a_cancelled_workflow_publishes_nothing_more(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    def is_cancelled() -> None:
        app.set_event("k", "before")
        app.cancel_workflow("w")
        app.set_event("k", "after")

    @app.workflow()
    def publishes() -> None:
        try:
            is_cancelled()
        finally:
            app.set_event("k", "in the finally")

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(publishes)
    dbos.run_until_idle()
    assert app.get_all_events("w") == {"k": "before"}


def test_a_wait_that_is_cut_short_by_a_timeout_of_the_loop_is_replayed_so(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    timed_out = threading.Event()

    @app.workflow()
    async def reads() -> list[Any]:
        got: list[Any] = []
        try:
            async with asyncio.timeout(0.05):
                await app.get_event_async("p", "k", 1000)
        except TimeoutError:
            got.append("timeout")
            timed_out.set()
        await app.sleep_async(1000)
        got.append(await app.get_event_async("p", "k", 1000))
        return got

    @app.workflow()
    def publishes() -> None:
        app.sleep(500)
        app.set_event("k", 1)

    dbos_test_app(app)
    with SetWorkflowID("p"):
        app.start_workflow(publishes)

    async def start() -> str:
        workflow_id = (await app.start_workflow_async(reads)).workflow_id
        assert await asyncio.to_thread(timed_out.wait, 20)  # the loop's own time, which no test moves
        return workflow_id

    handle = app.retrieve_workflow(asyncio.run(start()))
    assert handle.get_result() == ["timeout", 1]


def test_gathered_waits_are_answered_each_for_its_own_key(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def publishes(order: list[str]) -> None:
        for key in order:
            app.sleep(10)
            app.set_event(key, key.upper())

    @app.workflow()
    async def reads() -> list[Any]:
        return list(await asyncio.gather(*(app.get_event_async("p", key, 1000) for key in "abc")))

    dbos = dbos_test_app(app)
    with SetWorkflowID("p"):
        app.start_workflow(publishes, ["c", "a", "b"])

    async def start() -> str:
        return (await app.start_workflow_async(reads)).workflow_id

    workflow_id = asyncio.run(start())
    dbos.run_until_idle()
    dbos.crash()
    assert app.retrieve_workflow(workflow_id).get_result() == ["A", "B", "C"]
