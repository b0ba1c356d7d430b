"""A name belongs to one function: what cannot be told apart is refused where it is declared, a reload is no second one."""

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbos_events import App, KafkaMessage
from dbos_events.errors import RegistrationError
from dbos_events.testing.plugin import MakeTestApp
from tests.conftest import unique_name

Declare = Callable[[App, Any], Any]

DECLARATIONS: dict[str, Declare] = {
    "workflow": lambda app, function: app.workflow()(function),
    "step": lambda app, function: app.step()(function),
    "consumer": lambda app, function: app.kafka_consumer(None, "orders", name=unique_name("c"))(function),
}


@pytest.fixture
def app() -> App:
    return App({"name": "names"})


@pytest.fixture(params=sorted(DECLARATIONS))
def declare(request: pytest.FixtureRequest) -> Declare:
    return DECLARATIONS[request.param]


def made(factor: int) -> Callable[[Any], Any]:
    def scale(number: Any) -> Any:
        return number * factor

    return scale


def made_with_default(factor: int) -> Callable[..., Any]:
    def scale(number: Any, by: Any = factor) -> Any:
        return number * by

    return scale


def made_async(factor: int) -> Callable[..., Any]:
    async def scale(number: Any) -> Any:
        return number * factor

    return scale


def a_method_of_a_new_class(factor: int) -> Callable[..., Any]:
    class Shop:
        def scale(self, number: Any) -> Any:
            return number * factor

    return Shop().scale


class Shop:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def scale(self, number: Any) -> Any:
        return number * self.factor


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


PAIRS: dict[str, Callable[[int], Callable[..., Any]]] = {
    "closures": made,
    "closures behind a decorator": lambda factor: logged(made(factor)),
    "functions with other defaults": made_with_default,
    "async closures": made_async,
    "methods of two classes of one name": a_method_of_a_new_class,
    "one method of two objects": lambda factor: Shop(factor).scale,
    "lambdas of one factory": lambda factor: lambda number: number * factor,
}


@pytest.mark.parametrize("kind", PAIRS)
def test_two_that_share_a_name_are_refused_where_the_second_is_declared(
    kind: str, declare: Declare, app: App
) -> None:
    declare(app, PAIRS[kind](2))
    with pytest.raises(RegistrationError, match=r"name=\.\.\."):
        declare(app, PAIRS[kind](3))


def test_two_lambdas_of_one_module_are_refused(declare: Declare, app: App) -> None:
    declare(app, lambda number: number)
    with pytest.raises(RegistrationError, match="<lambda>"):
        declare(app, lambda number: number + 1)


def test_two_functions_of_one_name_in_one_module_are_refused(app: App, tmp_path: Path) -> None:
    code = compile(
        "def handle(x):\n    return 1\n\ndef again():\n    def handle(x):\n        return 2\n    return handle",
        "m.py",
        "exec",
    )
    names: dict[str, Any] = {"__name__": "m", "__file__": "m.py"}
    exec(code, names)  # noqa: S102 - a module of its own
    first, second = names["handle"], names["again"]()
    second.__qualname__ = "handle"
    app.workflow()(first)
    with pytest.raises(RegistrationError, match=r"m\.py:1.*m\.py:5"):
        app.workflow()(second)


@pytest.mark.parametrize("kind", ["closures", "async closures", "lambdas of one factory"])
def test_with_names_of_their_own_each_runs_as_itself(kind: str, app: App, dbos_test_app: MakeTestApp) -> None:
    workflows = [app.workflow(name=f"times {factor}")(PAIRS[kind](factor)) for factor in (2, 3)]
    dbos = dbos_test_app(app)
    handles = [app.start_workflow(each, 10) for each in workflows]
    dbos.run_until_idle()
    assert [handle.get_result() for handle in handles] == [20, 30]


def test_handlers_that_one_function_makes_run_with_names_of_their_own(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    def consumer(region: str) -> Any:
        @app.kafka_consumer(None, f"orders-{region}", name=f"on_{region}")
        @app.workflow(name=f"on_{region}")
        def handle(message: KafkaMessage[bytes]) -> str:
            return region

        return handle

    north, south = consumer("north"), consumer("south")
    dbos = dbos_test_app(app)
    assert [dbos.deliver(each, b"x").get_result() for each in (north, south)] == ["north", "south"]


# ------------------------------------------------------------------ the same one again


def test_the_same_function_may_come_again(app: App) -> None:
    function = made(2)
    for _ in range(2):
        app.workflow()(function)
        app.workflow(name="other")(function)


def test_one_function_that_was_declared_twice_alike_may_come_again(app: App) -> None:
    def declare() -> None:
        @app.step()
        def nothing() -> None: ...

    declare()
    declare()


def test_one_handler_may_read_two_topics_as_two_consumers(app: App, dbos_test_app: MakeTestApp) -> None:
    def handle(message: KafkaMessage[bytes]) -> str:
        return message.topic

    app.kafka_consumer(None, "a", name="a")(handle)
    app.kafka_consumer(None, "b", name="b")(handle)
    assert [one.options.name for one in app.consumers] == ["a", "b"]


PROGRAM = """
from dbos_events import App, KafkaMessage
from %s import app

@app.step()
def charge() -> int:
    return %d

@app.workflow()
def order() -> int:
    return charge()

@app.kafka_consumer(None, "orders", name="orders")
def on_order(message: KafkaMessage) -> int:
    return order()
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A module with an App, and one that declares on it."""
    apps, program = unique_name("apps"), unique_name("program")
    (tmp_path / f"{apps}.py").write_text("from dbos_events import App\napp = App({'name': 'reloaded'})\n")
    (tmp_path / f"{program}.py").write_text(PROGRAM % (apps, 1))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return apps, program


@pytest.mark.parametrize("edited", ["not at all", "longer"])
def test_what_a_reload_declares_again_replaces_what_was_there(
    edited: str, modules: tuple[str, str], tmp_path: Path, dbos_test_app: MakeTestApp
) -> None:
    apps, program = modules
    module = importlib.import_module(program)
    if edited == "longer":
        (tmp_path / f"{program}.py").write_text("# changed\n" * 30 + PROGRAM % (apps, 2))
    importlib.reload(module)
    app = sys.modules[apps].app
    assert [one.options.name for one in app.consumers] == ["orders"]
    dbos = dbos_test_app(app)
    assert dbos.deliver(module.on_order, b"x").get_result() == (2 if edited == "longer" else 1)


def test_a_module_that_is_imported_anew_replaces_what_was_there(
    modules: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apps, program = modules
    importlib.import_module(program)
    monkeypatch.delitem(sys.modules, program)
    importlib.import_module(program)
    assert len(sys.modules[apps].app.consumers) == 1


def test_a_module_that_is_executed_beside_itself_is_told_that_it_was_loaded_twice(
    modules: tuple[str, str], tmp_path: Path
) -> None:
    _, program = modules
    importlib.import_module(program)
    spec = importlib.util.spec_from_file_location(program, tmp_path / f"{program}.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(RegistrationError, match="was loaded twice"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_another_file_under_the_name_of_the_module_is_another(
    modules: tuple[str, str], tmp_path: Path
) -> None:
    apps, program = modules
    importlib.import_module(program)
    other = tmp_path / "elsewhere.py"
    other.write_text(PROGRAM % (apps, 2))
    spec = importlib.util.spec_from_file_location(program, other)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(RegistrationError, match=r"elsewhere\.py"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_program_that_imports_itself_is_told_that_it_was_loaded_twice(
    modules: tuple[str, str], tmp_path: Path
) -> None:
    _, program = modules
    with (tmp_path / f"{program}.py").open("a") as file:
        file.write(f"\nif __name__ == '__main__':\n    import {program}\n")
    done = subprocess.run(
        [sys.executable, str(tmp_path / f"{program}.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "RegistrationError" in done.stderr
    assert "was loaded twice" in done.stderr
