"""Steps: recorded once, retried, bounded, and replayed (protocol, rules 3 and 4)."""

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from dbos_events import DBOS, App
from dbos_events.errors import (
    DBOSException,
    DBOSMaxStepRetriesExceeded,
    DBOSStepTimeoutError,
    RegistrationError,
    SerializationError,
)
from dbos_events.testing.plugin import MakeTestApp


class OutOfStock(Exception):
    def __init__(self, article: str, *, left: int) -> None:
        super().__init__(article, left)
        self.article = article
        self.left = left

    def __reduce__(self) -> Any:
        return _rebuild, (self.article, self.left)


def _rebuild(article: str, left: int) -> OutOfStock:
    return OutOfStock(article, left=left)


class PaymentRefused(ValueError):
    pass


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Order:
    number: int
    lines: list[str]


@pytest.fixture
def app() -> App:
    return App()


def test_after_a_crash_no_completed_step_runs_again(app: App, dbos_test_app: MakeTestApp) -> None:
    calls: list[str] = []

    @app.step()
    def step(name: str) -> str:
        calls.append(name)
        if name == "c" and calls.count("c") == 1:
            dbos.crash()
        return name.upper()

    @app.workflow()
    def letters() -> str:
        return "".join(step(name) for name in "abcd")

    dbos = dbos_test_app(app)
    handle = app.start_workflow(letters)
    dbos.run_until_idle()
    assert calls == ["a", "b", "c", "c", "d"]
    assert handle.get_result() == "ABCD"


def test_after_a_crash_no_completed_async_step_runs_again(app: App, dbos_test_app: MakeTestApp) -> None:
    calls: list[str] = []

    @app.step()
    async def step(name: str) -> str:
        calls.append(name)
        await asyncio.sleep(0)
        if name == "c" and calls.count("c") == 1:
            dbos.crash()
        return name.upper()

    @app.workflow()
    async def letters() -> str:
        return "".join([await step(name) for name in "abcd"])

    dbos = dbos_test_app(app)
    handle = asyncio.run(_started(app, letters))
    dbos.run_until_idle()
    assert calls == ["a", "b", "c", "c", "d"]
    assert app.retrieve_workflow(handle).get_result() == "ABCD"


async def _started(app: App, function: Any, *args: Any) -> str:
    return (await app.start_workflow_async(function, *args)).workflow_id


def test_a_steps_error_is_recorded_and_replayed_as_its_own_class(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    seen: list[tuple[type[BaseException], str, int]] = []
    calls: list[int] = []

    @app.step()
    def reserve() -> None:
        calls.append(1)
        raise OutOfStock("chair", left=2)

    @app.step()
    def crashes_once() -> None:
        if len(seen) == 1:
            dbos.crash()

    @app.workflow()
    def order() -> str:
        try:
            reserve()
        except OutOfStock as error:
            seen.append((type(error), error.article, error.left))
        crashes_once()
        return "ordered"

    dbos = dbos_test_app(app)
    handle = app.start_workflow(order)
    dbos.run_until_idle()
    assert handle.get_result() == "ordered"
    assert calls == [1]
    assert seen == [(OutOfStock, "chair", 2)] * 2


def test_a_step_is_tried_again_with_growing_pauses(app: App, dbos_test_app: MakeTestApp) -> None:
    times: list[float] = []
    keys: set[str | None] = set()
    attempts: list[int | None] = []

    @app.step(retries_allowed=True, interval_seconds=10, backoff_rate=3, max_attempts=4)
    def flaky() -> str:
        times.append(dbos.clock.monotonic())
        keys.add(DBOS.idempotency_key)
        status = DBOS.step_status
        attempts.append(status.current_attempt if status else None)
        if len(times) < 4:
            raise OSError("unreachable")
        return "ok"

    @app.workflow()
    def calls() -> str:
        return flaky()

    dbos = dbos_test_app(app)
    handle = app.start_workflow(calls)
    dbos.run_until_idle()
    assert len(times) == 1
    assert handle.get_result() == "ok"
    assert [round(after - before) for before, after in itertools.pairwise(times)] == [10, 30, 90]
    assert keys == {f"{handle.workflow_id}:{flaky.__qualname__}"}
    assert attempts == [0, 1, 2, 3]


def test_an_async_step_is_tried_again_with_growing_pauses(app: App, dbos_test_app: MakeTestApp) -> None:
    times: list[float] = []

    @app.step(retries_allowed=True, interval_seconds=10, backoff_rate=3, max_attempts=3)
    async def flaky() -> str:
        times.append(dbos.clock.monotonic())
        if len(times) < 3:
            raise OSError("unreachable")
        return "ok"

    @app.workflow()
    async def calls() -> list[Any]:
        return await asyncio.gather(flaky(), app.sleep_async(5))

    dbos = dbos_test_app(app)
    handle = asyncio.run(_started(app, calls))
    dbos.run_until_idle()
    assert len(times) == 1
    dbos.advance(minutes=1)
    assert [round(after - before) for before, after in itertools.pairwise(times)] == [10, 30]
    assert app.retrieve_workflow(handle).get_result() == ["ok", None]


def test_a_step_that_fails_in_all_attempts_says_so_with_all_errors(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step(retries_allowed=True, max_attempts=3)
    def flaky() -> None:
        raise OSError("unreachable")

    @app.workflow()
    def calls() -> None:
        flaky()

    dbos_test_app(app)
    with pytest.raises(DBOSMaxStepRetriesExceeded, match="all of its 3 attempts") as caught:
        calls()
    assert [type(error) for error in caught.value.errors] == [OSError] * 3


def test_should_retry_ends_the_attempts_with_the_error_itself(app: App, dbos_test_app: MakeTestApp) -> None:
    calls: list[int] = []

    @app.step(retries_allowed=True, max_attempts=5, should_retry=lambda error: isinstance(error, OSError))
    def pay() -> None:
        calls.append(1)
        raise OSError if len(calls) < 3 else PaymentRefused("no money")

    @app.workflow()
    def order() -> None:
        pay()

    dbos_test_app(app)
    with pytest.raises(PaymentRefused, match="no money"):
        order()
    assert len(calls) == 3


def test_a_step_is_bounded_by_its_timeout(app: App, dbos_test_app: MakeTestApp) -> None:
    ended: list[str] = []

    @app.step(timeout_seconds=0.01)
    async def slow() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("cancelled")

    @app.step(timeout_seconds=60)
    async def raises_its_own() -> None:
        raise TimeoutError("mine")

    @app.workflow()
    async def waits() -> list[Any]:
        return await asyncio.gather(slow(), raises_its_own(), return_exceptions=True)

    dbos_test_app(app)
    errors = app.retrieve_workflow(asyncio.run(_started(app, waits))).get_result()
    assert ended == ["cancelled"]
    assert isinstance(errors[0], DBOSStepTimeoutError)
    assert "0.01 s" in str(errors[0])
    assert type(errors[1]) is TimeoutError


def test_options_that_could_not_be_kept_are_refused_at_registration(app: App) -> None:
    with pytest.raises(RegistrationError, match="needs an `async def` step"):
        app.step(timeout_seconds=1)(lambda: None)
    with pytest.raises(RegistrationError, match="at least 1"):
        app.step(retries_allowed=True, max_attempts=0)(lambda: None)
    with pytest.raises(RegistrationError, match="is a step already"):
        app.step()(app.step(name="twice")(lambda: None))


VALUES = [
    None,
    (1, (2, [3])),
    {1, 2},
    b"\x00\xff",
    dt.datetime(2030, 1, 1, tzinfo=dt.UTC),
    decimal.Decimal("1.10"),
    uuid.UUID(int=7),
    Colour.RED,
    Order(7, ["chair"]),
    {1: "a", "1": "b"},
    2**80,
    float("inf"),
]


def test_replay_gives_values_of_the_same_types(app: App, dbos_test_app: MakeTestApp) -> None:
    seen: list[list[Any]] = []

    @app.step()
    def give(number: int) -> Any:
        return VALUES[number]

    @app.workflow()
    def values() -> None:
        seen.append([give(number) for number in range(len(VALUES))])
        app.sleep(1)

    dbos_test_app(app)
    values()
    first, replayed = seen
    assert [(type(value), value) for value in replayed] == [(type(value), value) for value in first]


def test_a_value_that_cannot_be_stored_fails_its_step_on_its_first_run(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    after: list[str] = []

    @app.step()
    def gives_a_lock() -> Any:
        return threading.Lock()

    @app.step()
    def gives_text() -> str:
        return "text"

    @app.workflow()
    def goes_on() -> str:
        try:
            gives_a_lock()
        except SerializationError as error:
            after.append(str(error))
        return gives_text()

    dbos_test_app(app)
    assert goes_on() == "text"
    assert "lock" in after[0]
    assert "pickle" in after[0]


def test_a_result_that_cannot_be_stored_fails_the_workflow_alone(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def gives(good: bool) -> Any:
        return "fine" if good else threading.Lock()

    dbos_test_app(app)
    handles = [app.start_workflow(gives, good) for good in (True, False, True)]
    assert handles[0].get_result() == "fine"
    with pytest.raises(SerializationError):
        handles[1].get_result()
    assert handles[2].get_result() == "fine"


def test_pickle_is_there_for_who_asks_for_it(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step()
    def gives_a_function() -> Callable[..., Any]:
        return len

    @app.workflow()
    def calls() -> int:
        function = gives_a_function()
        app.sleep(1)
        return int(function("abc"))

    dbos_test_app(app, serializer="pickle")
    assert calls() == 3


def test_a_durable_operation_from_a_thread_of_its_own_is_refused(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def step() -> int:
        return 1

    @app.workflow()
    async def calls_from_a_thread() -> int:
        return await asyncio.to_thread(step)

    dbos_test_app(app)
    with pytest.raises(DBOSException, match="from a thread that the engine did not start"):
        app.retrieve_workflow(asyncio.run(_started(app, calls_from_a_thread))).get_result()


def test_what_history_shows_of_a_step(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.step(name="first")
    def one() -> int:
        dbos.clock.move_to(dbos.clock.now_ms() + 5)
        return 1

    @app.workflow()
    def calls() -> None:
        one()
        app.run_step({"name": "second"}, lambda: 2)

    dbos = dbos_test_app(app)
    handle = app.start_workflow(calls)
    handle.get_result()
    first, second = app.list_workflow_steps(handle.workflow_id)
    assert (first.function_id, first.function_name, first.output) == (1, "first", 1)
    assert (second.function_id, second.function_name, second.output) == (2, "second", 2)
    assert first.started_at_epoch_ms is not None
    assert first.completed_at_epoch_ms == first.started_at_epoch_ms + 5


def test_a_step_within_a_step_is_a_plain_call_and_starts_nothing(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.step()
    def inner() -> int:
        return 1

    @app.workflow()
    def child() -> None: ...

    @app.step()
    def outer() -> int:
        with pytest.raises(DBOSException, match="from within a step"):
            app.start_workflow(child)
        with pytest.raises(DBOSException, match="within a step"):
            app.sleep(1)
        return inner()

    @app.workflow()
    def calls() -> int:
        return outer()

    dbos_test_app(app)
    handle = app.start_workflow(calls)
    assert handle.get_result() == 1
    assert len(app.list_workflow_steps(handle.workflow_id)) == 1
