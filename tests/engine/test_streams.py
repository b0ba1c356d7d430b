"""Streams that workflows and their steps write, and their readers (protocol, rule 18)."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from dbos_events import App, KafkaMessage, Retry, SetWorkflowID, StreamReset
from dbos_events.engine.outlet import MOST_ENTRIES
from dbos_events.engine.reader import StreamReader
from dbos_events.errors import (
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSStreamTimeoutError,
    SerializationError,
)
from dbos_events.testing.plugin import MakeTestApp

VALUES = ["text", 42, {"key": (1, 2)}, [1, {2}], None, b"bytes"]


@pytest.fixture
def app() -> App:
    return App()


def names(app: App, workflow_id: str) -> list[str]:
    return [step.function_name for step in app.list_workflow_steps(workflow_id)]


def test_a_stream_is_read_in_order_and_again_and_from_any_offset(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def writes() -> None:
        for value in VALUES:
            app.write_stream("s", value)
        app.close_stream("s")
        app.close_stream("empty")

    dbos_test_app(app)
    with SetWorkflowID("w"):
        writes()
    assert list(app.read_stream("w", "s")) == VALUES
    assert list(app.read_stream("w", "s")) == VALUES
    assert list(app.read_stream("w", "s", offset=4)) == VALUES[4:]
    assert list(app.read_stream("w", "s", offset=6)) == []
    assert list(app.read_stream("w", "s", offset=100)) == []
    assert list(app.read_stream("w", "empty")) == []
    assert list(app.read_stream("w", "never written")) == []
    assert list(app.read_stream("w", "s", offset=4, with_offset=True)) == [(4, None), (5, b"bytes")]
    assert app.read_stream_offset("w", "s", 2) == {"key": (1, 2)}
    assert names(app, "w") == ["DBOS.writeStream"] * 6 + ["DBOS.closeStream"] * 2


def test_the_verbs_for_event_loops_do_the_same(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def writes() -> None:
        for value in VALUES:
            await app.write_stream_async("s", value)
        await app.close_stream_async("s")

    @app.workflow()
    async def reads() -> list[Any]:
        got = [value async for value in app.read_stream_async("w", "s")]
        return [got, await app.read_stream_offset_async("w", "s", 1)]

    dbos_test_app(app)

    async def work() -> list[Any]:
        with SetWorkflowID("w"):
            await writes()
        outside = [value async for value in app.read_stream_async("w", "s")]
        return [await reads(), outside, await app.read_stream_offset_async("w", "s", 1)]

    assert asyncio.run(work()) == [[VALUES, 42], VALUES, 42]


@pytest.mark.parametrize("fails", [False, True])
def test_a_stream_that_nobody_closes_ends_with_its_workflow(
    app: App, dbos_test_app: MakeTestApp, fails: bool
) -> None:
    @app.workflow()
    def writes() -> None:
        app.write_stream("s", 1)
        app.sleep(1000)
        app.write_stream("s", 2)
        if fails:
            raise ValueError("no")

    @app.workflow()
    def reads() -> list[Any]:
        return list(app.read_stream("w", "s"))

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    handle = app.start_workflow(reads)
    dbos.run_until_idle()
    assert dbos.core.runner.active == {}, "the reader is a row, and so is the writer"
    assert list(app.read_stream("w", "s")) == [1, 2]
    assert handle.get_result() == [1, 2]


def test_a_cancelled_workflow_ends_its_streams(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def writes() -> None:
        app.write_stream("s", 1)
        app.sleep(1000)

    @app.workflow()
    def reads() -> list[Any]:
        return list(app.read_stream("w", "s"))

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    handle = app.start_workflow(reads)
    dbos.run_until_idle()
    app.cancel_workflow("w")
    assert handle.get_result() == [1]
    assert list(app.read_stream("w", "s")) == [1]


def test_a_reader_in_a_workflow_gets_the_same_in_a_replay_and_goes_on_behind_it(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    seen: list[Any] = []

    @app.workflow()
    def writes() -> None:
        for number in range(5):
            app.write_stream("s", number)
            app.sleep(100)
        app.close_stream("s")

    @app.workflow()
    def reads() -> list[Any]:
        got = []
        for value in app.read_stream("w", "s"):
            got.append(value)
            seen.append(value)
        return got

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    with SetWorkflowID("r"):
        handle = app.start_workflow(reads)
    dbos.advance(seconds=250)
    dbos.crash()
    assert handle.get_result() == [0, 1, 2, 3, 4]
    assert len(seen) > 5, "it was replayed"
    assert names(app, "r") == ["DBOS.readStream"] * 6
    outputs = [step.output for step in app.list_workflow_steps("r")]
    assert outputs == [0, 1, 2, 3, 4, None]


def test_a_crash_writes_no_entry_twice(app: App, dbos_test_app: MakeTestApp) -> None:
    tries: list[int] = []

    @app.step()
    def crashes() -> None:
        tries.append(1)
        if len(tries) == 1:
            dbos.crash()

    @app.workflow()
    def writes() -> None:
        app.write_stream("s", "a")
        app.write_stream("s", "b")
        crashes()
        app.write_stream("s", "c")
        app.close_stream("s")

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    dbos.run_until_idle()
    assert len(tries) == 2
    for mode in ("all", "live", "committed"):
        assert list(app.read_stream("w", "s", mode=mode)) == ["a", "b", "c"]


class Chunks:
    """A step that writes `chunks`, and fails in its first attempts."""

    def __init__(self, app: App, failures: int, *, crash: Any = None, **options: Any) -> None:
        self.tries = 0
        self.seen: list[Any] = []

        @app.step(**options)
        def chunks() -> int:
            self.tries += 1
            for letter in "ab":
                app.write_stream("s", f"{letter}{self.tries}")
            if self.tries <= failures:
                if crash is not None:
                    crash()
                raise ConnectionError("down")
            return self.tries

        self.step = chunks


def test_a_new_attempt_of_a_step_begins_with_a_reset_and_only_the_last_one_is_committed(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    chunks = Chunks(app, 2, retries_allowed=True, max_attempts=3, interval_seconds=0)

    @app.workflow()
    def writes() -> None:
        app.write_stream("s", "begin")
        chunks.step()
        app.write_stream("s", "end")

    dbos_test_app(app)
    with SetWorkflowID("w"):
        writes()
    assert list(app.read_stream("w", "s")) == ["begin", "a1", "b1", "a2", "b2", "a3", "b3", "end"]
    reset = StreamReset(step_id=2, offset=1)
    live = ["begin", "a1", "b1", reset, "a2", "b2", reset, "a3", "b3", "end"]
    assert list(app.read_stream("w", "s", mode="live")) == live
    assert list(app.read_stream("w", "s", mode="committed")) == ["begin", "a3", "b3", "end"]


def test_after_a_crash_the_step_begins_with_a_reset(app: App, dbos_test_app: MakeTestApp) -> None:
    def crash() -> None:
        assert app.read_stream_offset("w", "s", 2) == "b1", "it is durable"
        dbos.crash()

    chunks = Chunks(app, 1, crash=crash)

    @app.workflow()
    def writes() -> None:
        app.write_stream("s", "begin")
        chunks.step()
        app.write_stream("s", "end")

    @app.workflow()
    def reads(mode: Any) -> list[Any]:
        return list(app.read_stream("w", "s", mode=mode))

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    dbos.run_until_idle()
    expected = {
        "all": ["begin", "a1", "b1", "a2", "b2", "end"],
        "live": ["begin", "a1", "b1", StreamReset(2, 1), "a2", "b2", "end"],
        "committed": ["begin", "a2", "b2", "end"],
    }
    for mode, values in expected.items():
        assert list(app.read_stream("w", "s", mode=mode)) == values  # type: ignore[arg-type]
        assert reads(mode) == values


def test_a_step_that_fails_commits_nothing(app: App, dbos_test_app: MakeTestApp) -> None:
    chunks = Chunks(app, 9)

    @app.workflow()
    def writes() -> str:
        try:
            chunks.step()
        except ConnectionError:
            app.write_stream("s", "gave up")
        app.sleep(1000)
        return "done"

    @app.workflow()
    def reads() -> list[Any]:
        return list(app.read_stream("w", "s", mode="committed"))

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    handle = app.start_workflow(reads)
    dbos.run_until_idle()
    assert next(app.read_stream("w", "s", mode="committed")) == "gave up"
    assert handle.get_result() == ["gave up"]
    assert list(app.read_stream("w", "s")) == ["a1", "b1", "gave up"]


def test_a_committed_reader_waits_for_the_end_of_a_step_and_gets_its_entries_then(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    waited: list[bool] = []

    @app.step()
    def slow() -> None:
        app.write_stream("s", "chunk")
        assert app.read_stream_offset("w", "s", 0) == "chunk", "it is durable, and not committed"
        reader = StreamReader(dbos.core, "w", "s", 0, "committed")
        waited.append(reader.look() is None)

    @app.workflow()
    def writes() -> None:
        slow()
        app.sleep(100)

    @app.workflow()
    def reads() -> Any:
        return next(app.read_stream("w", "s", mode="committed"))

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    handle = app.start_workflow(reads)
    dbos.run_until_idle()
    assert waited == [True]
    assert handle.get_result() == "chunk"


def test_entries_of_a_step_that_is_cancelled_count_for_nothing(app: App, dbos_test_app: MakeTestApp) -> None:
    timed_out = threading.Event()

    @app.step()
    async def hangs() -> None:
        await app.write_stream_async("s", "in vain")
        await asyncio.sleep(3600)

    @app.workflow()
    async def writes() -> None:
        try:
            async with asyncio.timeout(0.05):
                await hangs()
        except TimeoutError:
            await app.write_stream_async("s", "timeout")
            timed_out.set()
        await app.sleep_async(100)

    dbos = dbos_test_app(app)

    async def run() -> Any:
        with SetWorkflowID("w"):
            await app.start_workflow_async(writes)
        assert await asyncio.to_thread(timed_out.wait, 20)

    asyncio.run(run())
    dbos.run_until_idle()
    assert next(app.read_stream("w", "s", mode="committed")) == "timeout"
    assert list(app.read_stream("w", "s")) == ["in vain", "timeout"]


def test_a_step_writes_from_threads_of_its_own(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    async def chunks() -> None:
        await asyncio.gather(*(asyncio.to_thread(app.write_stream, "s", number) for number in range(50)))

    @app.workflow()
    async def writes() -> None:
        await chunks()
        await app.close_stream_async("s")

    dbos_test_app(app)

    async def run() -> None:
        with SetWorkflowID("w"):
            await writes()

    asyncio.run(run())
    for mode in ("all", "committed"):
        assert sorted(app.read_stream("w", "s", mode=mode)) == list(range(50))


class Shop:
    """A consumer that writes a stream, with a step that fails until it is mended."""

    def __init__(self, app: App, **options: Any) -> None:
        self.broken = True
        self.tries = 0

        @app.step()
        def charge() -> None:
            self.tries += 1
            app.write_stream("s", f"charging {self.tries}")
            if self.broken and self.tries < 2:
                raise ConnectionError("down")

        @app.kafka_consumer(None, "orders", name="shop", **options)
        def on_order(msg: KafkaMessage[bytes]) -> None:
            app.write_stream("s", "begin")
            charge()
            app.write_stream("s", "end")
            app.close_stream("s")

        self.handler = on_order


def test_a_retry_of_an_event_commits_each_entry_once(app: App, dbos_test_app: MakeTestApp) -> None:
    shop = Shop(app, retries=Retry(max_attempts=2, interval_seconds=60))
    dbos = dbos_test_app(app)
    event = dbos.deliver(shop.handler, b"x").workflow_id
    reader = app.read_stream(event, "s", mode="committed")
    assert [next(reader), next(reader), next(reader)] == ["begin", "charging 2", "end"]
    assert list(reader) == []
    assert list(app.read_stream(event, "s")) == ["begin", "charging 1", "charging 2", "end"]
    live = list(app.read_stream(event, "s", mode="live"))
    assert live == ["begin", "charging 1", StreamReset(2, 1), "charging 2", "end"]


@pytest.mark.parametrize("cut", ["default", "from_step", "fresh"])
def test_what_a_redrive_does_without_is_not_committed_any_more(
    app: App, dbos_test_app: MakeTestApp, cut: str
) -> None:
    shop = Shop(app)
    dbos = dbos_test_app(app)
    event = dbos.deliver(shop.handler, b"x").workflow_id
    dbos.run_until_idle()
    order: dict[str, Any] = {"from_step": {"from_step": 2}, "fresh": {"fresh": True}}.get(cut, {})
    app.redrive_events([event], reason="mended", **order)
    dbos.run_until_idle()
    again = ["begin"] if cut == "fresh" else []
    assert list(app.read_stream(event, "s", mode="committed")) == ["begin", "charging 2", "end"]
    assert list(app.read_stream(event, "s")) == ["begin", "charging 1", *again, "charging 2", "end"]
    reset = StreamReset(1, 0) if cut == "fresh" else StreamReset(2, 1)
    live = ["begin", "charging 1", reset, *again, "charging 2", "end"]
    assert list(app.read_stream(event, "s", mode="live")) == live


def test_a_stream_that_was_closed_goes_on_where_a_redrive_does_without_the_closing(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    broken = [True]

    @app.step()
    def fails() -> None:
        if broken[0]:
            raise ConnectionError("down")

    @app.kafka_consumer(None, "orders", name="shop")
    def on_order(msg: KafkaMessage[bytes]) -> None:
        app.write_stream("s", 1)
        app.close_stream("s")
        fails()

    dbos = dbos_test_app(app)
    event = dbos.deliver(on_order, b"x").workflow_id
    dbos.run_until_idle()
    broken[0] = False
    app.redrive_events([event], reason="mended", fresh=True)
    dbos.run_until_idle()
    assert list(app.read_stream(event, "s")) == [1, 1]
    assert list(app.read_stream(event, "s", mode="committed")) == [1]


def test_a_time_out_of_a_reader_counts_for_each_value_and_is_replayed(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def writes() -> None:
        for gap in (50, 50, 500):
            app.sleep(gap)
            app.write_stream("s", gap)
        app.sleep(1000)

    @app.workflow()
    def reads() -> list[Any]:
        got: list[Any] = []
        try:
            got.extend(app.read_stream("w", "s", timeout_seconds=100))
        except DBOSStreamTimeoutError as error:
            got.append(error.timeout_seconds)
        app.sleep(1000)
        return got

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    with SetWorkflowID("r"):
        handle = app.start_workflow(reads)
    dbos.advance(seconds=150)
    dbos.crash()
    dbos.advance(seconds=51)
    assert names(app, "r")[2:] == ["DBOS.readStream", "DBOS.sleep"], "a crash did not prolong it"
    assert handle.get_result() in ([50, 100.0], [50, 50, 100.0])


def test_a_time_out_outside_of_workflows(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def writes() -> None:
        app.sleep(1000)
        app.write_stream("s", 1)

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    began = dbos.clock.now_ms()
    with pytest.raises(DBOSStreamTimeoutError, match="within 10 seconds"):
        list(app.read_stream("w", "s", timeout_seconds=10))
    assert dbos.clock.now_ms() - began == 10_000
    with pytest.raises(DBOSStreamTimeoutError, match="ended before"):
        app.read_stream_offset("w", "s", 1)


def test_a_stream_of_a_workflow_that_does_not_exist_is_an_error_that_is_replayed(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def later() -> None:
        app.write_stream("s", 1)

    @app.workflow()
    def reads() -> str:
        try:
            list(app.read_stream("later", "s"))
        except DBOSNonExistentWorkflowError:
            app.sleep(100)
            return "unknown"
        return "read"

    dbos = dbos_test_app(app)
    with pytest.raises(DBOSNonExistentWorkflowError):
        list(app.read_stream("later", "s"))
    handle = app.start_workflow(reads)
    dbos.run_until_idle()
    with SetWorkflowID("later"):
        later()
    dbos.crash()
    assert handle.get_result() == "unknown"


def test_a_reader_that_stops_early_leaves_nothing_behind(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def writes() -> None:
        for number in range(1000):
            app.write_stream("s", number)
        app.sleep(1000)

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)
    dbos.run_until_idle()
    reader = app.read_stream("w", "s")
    assert next(reader) == 0
    reader.close()

    async def read() -> None:
        values = app.read_stream_async("w", "s")
        assert await anext(values) == 0
        await values.aclose()
        async for _ in app.read_stream_async("w", "s"):
            break
        waiting = asyncio.ensure_future(anext(app.read_stream_async("w", "s", offset=1000)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gc.collect()
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(read())
    waiting = dbos.core.hub._waiting
    assert [name for name in waiting if name.startswith(("stream:", "workflow:"))] == []


def test_a_slow_reader_has_no_more_than_a_page_in_memory(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def writes() -> None:
        for number in range(3000):
            app.write_stream("s", number)

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        writes()
    asked: list[int] = []
    read = dbos.core.storage.streams.read

    def counted(*args: Any) -> Any:
        asked.append(args[3])
        return read(*args)

    dbos.core.storage.streams.read = counted  # type: ignore[method-assign]
    reader = app.read_stream("w", "s")
    assert [next(reader) for _ in range(10)] == list(range(10))
    assert sum(asked) <= 16
    assert list(reader) == list(range(10, 3000))
    assert max(asked) <= 256


def test_huge_entries_are_read_one_by_one(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def writes() -> None:
        for number in range(6):
            app.write_stream("s", str(number) * 3_000_000)

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        writes()
    sizes = [len(value) for value in app.read_stream("w", "s")]
    assert sizes == [3_000_000] * 6
    del dbos


def test_a_value_that_cannot_be_stored_fails_there_and_names_workflow_and_stream(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def writes() -> None:
        app.write_stream("s", 1)
        with pytest.raises(SerializationError, match="stream 's' of workflow w"):
            app.write_stream("s", threading.Lock())
        app.write_stream("s", 2)

    dbos_test_app(app)
    with SetWorkflowID("w"):
        writes()
    assert list(app.read_stream("w", "s")) == [1, 2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"offset": -1}, "offset"),
        ({"offset": True}, "offset"),
        ({"offset": 1.5}, "offset"),
        ({"offset": 2**63}, "offset"),
        ({"polling_interval_sec": 0}, "polling_interval_sec"),
        ({"polling_interval_sec": float("nan")}, "polling_interval_sec"),
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"mode": "some"}, "mode"),
    ],
)
def test_arguments_that_mean_nothing_are_refused_at_the_call(
    app: App, dbos_test_app: MakeTestApp, options: dict[str, Any], says: str
) -> None:
    dbos_test_app(app)
    with pytest.raises(ValueError, match=says):
        app.read_stream("w", "s", **options)
    with pytest.raises(ValueError, match=says):
        app.read_stream_async("w", "s", **options)


def test_outside_of_workflows_nothing_can_be_written(app: App, dbos_test_app: MakeTestApp) -> None:
    dbos_test_app(app)
    for call in (lambda: app.write_stream("s", 1), lambda: app.close_stream("s")):
        with pytest.raises(DBOSException, match="must be called from within a workflow"):
            call()


def test_streams_of_one_workflow_do_not_mix_whoever_writes_them(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def writes() -> None:
        async def branch(name: str) -> None:
            for number in range(20):
                await app.write_stream_async(name, number)
                await app.write_stream_async("all", (name, number))

        await asyncio.gather(*(branch(name) for name in "abc"))

    dbos_test_app(app)

    async def run() -> None:
        with SetWorkflowID("w"):
            await writes()

    asyncio.run(run())
    for name in "abc":
        assert list(app.read_stream("w", name)) == list(range(20))
    together = list(app.read_stream("w", "all"))
    for name in "abc":
        assert [number for one, number in together if one == name] == list(range(20))


def test_a_hundred_readers_get_all_of_it(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def writes() -> None:
        for number in range(30):
            app.write_stream("s", number)
            if number % 10 == 9:
                app.sleep(10)
        app.close_stream("s")

    @app.workflow()
    async def reads() -> list[Any]:
        return [value async for value in app.read_stream_async("w", "s")]

    dbos_test_app(app)

    async def run() -> list[str]:
        with SetWorkflowID("w"):
            await app.start_workflow_async(writes)
        return [(await app.start_workflow_async(reads)).workflow_id for _ in range(100)]

    for workflow_id in asyncio.run(run()):
        assert app.retrieve_workflow(workflow_id).get_result() == list(range(30))


def test_two_readers_in_one_workflow_each_go_their_way(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def writes() -> None:
        for number in range(6):
            app.write_stream("s", number)
            app.sleep(10)

    @app.workflow()
    async def reads() -> list[Any]:
        async def branch(offset: int) -> list[Any]:
            return [value async for value in app.read_stream_async("w", "s", offset=offset)]

        return list(await asyncio.gather(branch(0), branch(3)))

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        app.start_workflow(writes)

    async def start() -> str:
        return (await app.start_workflow_async(reads)).workflow_id

    workflow_id = asyncio.run(start())
    dbos.advance(seconds=25)
    dbos.crash()
    assert app.retrieve_workflow(workflow_id).get_result() == [[0, 1, 2, 3, 4, 5], [3, 4, 5]]


def test_a_step_reads_without_recording_anything(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def writes() -> None:
        app.write_stream("s", 1)
        app.set_event("k", "v")

    @app.step()
    def reads() -> list[Any]:
        return [*app.read_stream("w", "s"), app.get_event("w", "k")]

    @app.workflow()
    def runs() -> list[Any]:
        return reads()

    dbos_test_app(app)
    with SetWorkflowID("w"):
        writes()
    with SetWorkflowID("r"):
        assert runs() == [1, "v"]
    assert len(names(app, "r")) == 1


def test_a_writer_waits_for_room_and_loses_nothing(app: App, dbos_test_app: MakeTestApp) -> None:
    most: list[int] = []

    @app.step()
    def floods() -> None:
        for number in range(3000):
            app.write_stream("step", number)
            most.append(run_of(dbos, "w").under_way)

    @app.workflow()
    def writes() -> None:
        for number in range(3000):
            app.write_stream("s", number)
            most.append(run_of(dbos, "w").under_way)
        floods()

    @app.workflow()
    async def writes_async() -> None:
        for number in range(3000):
            await app.write_stream_async("s", number)
            most.append(run_of(dbos, "a").under_way)

    dbos = dbos_test_app(app)
    with SetWorkflowID("w"):
        writes()

    async def run() -> None:
        with SetWorkflowID("a"):
            await writes_async()

    asyncio.run(run())
    assert max(most) <= MOST_ENTRIES
    for workflow_id, stream in (("w", "s"), ("w", "step"), ("a", "s")):
        assert list(app.read_stream(workflow_id, stream)) == list(range(3000))


def run_of(dbos: Any, workflow_id: str) -> Any:
    return dbos.core.runner.active[workflow_id]
