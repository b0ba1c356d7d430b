"""Whatever code of a user raises ends its own run, and no thread, loop or other run."""

import asyncio
import concurrent.futures
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.engine.runvalues import Unwind
from dbos_events.errors import (
    DBOSException,
    DBOSMaxStepRetriesExceeded,
    DBOSWorkflowCancelledError,
    DBOSWorkflowConflictIDError,
)
from dbos_events.runtime import looplook
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp

PATIENCE = 20.0


class Stop(BaseException):
    """No Exception."""


class Mute(Exception):
    """Says nothing of itself."""

    def __str__(self) -> str:
        raise Stop("not even this")

    __repr__ = __str__


class MuteStop(Stop):
    __str__ = Mute.__str__
    __repr__ = Mute.__str__


RAISED: dict[str, Callable[[], BaseException]] = {
    "no Exception": lambda: Stop("by a user"),
    "interrupt": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "exit with an object": lambda: SystemExit(Mute()),
    "generator exit": GeneratorExit,
    "cancelled": lambda: asyncio.CancelledError("by hand"),
    "cancelled future": concurrent.futures.CancelledError,
    "stop iteration": lambda: StopIteration(7),
    "stop async iteration": StopAsyncIteration,
    "recursion": RecursionError,
    "memory": MemoryError,
    "mute": Mute,
    "mute and no Exception": MuteStop,
    "group": lambda: BaseExceptionGroup("several", [Stop("one"), ValueError("two")]),
    "unwinds by hand": Unwind,
    "conflict by hand": lambda: DBOSWorkflowConflictIDError("another"),
    "cancellation by hand": lambda: DBOSWorkflowCancelledError("by hand"),
}


def error_of(kind: str) -> BaseException:
    return RAISED[kind]()


PLACES = ["handler", "step", "retried step", "should_retry", "task"]


def built(raised: Callable[[], BaseException]) -> App:  # noqa: C901 - a handler of each colour, and all places
    """An App with handlers of both colours that raise where the event says."""
    app = App({"name": "shop"})

    def asked(_error: BaseException) -> bool:
        raise raised()

    @app.step()
    def step(place: str) -> None:
        if place == "step":
            raise raised()

    @app.step(retries_allowed=True, max_attempts=2, interval_seconds=0.0)
    def retried(place: str) -> None:
        if place == "retried step":
            raise raised()

    @app.step(retries_allowed=True, max_attempts=2, interval_seconds=0.0, should_retry=asked)
    def asks(place: str) -> None:
        if place == "should_retry":
            raise ValueError("to be asked about")

    @app.step()
    async def step_async(place: str) -> None:
        if place in ("step", "retried step", "should_retry"):
            raise raised()

    async def task(place: str) -> None:
        await asyncio.sleep(0)
        if place == "task":
            raise raised()

    @app.kafka_consumer(topics=["sync"], name="sync")
    def plain(place: bytes) -> None:
        step(place.decode())
        retried(place.decode())
        asks(place.decode())
        if place in (b"handler", b"task"):
            raise raised()

    @app.kafka_consumer(topics=["async"], name="async")
    async def suspending(place: bytes) -> None:
        await step_async(place.decode())
        await asyncio.gather(task(place.decode()), task(""))
        if place == b"handler":
            raise raised()

    app.handlers = (plain, suspending)  # type: ignore[attr-defined]
    return app


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_a_handler_or_a_step_raises_its_event_is_put_aside_and_others_run(
    kind: str, dbos_test_app: MakeTestApp
) -> None:
    app = built(RAISED[kind])
    dbos = dbos_test_app(app)
    failed = {
        (name, place): dbos.deliver(handler, place)
        for name, handler in zip(("sync", "async"), app.handlers, strict=True)  # type: ignore[attr-defined]
        for place in PLACES
    }
    dbos.run_until_idle()
    assert {key: handle.get_status().status for key, handle in failed.items()} == dict.fromkeys(
        failed, "ERROR"
    )
    assert {one.workflow_id for one in app.list_quarantined()} == {one.workflow_id for one in failed.values()}
    sound = [dbos.deliver(handler, "sound") for handler in app.handlers]  # type: ignore[attr-defined]
    dbos.run_until_idle()
    assert [handle.get_status().status for handle in sound] == ["SUCCESS", "SUCCESS"]
    assert not dbos.core.runner.active
    for handle in failed.values():
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, `except Exception` sees it
            handle.get_result()


@pytest.mark.parametrize("kind", ["no Exception", "interrupt", "exit", "mute and no Exception", "memory"])
@pytest.mark.parametrize("place", ["when", "ordering_key", "codec", "serializer"])
def test_whatever_filters_keys_and_codecs_raise_the_next_event_runs(  # noqa: C901 - one place each
    kind: str, place: str, dbos_test_app: MakeTestApp
) -> None:
    ran: list[bytes | None] = []

    def fails_at(here: str, message: KafkaMessage[Any]) -> None:
        if place == here and message.value == b"bad":
            raise error_of(kind)

    def when(message: KafkaMessage) -> bool:
        fails_at("when", message)
        return True

    def ordering_key(message: KafkaMessage) -> bytes:
        fails_at("ordering_key", message)
        return b"k"

    class Codec:
        def decode(self, message: KafkaMessage[bytes]) -> bytes:
            fails_at("codec", message)
            return message.value

    class Serializer:
        def name(self) -> str:
            return "own"

        def serialize(self, data: Any) -> str:
            if place == "serializer" and data == "bad":
                raise error_of(kind)
            return json.dumps(data)

        def deserialize(self, serialized_data: str) -> Any:
            return json.loads(serialized_data)

    app = App({"name": "shop", "serializer": Serializer()})

    @app.step()
    def step(value: str) -> str:
        return value

    @app.kafka_consumer(
        topics=["t"], when=when, ordering="key", ordering_key=ordering_key, codec=Codec(), on_failure="record"
    )
    def handle(message: KafkaMessage[Any]) -> str:
        ran.append(message.value)
        return step(message.value.decode())

    dbos = dbos_test_app(app, check_values=False)
    results: list[Any] = []

    def in_a_thread_of_the_engine() -> None:
        results.extend(dbos.deliver(handle, value) for value in ("bad", "good"))
        dbos.run_until_idle()

    thread = threading.Thread(target=in_a_thread_of_the_engine)
    thread.start()
    thread.join(PATIENCE)
    bad, good = results
    assert good.get_status().status == "SUCCESS"
    assert bad.get_status().status == ("SUCCESS" if place == "ordering_key" else "ERROR")
    assert b"good" in ran


def test_the_last_error_of_a_step_may_have_no_text(dbos_test_app: MakeTestApp) -> None:
    app = App()

    @app.step(retries_allowed=True, max_attempts=2, interval_seconds=0.0)
    def step() -> None:
        raise Mute

    @app.workflow()
    def calls() -> None:
        step()

    dbos_test_app(app)
    with pytest.raises(DBOSMaxStepRetriesExceeded, match="2 attempts"):
        app.start_workflow(calls).get_result()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_the_main_thread_stays_what_it_is_and_the_workflow_goes_on_later(
    kind: type[BaseException], database_url: str
) -> None:
    """Who is called directly runs on its caller's thread: Ctrl-C there is meant for the process."""
    app = App({"name": "shop", "system_database_url": database_url})
    calls: list[int] = []

    @app.workflow()
    def works() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise kind
        return "done"

    with app:
        with pytest.raises(kind):
            works()
        assert not app.core.runner.active
        (left,) = app.list_workflows()
        app.launched.watch.doubt()
        assert app.retrieve_workflow(left.workflow_id).get_result() == "done"


@pytest.fixture
def launched(database_url: str) -> Iterator[App]:
    app = App({"name": "shop", "system_database_url": database_url, "max_executor_threads": 2})

    @app.workflow(name="echo")
    async def echo(value: str) -> str:
        await asyncio.sleep(0)
        return value

    @app.workflow(name="plain")
    def plain(value: str) -> str:
        return value

    @app.workflow(name="tasks")
    async def tasks(kind: str) -> None:
        async def raises() -> None:
            raise error_of(kind)

        await asyncio.gather(asyncio.create_task(raises()), asyncio.sleep(0))

    with app:
        yield app


def start(app: App, name: str, *args: Any) -> Any:
    return app.start_workflow(app.registry.workflows[name].wrapper, *args)


@pytest.mark.parametrize("kind", ["interrupt", "exit", "generator exit", "no Exception"])
def test_the_loop_lives_whatever_a_task_or_a_callback_on_it_raises(launched: App, kind: str) -> None:
    def callback() -> None:
        raise error_of(kind)

    failed = start(launched, "tasks", kind)
    launched.core.loop_inbox.loop.call_soon_threadsafe(callback)
    assert start(launched, "echo", "after").get_result() == "after"
    with pytest.raises(Exception):  # noqa: B017, PT011
        failed.get_result()
    assert launched.health().problems == ()


def test_a_loop_that_somebody_stops_goes_on(launched: App) -> None:
    loop = launched.core.loop_inbox.loop
    loop.call_soon_threadsafe(loop.stop)
    assert start(launched, "echo", "after").get_result() == "after"


def test_health_names_the_line_that_holds_the_loop(launched: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looplook, "STILL_SECONDS", 0.2)
    go_on, began = threading.Event(), threading.Event()

    def holds_the_loop() -> None:
        began.set()
        go_on.wait(PATIENCE)

    look = launched.launched.watch.loop
    heard = threading.Event()
    launched.core.loop_inbox.loop.call_soon_threadsafe(heard.set)
    assert heard.wait(PATIENCE)
    eventually(lambda: look._thread is not None)
    launched.core.loop_inbox.loop.call_soon_threadsafe(holds_the_loop)
    assert began.wait(PATIENCE)
    eventually(lambda: launched.health().problems)
    health = launched.health()
    assert not health.ready
    assert any("stood still" in one and "threading.py:" in one for one in health.problems)
    go_on.set()
    eventually(lambda: launched.health().ready)


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["interrupt", "exit", "no Exception", "generator exit"])
def test_a_service_goes_on_whatever_its_tick_raises(launched: App, kind: str) -> None:
    queues = launched.launched.queues
    real, ticked = queues.tick, threading.Event()

    def tick() -> float | None:
        queues.tick = again  # type: ignore[method-assign]
        raise error_of(kind)

    def again() -> float | None:
        ticked.set()
        return real()

    queues.tick = tick  # type: ignore[method-assign]
    queues.wake()
    assert ticked.wait(PATIENCE)
    assert queues.running


def test_a_thread_of_a_service_that_has_ended_is_started_anew(launched: App) -> None:
    """As by a defect of the interpreter, or whatever nobody has thought of."""
    queues = launched.launched.queues
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    queues._thread, dead = ended, queues._thread
    assert not launched.health().live
    launched.launched.watch.tick()
    assert launched.health().live
    assert queues._thread is not None
    assert queues._thread.is_alive()
    assert dead is not None
    queues._stopped = True
    queues.wake()
    dead.join(PATIENCE)


def test_the_committer_lives_whatever_comes_out_of_an_answer(launched: App) -> None:
    runner = launched.core.runner
    real = runner.leave

    def leave(run: Any, ending: Any) -> None:
        runner.leave = real  # type: ignore[method-assign]
        real(run, ending)
        raise Stop

    runner.leave = leave  # type: ignore[method-assign]
    assert start(launched, "plain", "first").get_result() == "first"
    assert start(launched, "plain", "second").get_result() == "second"
    assert launched.core.committer.running


class Refused:
    """A system that gives no thread, until it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.real = threading.Thread.start
        self.asked = threading.Event()
        self.refuses = True

        def begin(thread: threading.Thread) -> None:
            if self.refuses and thread.name.startswith("dbos-"):
                self.asked.set()
                raise error
            self.real(thread)

        monkeypatch.setattr(threading.Thread, "start", begin)


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), MemoryError()], ids=["threads", "memory"]
)
def test_work_waits_for_a_thread_that_the_system_does_not_give_yet(
    launched: App, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    refused = Refused(monkeypatch, error)
    handle = start(launched, "plain", "late")
    assert refused.asked.wait(PATIENCE)
    eventually(lambda: any("thread" in problem for problem in launched.health().problems))
    refused.refuses = False
    assert handle.get_result() == "late"
    eventually(lambda: launched.health().problems == ())


def test_a_query_waits_for_a_thread_that_the_system_does_not_give_yet(
    launched: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    readers = launched.core.readers
    real = readers.submit

    def submit(*arguments: Any, **options: Any) -> Any:
        if not asked.is_set():
            asked.set()
            raise RuntimeError("can't start new thread")
        return real(*arguments, **options)

    monkeypatch.setattr(readers, "submit", submit)
    assert asyncio.run(launched.list_workflows_async()) == []
    assert asked.is_set()


def test_a_launch_waits_for_the_threads_that_it_needs(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Refused(monkeypatch, RuntimeError("can't start new thread"))
    app = App({"name": "shop", "system_database_url": database_url})

    @app.workflow()
    def plain() -> str:
        return "ran"

    def gives_threads() -> None:
        assert refused.asked.wait(PATIENCE)
        refused.refuses = False

    giving = threading.Thread(target=gives_threads)
    giving.start()
    with app:
        assert app.start_workflow(plain).get_result() == "ran"
    giving.join()


def test_what_unwinds_a_parked_run_may_come_out_of_it_in_a_group(dbos_test_app: MakeTestApp) -> None:
    """As out of a TaskGroup: the group is no Exception, and is no error of the workflow either."""
    app = App()

    @app.workflow()
    async def waits() -> str:
        try:
            await app.sleep_async(3600)
        except BaseException as error:  # noqa: BLE001 - as a TaskGroup does
            raise BaseExceptionGroup("several", [error]) from None
        return "done"

    dbos: TestApp = dbos_test_app(app)
    handle = dbos.app.start_workflow(waits)
    dbos.advance(hours=3)
    assert handle.get_status().status == "SUCCESS"


def test_an_error_that_stands_for_another_names_it(dbos_test_app: MakeTestApp) -> None:
    app = App()

    @app.workflow()
    def raises() -> None:
        raise Stop("the reason")

    dbos_test_app(app)
    with pytest.raises(DBOSException, match="Stop, which is not an Exception: the reason"):
        app.start_workflow(raises).get_result()


@pytest.mark.parametrize("where", ["task of the handler", "task of a step", "text of an error"])
def test_an_exit_of_one_workflow_on_the_loop_of_the_main_program_ends_that_workflow_alone(
    database_url: str, where: str
) -> None:
    """Launched on the main thread's loop: an exit there would end the program of all other events."""
    program = f"""
import asyncio, sys
from dbos_events import App

app = App({{"name": "jobs", "system_database_url": {database_url!r}}})

class Odd(Exception):
    def __str__(self):
        sys.exit(3)

async def leaves():
    await asyncio.sleep(0)
    sys.exit(3)

@app.step()
async def step():
    await asyncio.gather(leaves())

@app.workflow()
async def exits(where):
    if where == "task of the handler":
        await asyncio.gather(leaves())
    if where == "task of a step":
        await step()
    raise Odd()

@app.workflow()
async def sound():
    await asyncio.sleep(0)
    return 7

async def main():
    async with app:
        handle = await app.start_workflow_async(exits, {where!r})
        try:
            await handle.get_result()
        except Exception as error:
            print("ended", type(error).__name__)
        print(await (await app.start_workflow_async(sound)).get_result())

asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("ended "), (ran.stdout, ran.stderr)
    assert ran.stdout.endswith("\n7\n")
