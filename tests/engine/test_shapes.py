"""Functions of every shape that Python has: each runs its body, or is refused where it is declared."""

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import math
import operator
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.errors import RegistrationError
from dbos_events.model.workflow import ERROR, SUCCESS
from dbos_events.testing.plugin import MakeTestApp

RAN: list[Any] = []
"""Offsets of the events, and arguments of the steps, whose body ran."""


@pytest.fixture(autouse=True)
def _none_ran() -> None:
    RAN.clear()


@pytest.fixture
def app() -> App:
    return App({"name": "shapes"})


def note(value: Any) -> str:
    RAN.append(getattr(value, "offset", value))
    return "done"


def plain(message: KafkaMessage) -> str:
    return note(message)


async def asynchronous(message: KafkaMessage) -> str:
    await asyncio.sleep(0)
    return note(message)


# -- what users make of functions -----------------------------------------------------------------


def timed(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def without_wraps(function: Any) -> Any:
    def wrapper(message: KafkaMessage) -> Any:
        return function(message)

    return wrapper


def bridged(function: Any) -> Any:
    """Runs an async function by itself."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return asyncio.run(function(*args))

    return wrapper


@contextlib.contextmanager
def span() -> Iterator[None]:
    yield


class Handler:
    def __call__(self, message: KafkaMessage) -> str:
        return plain(message)


class AsyncCallable:
    async def __call__(self, message: KafkaMessage) -> str:
        return await asynchronous(message)


class Shop:
    def handle(self, message: KafkaMessage) -> str:
        return plain(message)

    async def handle_async(self, message: KafkaMessage) -> str:
        return await asynchronous(message)

    @classmethod
    async def of_class(cls, message: KafkaMessage) -> str:
        return await asynchronous(message)

    @staticmethod
    def static(message: KafkaMessage) -> Any:
        return asynchronous(message)


@types.coroutine
def by_generator(message: KafkaMessage) -> Any:
    yield from asyncio.sleep(0).__await__()
    return note(message)


def dispatched() -> Any:
    @functools.singledispatch
    def handle(message: Any) -> Any:
        raise NotImplementedError

    handle.register(KafkaMessage, asynchronous)
    handle.register(str, asynchronous)

    return handle


class Later:
    """An awaitable of somebody's own."""

    def __init__(self, message: KafkaMessage) -> None:
        self._message = message

    def __await__(self) -> Any:
        return asynchronous(self._message).__await__()


def gives_its_own(message: KafkaMessage) -> Any:
    return Later(message)


def marked() -> Any:
    def handle(message: KafkaMessage) -> Any:
        return asynchronous(message)

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(handle)
    else:
        handle._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return handle


def two_arguments(message: KafkaMessage, more: str) -> Any:
    return asynchronous(message)


async def async_with_more(message: KafkaMessage, more: str) -> str:
    return await asynchronous(message)


WORKS: dict[str, Callable[[], Any]] = {
    "plain": lambda: plain,
    "async": lambda: asynchronous,
    "wraps around async": lambda: timed(asynchronous),
    "wraps twice": lambda: timed(timed(asynchronous)),
    "wraps around plain": lambda: timed(plain),
    "contextmanager around async": lambda: span()(asynchronous),
    "no wraps around async": lambda: without_wraps(asynchronous),
    "asyncio.run within": lambda: bridged(asynchronous),
    "partial": lambda: functools.partial(two_arguments, more="x"),
    "partial of async": lambda: functools.partial(async_with_more, more="x"),
    "partial of wraps": lambda: functools.partial(timed(async_with_more), more="x"),
    "object": Handler,
    "async object": AsyncCallable,
    "bound": lambda: Shop().handle,
    "async bound": lambda: Shop().handle_async,
    "classmethod": lambda: Shop.of_class,
    "staticmethod": lambda: Shop.static,
    "types.coroutine": lambda: by_generator,
    "singledispatch": dispatched,
    "own awaitable": lambda: gives_its_own,
    "marked": marked,
    "lambda": lambda: lambda message: asynchronous(message),  # noqa: PLW0108 - it is the shape
}


@pytest.mark.parametrize("shape", WORKS)
def test_the_body_of_a_handler_runs_and_its_value_is_recorded(
    app: App, dbos_test_app: MakeTestApp, shape: str
) -> None:
    handler = app.kafka_consumer(topics=["orders"], name="orders")(WORKS[shape]())
    dbos = dbos_test_app(app)
    handles = [dbos.deliver(handler, b"x") for _ in range(2)]
    dbos.run_until_idle()
    stati = [handle.get_status() for handle in handles]
    assert [(status.status, status.output) for status in stati] == [(SUCCESS, "done")] * 2, stati[0].error
    assert RAN == [0, 1]


@pytest.mark.parametrize("shape", WORKS)
def test_a_workflow_of_any_shape_is_started_from_a_thread_and_from_a_loop(
    database_url: str, shape: str
) -> None:
    app = App({"name": "shapes", "system_database_url": database_url})
    workflow = app.workflow(name="of any shape")(WORKS[shape]())
    awaited = may_be_awaited(shape)

    async def main() -> Any:
        return await (await app.start_workflow_async(workflow, "c")).get_result()

    app.launch()
    try:
        assert app.start_workflow(workflow, "a").get_result() == "done"
        if not awaited:
            assert workflow("b") == "done"
        assert asyncio.run(main()) == "done"
    finally:
        app.destroy()
    assert ["a", *([] if awaited else ["b"]), "c"] == RAN


def may_be_awaited(shape: str) -> bool:
    return inspect.isawaitable(_given(WORKS[shape]()))


def _given(function: Any) -> Any:
    try:
        given = function(KafkaMessage([], None, None, None, 0, 0, (0, 0), "orders", b"x"))
    except Exception:  # noqa: BLE001 - it cannot be called here
        return None
    if inspect.iscoroutine(given):
        given.close()
    RAN.clear()
    return given


@pytest.mark.parametrize(
    "shape", ["async", "wraps around async", "no wraps around async", "async bound", "own awaitable"]
)
def test_what_is_awaited_without_us_is_awaited_with_us(database_url: str, shape: str) -> None:
    """A direct call, of a workflow and of a step in one, on a running loop."""
    app = App({"name": "shapes", "system_database_url": database_url})
    workflow = app.workflow(name="called")(WORKS[shape]())
    step = app.step(name="step")(WORKS[shape]())

    @app.workflow()
    async def parent() -> list[Any]:
        return [await step("in a step"), await workflow("as a child"), await asyncio.gather(step(1), step(2))]

    async def main() -> Any:
        return [await workflow("called"), await parent()]

    app.launch()
    try:
        assert asyncio.run(main()) == ["done", ["done", "done", ["done", "done"]]]
        assert sorted(map(str, RAN)) == ["1", "2", "as a child", "called", "in a step"]
        [parents] = app.list_workflows(name=parent.__qualname__)
        assert [one.function_name for one in app.list_workflow_steps(parents.workflow_id)].count("step") == 3
    finally:
        app.destroy()


def of_another_loop(message: KafkaMessage) -> Any:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    return future


def gives_a_generator(message: KafkaMessage) -> Any:
    return (note(message) for _ in range(1))


def gives_an_async_generator(message: KafkaMessage) -> Any:
    async def generate() -> Any:
        yield note(message)

    return generate()


async def awaits_a_generator(message: KafkaMessage) -> Any:
    return (note(message) for _ in range(1))


def gives_a_plain_future(message: KafkaMessage) -> Any:
    return concurrent.futures.Future()


def makes_a_task(message: KafkaMessage) -> Any:
    return asyncio.get_running_loop().create_task(asynchronous(message))


@pytest.mark.parametrize(
    "handler",
    [
        of_another_loop, gives_a_generator, gives_an_async_generator, awaits_a_generator, gives_a_plain_future,
        makes_a_task, span, timed(gives_a_generator),
    ],
    ids=["another loop's", "generator", "async generator", "generator by async", "future", "task", "span", "wraps"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_cannot_be_awaited_here_is_never_a_success(
    app: App, dbos_test_app: MakeTestApp, handler: Any
) -> None:
    def shape(message: KafkaMessage) -> Any:
        return handler() if handler is span else handler(message)

    decorated = app.kafka_consumer(topics=["orders"])(asynchronously(shape, handler))
    dbos = dbos_test_app(app)
    handle = dbos.deliver(decorated, b"x")
    dbos.run_until_idle()
    assert handle.get_status().status == ERROR
    assert RAN == []


def asynchronously(shape: Any, handler: Any) -> Any:
    if not inspect.iscoroutinefunction(handler):
        return shape

    async def wrapper(message: KafkaMessage) -> Any:
        return await handler(message)

    return wrapper


# -- what is refused ------------------------------------------------------------------------------


def generates(message: KafkaMessage) -> Any:
    yield note(message)


async def generates_async(message: KafkaMessage) -> Any:
    yield note(message)


class Instances:
    def __init__(self, message: KafkaMessage) -> None: ...


class Generates:
    def __call__(self, message: KafkaMessage) -> Any:
        yield note(message)


REFUSED: dict[str, tuple[Any, str]] = {
    "a generator": (generates, "Return a value instead of yielding"),
    "an async generator": (generates_async, "Return a value instead of yielding"),
    "a generating object": (Generates(), "Return a value instead of yielding"),
    "a partial of a generator": (functools.partial(generates), "Return a value instead of yielding"),
    "a class": (Instances, "Decorate a function"),
    "a staticmethod object": (staticmethod(plain), "Put @staticmethod above"),
    "a classmethod object": (
        classmethod(Shop.of_class.__func__),  # type: ignore[attr-defined]
        "Put @classmethod above",
    ),
    "a partialmethod": (functools.partialmethod(plain), "Decorate the function within"),
    "a property": (property(plain), "Decorate the function within"),
    "no function": (7, "Decorate the function within"),
    "a cache": (functools.lru_cache(plain), "Take the cache away"),
    "a cache around async": (functools.lru_cache(asynchronous), "Take the cache away"),
    "a cache within": (timed(functools.cache(asynchronous)), "Take the cache away"),
}


@pytest.mark.parametrize("shape", REFUSED)
@pytest.mark.parametrize("kind", ["workflow", "consumer"])
def test_a_handler_whose_body_would_not_run_is_refused(app: App, kind: str, shape: str) -> None:
    function, advice = REFUSED[shape]
    decorator = (
        app.workflow(name="it") if kind == "workflow" else app.kafka_consumer(topics=["orders"], name="it")
    )
    with pytest.raises(RegistrationError, match=advice):
        decorator(function)
    assert app.registry.workflows == {}


@pytest.mark.parametrize(
    "function",
    [generates, generates_async, staticmethod(plain), functools.lru_cache(asynchronous)],
    ids=["generator", "async generator", "staticmethod", "cache"],
)
def test_a_step_whose_body_would_not_run_is_refused(app: App, function: Any) -> None:
    with pytest.raises(RegistrationError):
        app.step(name="it")(function)


@pytest.mark.parametrize(
    "function",
    [functools.partial(plain), Handler(), AsyncCallable()],
    ids=["partial", "object", "async object"],
)
def test_what_has_no_name_of_its_own_needs_one(app: App, function: Any) -> None:
    for decorator in (app.workflow(), app.step(), app.kafka_consumer(topics=["orders"])):
        with pytest.raises(RegistrationError, match="name="):
            decorator(function)


def test_a_decorator_between_a_workflow_and_its_consumer_is_refused(app: App) -> None:
    with pytest.raises(RegistrationError, match=r"below @DBOS.workflow"):
        app.kafka_consumer(topics=["orders"])(timed(app.workflow()(plain)))


def test_functions_written_in_c_and_cached_ones_are_steps(app: App, dbos_test_app: MakeTestApp) -> None:
    root = app.step(name="root")(math.sqrt)
    cached = app.step(name="cached")(functools.lru_cache(abs))

    @app.workflow()
    def workflow() -> list[float]:
        return [root(16.0), cached(-2), app.run_step(None, int, "7"), app.run_step(None, operator.add, 1, 2)]

    dbos_test_app(app)
    assert app.start_workflow(workflow).get_result() == [4.0, 2, 7, 3]


def test_a_step_that_nothing_can_await_is_an_error_and_not_a_value(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    step = app.step(name="step")(without_wraps(asynchronous))

    @app.workflow()
    def workflow() -> Any:
        return step(1)

    @app.workflow()
    def runs() -> Any:
        return app.run_step(None, asynchronous, 1)  # type: ignore[arg-type]

    dbos_test_app(app)
    with pytest.raises(Exception, match="its body did not run"):
        app.start_workflow(workflow).get_result()
    with pytest.raises(RegistrationError, match="run_step_async"):
        app.start_workflow(runs).get_result()
    assert RAN == []


# -- what is asked while records are taken in -----------------------------------------------------


async def asks(message: KafkaMessage) -> bool:
    return True


def wonders(message: KafkaMessage) -> Any:
    yield True


class AsksAsync:
    async def __call__(self, message: KafkaMessage) -> bool:
        return True


SLOW: list[Any] = [
    asks, timed(asks), functools.partial(asks), timed(functools.partial(asks)), AsksAsync(), AsksAsync().__call__,
    wonders, functools.partial(wonders), functools.lru_cache(asks), 7,
]  # fmt: skip


@pytest.mark.parametrize("function", SLOW, ids=[str(number) for number in range(len(SLOW))])
@pytest.mark.parametrize("option", ["when", "ordering_key"])
def test_what_does_not_answer_at_once_is_refused(app: App, option: str, function: Any) -> None:
    more: dict[str, Any] = {"ordering": "key"} if option == "ordering_key" else {}
    with pytest.raises(RegistrationError, match=f"{option}.* (async|generator|not a function)"):
        app.kafka_consumer(topics=["orders"], **{option: function}, **more)(plain)


@pytest.mark.parametrize(
    "answer",
    [without_wraps(asks), without_wraps(wonders)],
    ids=["awaitable", "generator"],
)
def test_a_filter_that_gives_something_to_wait_for_is_not_a_yes(
    app: App, dbos_test_app: MakeTestApp, answer: Any
) -> None:
    handler = app.kafka_consumer(topics=["orders"], when=answer)(plain)
    dbos = dbos_test_app(app)
    handle = dbos.deliver(handler, b"x")
    dbos.run_until_idle()
    status = handle.get_status()
    assert (status.status, RAN) == (ERROR, [])
    assert "has to answer at once" in str(status.error)


def test_a_codec_that_gives_something_to_wait_for_is_not_a_value(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    class Slow:
        def decode(self, message: Any) -> Any:
            return asks(message)

    @app.kafka_consumer(topics=["orders"], codec=Slow())
    def handler(message: Any) -> str:
        return note(message)

    dbos = dbos_test_app(app)
    handle = dbos.deliver(handler, b"x")
    dbos.run_until_idle()
    assert (handle.get_status().status, RAN) == (ERROR, [])


@pytest.mark.parametrize(
    "should_retry", [asks, timed(asks), functools.partial(asks)], ids=["async", "wraps", "partial"]
)
def test_a_plain_step_is_not_asked_by_an_async_function_whether_to_try_again(
    app: App, should_retry: Any
) -> None:
    with pytest.raises(RegistrationError, match="should_retry"):
        app.step(retries_allowed=True, should_retry=should_retry)(plain)
