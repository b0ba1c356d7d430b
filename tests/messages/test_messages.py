"""Messages to workflows (protocol, rule 16): sent once, received once, in the sender's order."""

import asyncio
import threading
from typing import Any

import pytest

from dbos_events import App, SendMessage, SetWorkflowID
from dbos_events.errors import DBOSException, DBOSNonExistentWorkflowError
from dbos_events.testing.harness import TestApp
from dbos_events.testing.plugin import MakeTestApp

Config = dict[str, Any]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def config(database_url: str) -> Config:
    return {"name": "talk", "system_database_url": database_url, "application_version": "1"}


@pytest.fixture
def launched(app: App, config: Config) -> Any:
    """Launch the App of the test once its workflows are declared; ended with the test."""

    def launch(**more: Any) -> App:
        app.configure({**config, **more})
        app.launch()
        return app

    yield launch
    app.destroy()


def mailbox(dbos: TestApp | App, workflow_id: str) -> list[tuple[str | None, bool]]:
    """The topics of all messages that a workflow was ever sent, and whether each was consumed."""
    from tests.storage.building import read

    core = dbos.core
    rows = read(
        core.storage,  # type: ignore[arg-type]
        "SELECT topic, consumed_step FROM {schema}.messages WHERE destination = :id ORDER BY number",
        id=workflow_id,
    )
    return [(row.topic, row.consumed_step is not None) for row in rows]


# ------------------------------------------------------------------ from outside to a workflow


def test_a_workflow_receives_what_is_sent_while_it_waits(app: App, launched: Any) -> None:
    @app.workflow()
    def waits() -> Any:
        return app.recv("answer", timeout_seconds=30)

    launched()
    handle = app.start_workflow(waits)
    app.send(handle.workflow_id, {"paid": 12}, "answer")
    assert handle.get_result() == {"paid": 12}


def test_an_async_workflow_receives_what_is_sent_while_it_waits(app: App, launched: Any) -> None:
    @app.workflow()
    async def waits() -> Any:
        return await app.recv_async("answer", timeout_seconds=30)

    async def main() -> Any:
        handle = await app.start_workflow_async(waits)
        await app.send_async(handle.workflow_id, "yes", "answer")
        return await handle.get_result()

    launched()
    assert asyncio.run(main()) == "yes"


def test_what_was_sent_before_the_call_is_received_oldest_first_and_by_topic(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def waits() -> list[Any]:
        app.sleep(60)
        return [app.recv("b", 0), app.recv("a", 0), app.recv("a", 0), app.recv(None, 0), app.recv("", 0)]

    dbos = dbos_test_app(app)
    handle = app.start_workflow(waits)
    for number, topic in enumerate(["a", "b", None, "a", ""]):
        app.send(handle.workflow_id, number, topic)
    dbos.advance(seconds=60)
    assert handle.get_result() == [1, 0, 3, 2, 4]


@pytest.mark.parametrize(
    "value", [None, False, 0, "", [], {"a": (1, 2)}, "x" * 2_000_000, "a\0b"], ids=lambda v: repr(v)[:12]
)
def test_a_value_arrives_as_it_was_sent(app: App, launched: Any, value: Any) -> None:
    @app.workflow()
    def waits() -> Any:
        return [app.recv(timeout_seconds=30)]

    launched()
    handle = app.start_workflow(waits)
    app.send(handle.workflow_id, value)
    assert handle.get_result() == [value]


def test_nobody_is_not_sent_to(app: App, launched: Any) -> None:
    launched()
    with pytest.raises(DBOSNonExistentWorkflowError):
        app.send("nobody", "hello")
    with pytest.raises(DBOSNonExistentWorkflowError):
        asyncio.run(_awaited(app.send_async("nobody", "hello")))


def test_the_same_key_to_the_same_destination_is_the_same_message(app: App, launched: Any) -> None:
    @app.workflow()
    def waits() -> list[Any]:
        return [app.recv(timeout_seconds=20), app.recv(timeout_seconds=0.2)]

    launched()
    first, second = app.start_workflow(waits), app.start_workflow(waits)
    app.send(first.workflow_id, "one", idempotency_key="k")
    app.send(first.workflow_id, "another", idempotency_key="k")
    app.send(second.workflow_id, "two", idempotency_key="k")
    assert first.get_result() == ["one", None]
    assert second.get_result() == ["two", None], "keys are of one destination"


def test_all_of_a_bulk_are_sent_or_none(app: App, launched: Any) -> None:
    @app.workflow()
    def waits() -> list[Any]:
        return [app.recv(timeout_seconds=20), app.recv("t", timeout_seconds=20)]

    launched()
    handle = app.start_workflow(waits)
    there = SendMessage(handle.workflow_id, 1)
    with pytest.raises(DBOSNonExistentWorkflowError):
        app.send_bulk([there, SendMessage("nobody", 2)])
    assert mailbox(app, handle.workflow_id) == []
    with pytest.raises(DBOSException, match="same idempotency key"):
        app.send_bulk([SendMessage(handle.workflow_id, n, idempotency_key="k") for n in range(2)])
    app.send_bulk([there, SendMessage(handle.workflow_id, 2, topic="t", idempotency_key="k")])
    assert handle.get_result() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((None, "x"), {}),
        (("", "x"), {}),
        (("a\0b", "x"), {}),
        (("w", "x", 5), {}),
        (("w", "x", "\ud800"), {}),
        (("w", "x"), {"idempotency_key": 5}),
        (("w", "x"), {"send_to_forks": True}),
        (("w", object()), {}),
    ],
)
def test_what_cannot_be_a_message_is_refused_before_anything_is_written(
    app: App, launched: Any, arguments: Any, options: Any
) -> None:
    @app.workflow()
    def ends() -> None:
        pass

    launched()
    with SetWorkflowID("w"):
        ends()
    with pytest.raises(DBOSException):
        app.send(*arguments, **options)
    assert mailbox(app, "w") == []


# ------------------------------------------------------------------ from workflow to workflow


def test_two_workflows_answer_each_other(app: App, launched: Any) -> None:
    @app.workflow()
    def ponger(rounds: int) -> None:
        for _ in range(rounds):
            sender, number = app.recv("ping", timeout_seconds=30)
            app.send(sender, number + 1, "pong")

    @app.workflow()
    def pinger(other: str, rounds: int) -> int:
        number = 0
        for _ in range(rounds):
            app.send(other, ("pinger", number), "ping")
            number = app.recv("pong", timeout_seconds=30)
        return number

    launched()
    other = app.start_workflow(ponger, 5)
    with SetWorkflowID("pinger"):
        assert pinger(other.workflow_id, 5) == 5
    names = [step.function_name for step in app.list_workflow_steps("pinger")]
    assert names == ["DBOS.send", "DBOS.recv", "DBOS.sleep"] * 5


def test_a_send_to_nobody_is_recorded_as_the_error_that_it_raised(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    caught: list[str] = []

    @app.workflow()
    def sends() -> int:
        try:
            app.send("nobody", 1)
        except DBOSNonExistentWorkflowError as error:
            caught.append(str(error))
        app.sleep(60)
        return 7

    dbos = dbos_test_app(app)
    handle = app.start_workflow(sends)
    dbos.advance(seconds=60)
    assert handle.get_result() == 7
    assert len(caught) == 2, "in the first run and in the replay"
    assert len(set(caught)) == 1
    [step, _] = app.list_workflow_steps(handle.workflow_id)
    assert (step.function_name, type(step.error)) == ("DBOS.send", DBOSNonExistentWorkflowError)


def test_a_replay_neither_sends_nor_receives_again(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def receives() -> list[Any]:
        got = [app.recv(timeout_seconds=1000)]
        app.sleep(100)
        return [*got, app.recv(timeout_seconds=1000)]

    @app.workflow()
    def sends(to: str) -> None:
        app.send(to, "first")
        app.sleep(50)
        app.send(to, "second")

    dbos = dbos_test_app(app)
    receiver = app.start_workflow(receives)
    app.start_workflow(sends, receiver.workflow_id)
    dbos.run_until_idle()
    dbos.crash()
    dbos.advance(seconds=100)
    dbos.crash()
    dbos.run_until_idle()
    assert receiver.get_result() == ["first", "second"]
    assert mailbox(dbos, receiver.workflow_id) == [(None, True), (None, True)]


def test_a_step_may_send_and_sends_again_when_it_is_tried_again(app: App, launched: Any) -> None:
    attempts: list[int] = []

    @app.step(retries_allowed=True, interval_seconds=0.01, max_attempts=3)
    def announces(to: str) -> None:
        app.send(to, len(attempts))
        app.send(to, "once", "keyed", idempotency_key="only")
        attempts.append(1)
        if len(attempts) < 2:
            raise ValueError("again")

    @app.workflow()
    def sends(to: str) -> None:
        announces(to)

    @app.workflow()
    def receives() -> list[Any]:
        return [
            app.recv(timeout_seconds=20),
            app.recv(timeout_seconds=20),
            app.recv("keyed", 20),
            app.recv("keyed", 0),
        ]

    launched()
    receiver = app.start_workflow(receives)
    with SetWorkflowID("sender"):
        sends(receiver.workflow_id)
    assert receiver.get_result() == [0, 1, "once", None]
    assert [step.function_name for step in app.list_workflow_steps("sender")] == [announces.__qualname__]


def test_a_send_from_a_step_is_counted_as_coming_from_its_workflow(app: App, launched: Any) -> None:
    @app.step()
    async def announces(to: str) -> None:
        await app.send_async(to, "hello")

    @app.workflow()
    async def sends(to: str) -> None:
        await announces(to)
        with pytest.raises(DBOSNonExistentWorkflowError):
            await app.run_step_async({"name": "to nobody"}, app.send_async, "nobody", 1)

    @app.workflow()
    def receives() -> Any:
        return app.recv(timeout_seconds=20)

    launched()
    receiver = app.start_workflow(receives)
    asyncio.run(_awaited(sends(receiver.workflow_id)))
    assert receiver.get_result() == "hello"


# ------------------------------------------------------------------ where it may be called


def test_recv_is_for_workflows_alone(app: App, launched: Any) -> None:
    @app.step()
    def receives() -> Any:
        return app.recv()

    @app.workflow()
    def calls() -> Any:
        return receives()

    launched()
    with pytest.raises(DBOSException, match="outside of workflows"):
        app.recv()
    with pytest.raises(DBOSException, match="within a step"):
        calls()


@pytest.mark.parametrize("timeout", ["soon", True, float("nan"), object()])
def test_a_timeout_is_a_number_of_seconds(app: App, launched: Any, timeout: Any) -> None:
    @app.workflow()
    def receives() -> Any:
        return app.recv(timeout_seconds=timeout)

    launched()
    with pytest.raises(DBOSException, match="timeout_seconds"):
        receives()


def test_a_thread_that_the_engine_did_not_start_may_not_receive(app: App, launched: Any) -> None:
    caught: list[BaseException] = []

    @app.workflow()
    def receives() -> None:
        import contextvars

        def elsewhere() -> None:
            try:
                app.recv(timeout_seconds=0)
            except DBOSException as error:
                caught.append(error)

        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: context.run(elsewhere))
        thread.start()
        thread.join()

    launched()
    receives()
    assert "thread" in str(caught[0])


# ------------------------------------------------------------------ time


@pytest.mark.parametrize("timeout", [0, -5, 0.0])
def test_a_timeout_of_nothing_only_looks(app: App, dbos_test_app: MakeTestApp, timeout: float) -> None:
    @app.workflow()
    def looks() -> Any:
        return app.recv(timeout_seconds=timeout)

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    assert looks() is None
    assert dbos.clock.now_ms() == began


def test_none_comes_when_the_time_is_over_and_what_comes_later_stays(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def waits() -> list[Any]:
        got = [app.recv(timeout_seconds=60)]
        app.sleep(60)
        return [*got, app.recv(timeout_seconds=0)]

    dbos = dbos_test_app(app)
    handle = app.start_workflow(waits)
    dbos.advance(seconds=90)
    app.send(handle.workflow_id, "late")
    dbos.advance(seconds=30)
    assert handle.get_result() == [None, "late"]


def test_the_default_is_a_minute(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def waits() -> Any:
        return app.recv()

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    assert waits() is None
    assert dbos.clock.now_ms() == began + 60_000


def test_a_crash_does_not_prolong_the_wait(app: App, dbos_test_app: MakeTestApp) -> None:
    ended: list[int] = []

    @app.workflow()
    def waits() -> None:
        app.recv(timeout_seconds=100)
        ended.append(dbos.clock.now_ms())

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    app.start_workflow(waits)
    dbos.advance(seconds=60)
    dbos.crash()
    dbos.advance(seconds=60)
    assert ended == [began + 100_000]


def test_a_wait_for_ever_ends_with_the_message(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def waits() -> Any:
        return app.recv(timeout_seconds=None)

    dbos = dbos_test_app(app)
    handle = app.start_workflow(waits)
    dbos.advance(days=400)
    assert handle.get_status().status == "PENDING"
    app.send(handle.workflow_id, "at last")
    assert handle.get_result() == "at last"


# ------------------------------------------------------------------ several at once


def test_several_calls_of_a_topic_get_its_messages_in_the_order_of_the_calls(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    async def waits() -> list[Any]:
        return await asyncio.gather(*(app.recv_async("t", timeout_seconds=1000) for _ in range(5)))

    dbos = dbos_test_app(app)
    handle = asyncio.run(_awaited(app.start_workflow_async(waits)))
    dbos.run_until_idle()
    for number in range(5):
        app.send(handle.workflow_id, number, "t")
        dbos.run_until_idle()
        dbos.crash()
    dbos.run_until_idle()
    assert app.retrieve_workflow(handle.workflow_id).get_result() == [0, 1, 2, 3, 4]


def test_waits_for_different_things_are_parked_together_and_end_one_by_one(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def child() -> str:
        app.sleep(50)
        return "child"

    @app.workflow()
    async def waits() -> list[Any]:
        handle = await app.start_workflow_async(child)  # type: ignore[arg-type]
        return await asyncio.gather(
            app.recv_async("a", timeout_seconds=1000),
            handle.get_result(),
            app.recv_async("b", timeout_seconds=10),
            app.recv_async("c", timeout_seconds=None),
        )

    dbos = dbos_test_app(app)
    handle = asyncio.run(_awaited(app.start_workflow_async(waits)))
    dbos.advance(seconds=20)
    assert dbos.core.runner.active == {}, "it is parked"
    app.send(handle.workflow_id, 3, "c")
    dbos.advance(seconds=40)
    app.send(handle.workflow_id, 1, "a")
    dbos.run_until_idle()
    assert app.retrieve_workflow(handle.workflow_id).get_result() == [1, "child", None, 3]


def test_a_receive_that_was_cancelled_leaves_the_message_to_the_next(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    async def waits() -> list[Any]:
        try:
            async with asyncio.timeout(0.05):
                await app.recv_async("t")
        except TimeoutError:
            pass
        return [await app.recv_async("t", timeout_seconds=100)]

    dbos = dbos_test_app(app)
    handle = asyncio.run(_awaited(app.start_workflow_async(waits)))
    dbos.run_until_idle()
    app.send(handle.workflow_id, "kept", "t")
    dbos.crash()
    dbos.run_until_idle()
    assert app.retrieve_workflow(handle.workflow_id).get_result() == ["kept"]


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


# ------------------------------------------------------------------ with other code


def test_where_mended_code_receives_elsewhere_it_gets_what_the_old_call_had_got(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    mended: list[bool] = []

    @app.step()
    def checks() -> None:
        if not mended:
            raise ValueError("not yet")

    @app.step()
    def looks_first() -> str:
        return "looked"

    @app.kafka_consumer(topics=["t"], retries=None)
    def handle(message: Any) -> list[Any]:
        got: list[Any] = []
        if mended:
            got.append(looks_first())
        got.append(app.recv("a", timeout_seconds=1000))
        checks()
        return got

    dbos = dbos_test_app(app)
    handle_ = dbos.deliver(handle, b"x")
    dbos.send(handle_.workflow_id, "kept", "a")
    dbos.run_until_idle()
    assert [event.workflow_id for event in app.list_quarantined()] == [handle_.workflow_id]
    mended.append(True)
    app.redrive_events(handle_.workflow_id, from_step=1)
    assert handle_.get_result() == ["looked", "kept"]


def test_an_edited_value_that_leads_elsewhere_gets_the_message_again(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def looks_first() -> str:
        return "looked"

    @app.kafka_consumer(topics=["t"])
    def handle(message: Any) -> list[Any]:
        got: list[Any] = []
        if message.value == b"edited":
            got.append(looks_first())
        got.append(app.recv("a", timeout_seconds=1000))
        if message.value != b"edited":
            raise ValueError("no")
        return got

    dbos = dbos_test_app(app)
    handle_ = dbos.deliver(handle, b"x")
    dbos.send(handle_.workflow_id, "kept", "a")
    app.redrive_events(handle_.workflow_id, value=b"edited")
    assert handle_.get_result() == ["looked", "kept"]


# ------------------------------------------------------------------ times that no clock will see


@pytest.mark.parametrize(
    "seconds", [1e17, 1e308, float("inf"), 10**400], ids=["1e17", "1e308", "inf", "integer"]
)
def test_a_wait_that_is_longer_than_a_database_can_hold_has_no_end(
    app: App, dbos_test_app: MakeTestApp, seconds: float
) -> None:
    @app.workflow()
    def waits() -> Any:
        return app.recv("answer", timeout_seconds=seconds)

    @app.workflow()
    def meets() -> Any:
        return app.wait_for("answer", "7", timeout_seconds=seconds)

    @app.workflow()
    def hears(of: str) -> Any:
        return app.get_event(of, "answer", timeout_seconds=seconds)

    @app.workflow()
    def sleeps() -> None:
        app.sleep(seconds)

    dbos = dbos_test_app(app)
    waiting, meeting, sleeping = (app.start_workflow(function) for function in (waits, meets, sleeps))
    hearing = app.start_workflow(hears, waiting.workflow_id)
    dbos.advance(seconds=60)
    assert dbos.core.runner.active == {}, "they are parked"
    app.send(waiting.workflow_id, "yes", "answer")
    app.publish("answer", "7", "met")
    dbos.run_until_idle()
    assert (waiting.get_result(), meeting.get_result(), hearing.get_result()) == ("yes", "met", None)
    assert sleeping.get_status().status == "PENDING"


@pytest.mark.parametrize("seconds", [float("nan"), None, "1"])
def test_a_sleep_takes_a_number_of_seconds(app: App, launched: Any, seconds: Any) -> None:
    @app.workflow()
    def sleeps() -> None:
        app.sleep(seconds)

    launched()
    with pytest.raises(DBOSException, match="seconds must be a number"):
        sleeps()
