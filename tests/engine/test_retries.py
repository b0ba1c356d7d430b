"""Attempts at an event: what a retry repeats, when it runs, and how often (protocol, rules 6 and 11; P8)."""

import asyncio
import contextlib
import itertools
from typing import Any

import pytest

from dbos_events import App, KafkaMessage, Quarantine, Retry
from dbos_events.errors import RegistrationError, StorageUnavailable
from dbos_events.testing import ManualClock, TestApp
from dbos_events.testing.plugin import MakeTestApp
from tests.engine.gates import Gate

THREE = Retry(max_attempts=3, interval_seconds=60, backoff_rate=2, jitter=0)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def calls() -> list[Any]:
    return []


def generations(app: App, workflow_id: str) -> list[tuple[int, int, str]]:
    stored = app.launched.storage.quarantine.get(workflow_id)
    assert stored is not None
    return [(one.generation, one.attempt, one.ended_as) for one in stored.generations]


# ------------------------------------------------------------------ when


def test_rule_6_back_off_survives_a_restart(app: App, calls: list[Any], dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> str:
        calls.append(dbos.clock.now_ms() - began)
        if len(calls) < 3:
            raise OSError
        return "done"

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    handle = dbos.deliver(on_order, "x")
    dbos.run_until_idle()
    dbos.crash()
    dbos.advance(seconds=59)
    dbos.crash()
    assert calls == [0]
    assert handle.get_status().status == "PENDING"
    dbos.advance(seconds=1)
    dbos.crash()
    dbos.advance(seconds=119)
    assert calls == [0, 60_000]
    dbos.advance(seconds=1)
    assert calls == [0, 60_000, 180_000]
    assert handle.get_result() == "done"
    assert handle.get_status().generation == 2
    assert handle.get_status().recovery_attempts == 0


@pytest.mark.parametrize(
    ("retry", "pauses"),
    [
        (Retry(5, 10, 3, 60, 0), [10, 30, 60, 60]),
        (Retry(3, 10, 1, 60, 0.5), [7.5, 7.5]),
        (Retry(3, 10, 1, 60, 1), [5, 5]),
    ],
)
def test_pauses_grow_to_their_limit_and_jitter_shortens_them(
    app: App, dbos_test_app: MakeTestApp, retry: Retry, pauses: list[float]
) -> None:
    times: list[int] = []

    @app.kafka_consumer(None, "orders", retries=retry)
    def on_order(msg: KafkaMessage) -> None:
        times.append(dbos.clock.now_ms())
        raise OSError

    dbos = dbos_test_app(app)
    dbos.core.chance = lambda: 0.5
    dbos.deliver(on_order, "x")
    dbos.advance(hours=1)
    assert [(later - one) / 1000 for one, later in itertools.pairwise(times)] == pauses


def test_a_pause_is_bounded_whatever_the_attempt() -> None:
    assert Retry(interval_seconds=1, backoff_rate=10, jitter=0).delay_after(10_000, 1.0) == 3600


def test_exhausted_attempts_quarantine_with_their_count(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        calls.append(msg.offset)
        raise ValueError(f"attempt {len(calls)}")

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(hours=1)
    assert calls == [0, 0, 0]
    stored = app.launched.storage.quarantine.get(handle.workflow_id)
    assert stored is not None
    assert (stored.event.status, stored.event.attempts, stored.event.reason) == (
        "ERROR",
        3,
        "attempts-exhausted",
    )
    assert (stored.event.error_type, stored.event.error_message) == ("ValueError", "attempt 3")
    assert [(one.ended_as, one.error_message) for one in stored.generations] == [
        ("retry", "attempt 1"),
        ("retry", "attempt 2"),
    ]
    with pytest.raises(ValueError, match="attempt 3"):
        handle.get_result()


def test_exhausted_attempts_of_a_recorded_failure_free_the_lane(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", ordering="partition", on_failure="record", retries=Retry(2, 60))
    def on_order(msg: KafkaMessage) -> None:
        calls.append(msg.offset)
        if msg.offset == 0:
            raise ValueError

    dbos = dbos_test_app(app)
    bad, behind = (dbos.deliver(on_order, "x") for _ in range(2))
    dbos.advance(seconds=59)
    assert calls == [0]
    dbos.advance(seconds=2)
    assert calls == [0, 0, 1]
    assert (bad.get_status().status, behind.get_status().status) == ("ERROR", "SUCCESS")
    assert app.launched.storage.quarantine.get(bad.workflow_id) is None


def test_quarantine_skips_the_retries(app: App, calls: list[Any], dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        calls.append(1)
        raise Quarantine("no such customer")

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(hours=1)
    assert calls == [1]
    stored = app.launched.storage.quarantine.get(handle.workflow_id)
    assert stored is not None
    assert (stored.event.reason, stored.event.attempts) == ("no such customer", 1)


def test_only_errors_in_retry_on_are_tried_again(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", retries=Retry(3, 1, retry_on=(OSError,)))
    def on_order(msg: KafkaMessage) -> None:
        calls.append(msg.value)
        raise ConnectionError if msg.value == b"network" else LookupError

    dbos = dbos_test_app(app)
    dbos.deliver(on_order, "network")
    dbos.deliver(on_order, "wrong")
    dbos.advance(hours=1)
    assert sorted(calls) == [b"network"] * 3 + [b"wrong"]


@pytest.mark.parametrize(
    ("raised", "attempts"),
    [
        ([OSError(), ConnectionError()], 3),
        ([OSError(), ExceptionGroup("inner", [OSError()])], 3),
        ([OSError(), LookupError()], 1),
        ([OSError(), Quarantine("no such customer")], 1),
    ],
)
def test_of_a_group_of_errors_each_one_counts(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp, raised: list[Exception], attempts: int
) -> None:
    @app.kafka_consumer(None, "orders", retries=Retry(3, 1, retry_on=(OSError, Quarantine)))
    async def on_order(msg: KafkaMessage) -> None:
        calls.append(1)
        raise ExceptionGroup("several", raised)

    dbos = dbos_test_app(app)
    dbos.deliver(on_order, "x")
    dbos.advance(minutes=1)
    assert len(calls) == attempts
    (event,) = app.list_quarantined()
    assert event.attempts == attempts
    if isinstance(raised[1], Quarantine):
        assert event.reason == "no such customer"


def test_a_retrying_event_of_a_key_holds_up_its_key_only(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", ordering="key", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        calls.append((msg.key, msg.offset))
        if calls == [(b"ada", 0)]:
            raise OSError

    dbos = dbos_test_app(app)
    for key in ("ada", "ada", "berta", "ada"):
        dbos.deliver(on_order, "x", key=key)
        dbos.run_until_idle()
    assert calls == [(b"ada", 0), (b"berta", 2)]
    dbos.advance(seconds=60)
    assert calls == [(b"ada", 0), (b"berta", 2), (b"ada", 0), (b"ada", 1), (b"ada", 3)]


def test_a_retrying_event_gives_its_place_back_and_keeps_its_lane(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", ordering="partition", retries=THREE, max_in_flight=10)
    def on_order(msg: KafkaMessage) -> None:
        calls.append((msg.partition, msg.offset))
        if calls == [(0, 0)]:
            raise OSError

    dbos = dbos_test_app(app)
    for partition in (0, 0, 1):
        dbos.deliver(on_order, "x", partition=partition)
        dbos.run_until_idle()
    assert calls == [(0, 0), (1, 0)]
    assert dbos.core.runner.active == {}
    dbos.advance(seconds=60)
    assert calls == [(0, 0), (1, 0), (0, 0), (0, 1)]


def test_a_retrying_event_of_a_queue_takes_its_slot_again(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    app.queue("slow", concurrency=1)

    @app.kafka_consumer(None, "orders", queue_name="slow", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        calls.append(msg.offset)
        if calls == [0]:
            raise OSError

    dbos = dbos_test_app(app)
    handles = [dbos.deliver(on_order, "x") for _ in range(2)]
    dbos.run_until_idle()
    assert calls == [0, 1]
    dbos.advance(seconds=60)
    assert calls == [0, 1, 0]
    assert {handle.get_status().status for handle in handles} == {"SUCCESS"}


def test_a_cancelled_retry_never_runs(app: App, calls: list[Any], dbos_test_app: MakeTestApp) -> None:
    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        calls.append(1)
        raise OSError

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.run_until_idle()
    app.cancel_workflow(handle.workflow_id)
    dbos.advance(hours=1)
    assert calls == [1]
    stored = app.launched.storage.quarantine.get(handle.workflow_id)
    assert stored is not None
    assert (stored.event.status, stored.event.reason) == ("CANCELLED", "cancelled")


def test_a_lost_commit_answer_counts_an_attempt_once(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def first() -> None:
        calls.append("first")

    @app.step()
    def fails() -> None:
        calls.append("fails")
        gate.lose_answer(StorageUnavailable("the connection broke"))
        raise OSError

    @app.kafka_consumer(None, "orders", retries=Retry(2, 60))
    def on_order(msg: KafkaMessage) -> None:
        first()
        fails()

    dbos = dbos_test_app(app)
    gate = Gate(dbos.core)
    gate.open()
    handle = dbos.deliver(on_order, "x")
    dbos.run_until_idle()
    assert handle.get_status().generation == 1
    assert handle.get_status().status == "PENDING"
    dbos.advance(seconds=60)
    assert calls == ["first", "fails", "fails"]
    assert handle.get_status().status == "ERROR"
    assert generations(app, handle.workflow_id) == [(0, 1, "retry")]


def test_a_crash_within_an_attempt_is_no_attempt(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.kafka_consumer(None, "orders", retries=Retry(2, 60))
    def on_order(msg: KafkaMessage) -> None:
        calls.append(1)
        if len(calls) == 2:
            dbos.crash()
        raise OSError

    dbos = dbos_test_app(app)
    dbos.deliver(on_order, "x")
    dbos.advance(hours=1)
    assert len(calls) == 3
    assert [event.attempts for event in app.list_quarantined()] == [2]


def test_a_process_that_has_not_reached_the_broker_yet_knows_the_retries(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp, sqlite_url: str
) -> None:
    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        calls.append(1)
        raise OSError

    clock = ManualClock()
    with TestApp(app, database_url=sqlite_url, clock=clock) as first:
        first.deliver(on_order, "x")
        first.run_until_idle()
    second = dbos_test_app(app, database_url=sqlite_url, clock=clock)
    second.advance(seconds=60)
    assert len(calls) == 2
    assert app.list_quarantined() == []
    second.advance(hours=1)
    assert [event.attempts for event in app.list_quarantined()] == [3]


def test_a_workflow_whose_task_group_failed_ends(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    async def fails() -> None:
        raise OSError

    @app.workflow()
    async def grouped(catches: bool) -> str:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fails())
        except* OSError:
            if not catches:
                raise
        return "caught"

    dbos = dbos_test_app(app)

    async def start(catches: bool) -> str:
        return (await app.start_workflow_async(grouped, catches)).workflow_id

    caught, failed = (asyncio.run(start(catches)) for catches in (True, False))
    dbos.run_until_idle()
    found = {one.workflow_id: one.status for one in app.list_workflows()}
    assert found == {caught: "SUCCESS", failed: "ERROR"}


# ------------------------------------------------------------------ what


def test_rule_6_a_retry_repeats_only_the_failed_step(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(name: str) -> str:
        calls.append((name, app.core.clock.now_ms() > began))
        if name == "charge" and len(calls) == 2:
            raise OSError
        return name

    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> list[str]:
        return [step(name) for name in ("reserve", "charge", "ship")]

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()
    handle = dbos.deliver(on_order, "x")
    dbos.advance(seconds=61)
    assert handle.get_result() == ["reserve", "charge", "ship"]
    assert calls == [("reserve", False), ("charge", False), ("charge", True), ("ship", True)]
    assert [step.function_id for step in app.list_workflow_steps(handle.workflow_id)] == [1, 2, 3]


def test_an_error_that_was_caught_is_replayed_and_one_that_was_not_is_not(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(name: str) -> str:
        calls.append(name)
        if name == "cache" or (calls.count(name) == 1 and name == "charge"):
            raise OSError(name)
        return name

    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        try:
            step("cache")
        except OSError:
            step("without cache")
        step("charge")

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(seconds=61)
    assert handle.get_status().status == "SUCCESS"
    assert calls == ["cache", "without cache", "charge", "charge"]


def wrap_from(error: OSError) -> None:
    raise RuntimeError("wrapped") from error


def wrap_while_handling(error: OSError) -> None:
    raise RuntimeError("wrapped")


def wrap_from_none(error: OSError) -> None:
    raise RuntimeError("wrapped") from None


def wrap_in_a_group(error: OSError) -> None:
    raise ExceptionGroup("wrapped", [KeyError(), error])


@pytest.mark.parametrize("wrap", [wrap_from, wrap_while_handling, wrap_from_none, wrap_in_a_group])
def test_a_wrapped_error_is_followed_to_its_step(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp, wrap: Any
) -> None:
    @app.step()
    def step(name: str) -> None:
        calls.append(name)
        if name == "caught" or (name == "charge" and calls.count(name) == 1):
            raise OSError(name)

    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        with contextlib.suppress(OSError):
            step("caught")
        try:
            step("charge")
        except OSError as error:
            wrap(error)

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(seconds=61)
    assert handle.get_status().status == "SUCCESS"
    assert calls == ["caught", "charge", "charge"]


def test_where_no_step_is_behind_the_error_all_that_failed_are_done_anew(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def lookup() -> str:
        calls.append("lookup")
        if len(calls) == 1:
            raise OSError
        return "found"

    @app.step()
    def fallback() -> None:
        calls.append("fallback")

    @app.step()
    def use(found: str) -> str:
        calls.append("use")
        return found

    @app.step()
    def last() -> None:
        calls.append("last")

    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> str | None:
        problem = None
        try:
            found = use(lookup())
        except OSError:
            fallback()
            problem = "nothing was found"
        last()
        if problem:
            raise ValueError(problem)
        return found

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.run_until_idle()
    assert calls == ["lookup", "fallback", "last"]
    dbos.advance(seconds=60)
    # `use` stands where `fallback` stood: after the failure, that is no determinism error.
    assert handle.get_result() == "found"
    assert calls == ["lookup", "fallback", "last", "lookup", "use"]


def test_what_was_recorded_in_place_of_something_else_is_replayed(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(name: str) -> str:
        calls.append(name)
        if name == "lookup" and len(calls) == 1:
            raise OSError
        return name

    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        try:
            step("lookup")
        except OSError:
            step("fallback")
            raise ValueError("problem") from KeyError()
        step("use")
        app.sleep(60)
        step("done")

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(seconds=61)
    dbos.crash()
    dbos.advance(seconds=60)
    assert handle.get_status().status == "SUCCESS"
    assert calls == ["lookup", "fallback", "lookup", "use", "done"]


def test_before_the_failure_a_mismatch_stays_an_error(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step(name: str) -> None:
        if name == "charge":
            raise OSError

    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> None:
        calls.append(1)
        step(f"reserve {len(calls)}")
        step("charge")

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(hours=1)
    assert len(calls) == 2
    stored = app.launched.storage.quarantine.get(handle.workflow_id)
    assert stored is not None
    assert stored.event.error_type == "dbos_events.errors.DBOSUnexpectedStepError"


@pytest.mark.parametrize("group", ["gather", "task group"])
def test_rule_6_in_nested_branches_only_the_failed_one_is_done_anew(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp, group: str
) -> None:
    @app.step()
    async def step(name: str) -> str:
        calls.append(name)
        if name == "b2" and calls.count("b2") == 1:
            raise OSError
        return name

    async def branch(name: str) -> list[str]:
        async def leaf(number: int) -> str:
            return await step(f"{name}{number}")

        return list(await asyncio.gather(*(leaf(number) for number in (1, 2))))

    @app.kafka_consumer(None, "orders", retries=THREE)
    async def on_order(msg: KafkaMessage) -> list[list[str]]:
        if group == "gather":
            return list(await asyncio.gather(*(branch(name) for name in "abc")))
        async with asyncio.TaskGroup() as tasks:
            found = [tasks.create_task(branch(name)) for name in "abc"]
        return [task.result() for task in found]

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(seconds=61)
    assert handle.get_result() == [["a1", "a2"], ["b1", "b2"], ["c1", "c2"]]
    assert calls.count("b2") == 2
    assert all(calls.count(name) == 1 for name in ("a1", "a2", "b1"))


def test_a_step_that_the_failure_cancelled_is_done_anew(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    never = asyncio.Event

    @app.step()
    async def slow() -> str:
        calls.append("slow")
        if calls.count("slow") == 1:
            await never().wait()
        return "slow"

    @app.step()
    async def fails() -> str:
        calls.append("fails")
        if calls.count("fails") == 1:
            raise OSError
        return "fine"

    @app.kafka_consumer(None, "orders", retries=THREE)
    async def on_order(msg: KafkaMessage) -> list[str]:
        return list(await asyncio.gather(slow(), fails()))

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(seconds=61)
    assert handle.get_result() == ["slow", "fine"]
    assert sorted(calls) == ["fails", "fails", "slow", "slow"]


def test_a_step_that_ran_into_a_time_limit_is_done_anew(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    async def slow() -> str:
        calls.append("slow")
        if len(calls) == 1:
            await asyncio.Event().wait()
        return "slow"

    @app.kafka_consumer(None, "orders", retries=THREE)
    async def on_order(msg: KafkaMessage) -> str:
        async with asyncio.timeout(0.01 if not calls else 10):
            return await slow()

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(seconds=61)
    assert handle.get_result() == "slow"
    assert calls == ["slow", "slow"]


@pytest.mark.parametrize("how", ["called", "awaited"])
def test_rule_6_child_ids_carry_the_generation(
    app: App, calls: list[Any], dbos_test_app: MakeTestApp, how: str
) -> None:
    @app.workflow()
    def child(name: str) -> str:
        calls.append(name)
        if calls == ["good", "bad"]:
            raise OSError
        return name

    @app.kafka_consumer(None, "orders", retries=THREE)
    def on_order(msg: KafkaMessage) -> list[str]:
        if how == "called":
            return [child("good"), child("bad")]
        return [app.start_workflow(child, name).get_result() for name in ("good", "bad")]

    dbos = dbos_test_app(app)
    handle = dbos.deliver(on_order, "x")
    dbos.advance(seconds=61)
    assert handle.get_result() == ["good", "bad"]
    assert calls == ["good", "bad", "bad"]
    ids = {
        one.workflow_id.removeprefix(handle.workflow_id): one.status
        for one in app.list_workflows(name=child.__qualname__)
    }
    assert sorted(ids.values()) == ["ERROR", "SUCCESS", "SUCCESS"]
    (again,) = (name for name in ids if name.startswith("-g1-"))
    assert ids[again] == "SUCCESS"


# ------------------------------------------------------------------ the declaration


@pytest.mark.parametrize(
    ("retries", "says"),
    [
        (Retry(max_attempts=0), "at least 1"),
        (Retry(interval_seconds=-1), "negative"),
        (Retry(backoff_rate=0.5), "at least 1"),
        (Retry(jitter=1.5), "from 0 to 1"),
        (Retry(retry_on=OSError), "tuple of exception classes"),  # type: ignore[arg-type]
        (3, "must be a Retry"),
    ],
)
def test_retries_that_could_not_be_kept_are_refused(app: App, retries: Any, says: str) -> None:
    with pytest.raises(RegistrationError, match=says):

        @app.kafka_consumer(None, "orders", retries=retries)
        def on_order(msg: KafkaMessage) -> None: ...
