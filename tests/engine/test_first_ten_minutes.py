"""What somebody does wrong in the first ten minutes, and what they are told."""

import asyncio
import inspect
import logging
import re
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbos_events import App, KafkaMessage, SetWorkflowID
from dbos_events.errors import RegistrationError, SerializationError, UnknownOption
from dbos_events.model.event import Ordering
from dbos_events.settings import read_settings
from dbos_events.testing.plugin import MakeTestApp

# ------------------------------------------------------------------ the line that failed


def test_the_traceback_ends_in_the_users_line_wherever_the_workflow_ran(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})

    @app.workflow()
    def order() -> None:
        raise ValueError("no such customer")  # the line

    dbos_test_app(app)
    with SetWorkflowID("A1"), pytest.raises(ValueError, match="no such customer"):
        order()
    with pytest.raises(ValueError, match="no such customer") as raised:
        app.retrieve_workflow("A1").get_result()

    shown = "".join(traceback.format_exception(raised.value))
    assert 'raise ValueError("no such customer")  # the line' in shown
    last = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert (Path(last.filename).name, last.name) == (Path(__file__).name, "order")
    assert raised.traceback[-1].path == Path(__file__), "pytest points at it, too"


def test_the_line_of_a_handler_is_shown_where_a_test_asks_for_its_result(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})

    @app.step()
    def charge() -> None:
        raise TimeoutError("the bank")  # in the step

    @app.kafka_consumer(topics=["orders"], breaker=None)
    def on_order(_message: KafkaMessage[bytes]) -> None:
        charge()

    dbos = dbos_test_app(app)
    with pytest.raises(TimeoutError) as raised:
        dbos.deliver(on_order, "1").get_result()
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert names[-2:] == ["on_order", "charge"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no traceback",
        'Traceback (most recent call last):\n  File "a\0b", line 1, in f\n',
        'Traceback (most recent call last):\n  File "x", line 99999999999999999999, in f\n',
    ],
)
def test_a_text_that_is_no_traceback_gives_none(text: str) -> None:
    from dbos_events.serialization.tracebacks import rebuilt

    assert rebuilt(text) is None


# ------------------------------------------------------------------ decorators


@pytest.mark.parametrize("verb", ["workflow", "step", "kafka_consumer"])
def test_a_decorator_without_brackets_is_told(verb: str) -> None:
    def order() -> None: ...

    with pytest.raises(
        UnknownOption, match=rf"@DBOS\.{verb} was put on order without brackets.*@DBOS\.{verb}\(\)"
    ):
        getattr(App({"name": "shop"}), verb)(order)


@pytest.mark.parametrize(
    ("verb", "option", "meant"),
    [
        ("workflow", "nam", "name"),
        ("step", "max_attemps", "max_attempts"),
        ("kafka_consumer", "topic", "topics"),
        ("kafka_consumer", "Ordering", "ordering"),
    ],
)
def test_an_option_that_is_misspelt_is_told_with_the_nearest(verb: str, option: str, meant: str) -> None:
    with pytest.raises(RegistrationError, match=rf"no option '{option}'. Did you mean {meant}\?") as raised:
        getattr(App({"name": "shop"}), verb)(**{option: "x"})
    assert isinstance(raised.value, TypeError), "as Python's own answer"


def test_an_option_that_is_like_none_is_told_with_all_that_there_are() -> None:
    with pytest.raises(UnknownOption, match=r"There are name, max_recovery_attempts"):
        App({"name": "shop"}).workflow(zzz=1)  # type: ignore[call-arg]


def test_a_consumer_over_a_step_is_refused() -> None:
    app = App({"name": "shop"})

    @app.step()
    def on_order(_message: KafkaMessage[bytes]) -> None: ...

    with pytest.raises(
        RegistrationError, match=r"on_order is a step, and a consumer's handler is a workflow"
    ):
        app.kafka_consumer(topics=["orders"])(on_order)


@pytest.mark.parametrize(
    "limiter", [{"limit": 3}, {"period": 3}, {"limit": 3, "perod": 1}, {"limit": "3", "period": 1}, 5]
)
def test_a_limiter_that_lacks_something_is_told_with_what_it_looks_like(limiter: Any) -> None:
    with pytest.raises(RegistrationError, match=r'limiter needs a limit.*\{"limit": 10, "period": 60\}; not'):
        App({"name": "shop"}).queue("q", limiter=limiter)


@pytest.mark.parametrize(
    ("topic", "meant"),
    [
        ("or ders", "or-ders"),
        ("orders/new", "orders-new"),
        ("", None),
        ("..", None),
        ("x" * 250, "x" * 249),
        (7, None),
    ],
)
def test_a_name_that_no_topic_can_have_is_told_with_one_that_it_can(topic: Any, meant: str | None) -> None:
    app = App({"name": "shop"})
    with pytest.raises(RegistrationError, match="topic") as raised:

        @app.kafka_consumer(topics=[topic])
        def on_order(_message: KafkaMessage[bytes]) -> None: ...

    assert (f"Did you mean {meant!r}?" in raised.value.message) == (meant is not None)


# ------------------------------------------------------------------ values


async def helper() -> int:
    return 1


def test_what_cannot_be_stored_is_told_with_its_workflow_and_step(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})
    made: list[Any] = []

    @app.step()
    def charge(what: str) -> Any:
        if what == "object":
            return object()
        made.append(helper())
        return made[-1:]

    @app.workflow()
    def order(what: Any) -> Any:
        return charge(what) if what != "own" else object()

    dbos_test_app(app)

    def told(what: Any) -> str:
        with SetWorkflowID(f"order-{what!r}"[:30]), pytest.raises(SerializationError) as raised:
            order(what)
        return raised.value.message

    assert told("object").startswith(
        f"What step {charge.__qualname__} (number 1) of workflow order-'object' returned"
    )
    assert "Was `await` forgotten" in told("coroutine")
    assert "await" not in told("own")
    assert told("own").startswith(
        f"What the workflow {order.__qualname__} (order-'own') returned cannot be stored"
    )
    assert told(object()).startswith(f"What the workflow {order.__qualname__} (order-<object object")
    assert "was called with" in told(object())
    for coroutine in made:
        coroutine.close()


def test_a_coroutine_that_was_never_awaited_carries_the_name_of_its_verb(dbos_test_app: MakeTestApp) -> None:
    app = App({"name": "shop"})

    @app.step()
    async def charge() -> int:
        return 1

    @app.workflow()
    async def other() -> None: ...

    @app.workflow()
    async def order() -> list[str]:
        forgotten: list[Any] = [charge(), app.sleep_async(1), other()]
        names = [one.__qualname__ for one in forgotten]
        for one in forgotten:
            one.close()
        return names

    dbos_test_app(app)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert asyncio.run(order()) == [charge.__qualname__, "DBOS.sleep_async", other.__qualname__]  # type: ignore[arg-type]


# ------------------------------------------------------------------ settings


def test_a_variable_that_means_nothing_is_told_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DBOS_EVENTS_EXECUTER_ID", "me")
    monkeypatch.setenv("DBOS_EVENTS_KAFFKA__BOOTSTRAP_SERVERS", "x:1")
    monkeypatch.setenv("DBOS_EVENTS_KAFKA__CLIENT_ID", "fine")
    monkeypatch.setenv("DBOS_EVENTS_LEASE_SECONDS", "11")
    caplog.set_level(logging.WARNING, logger="dbos_events")
    read_settings({"name": "shop"})
    read_settings({"name": "shop"})

    first, second = caplog.messages
    assert "DBOS_EVENTS_EXECUTER_ID is set and has no effect. Did you mean DBOS_EVENTS_EXECUTOR_ID?" in first
    assert "Did you mean DBOS_EVENTS_KAFKA__BOOTSTRAP_SERVERS?" in second


# ------------------------------------------------------------------ docstrings


def options_of(verb: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(verb).parameters if name != "self"]


@pytest.mark.parametrize("verb", [App.kafka_consumer])
def test_the_docstring_tells_every_option_and_no_other(verb: Callable[..., Any]) -> None:
    text = inspect.getdoc(verb) or ""
    section = text.partition("Args:\n")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^    (\w+): ", section, re.MULTILINE)) == sorted(options_of(verb))


def test_the_docstring_tells_every_ordering() -> None:
    text = inspect.getdoc(App.kafka_consumer) or ""
    for ordering in Ordering.__args__:  # type: ignore[attr-defined]
        assert f'"{ordering}"' in text
