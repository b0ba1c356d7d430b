"""A row may name any class. Reading it imports nothing, constructs nothing and asks no module for anything."""

import enum
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dbos_events import App
from dbos_events.errors import RecordedError, SerializationError
from dbos_events.serialization import decode, encode
from dbos_events.serialization.errors_codec import decode_error, encode_error
from tests.conftest import unique_name

ran: list[str] = []


def error_node(name: str, **more: Any) -> str:
    return json.dumps(
        {"$": "error", "t": name, "n": "shop.Refused", "m": "no stock", "args": [], "state": {}, **more}
    )


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that could be imported, and tells when it was."""
    name = unique_name("stranger")
    (tmp_path / f"{name}.py").write_text(
        "from dataclasses import dataclass\nfrom enum import Enum\n"
        "import sys\nsys.stranger_ran = True\n"
        "@dataclass\nclass Thing:\n    x: int = 1\n"
        "class Kind(Enum):\n    A = 1\n"
        "class Broken(Exception):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize(
    "node",
    [
        {"$": "dataclass", "t": "{}:Thing", "v": {"x": 2}},
        {"$": "enum", "t": "{}:Kind", "v": "A"},
        {"$": "flag", "t": "{}:Kind", "v": 1},
        {"$": "namedtuple", "t": "{}:Thing", "v": {}},
        {"$": "model", "t": "{}:Thing", "v": {}, "s": []},
        {"$": "url", "t": "{}:Thing", "v": "http://x"},
    ],
    ids=lambda node: node["$"],
)
def test_a_value_of_a_class_that_is_not_loaded_is_an_error_that_says_so(
    stranger: str, node: dict[str, Any]
) -> None:
    node = {**node, "t": node["t"].format(stranger)}
    with pytest.raises(SerializationError, match=f"{stranger}.*is not loaded in this process"):
        decode(json.dumps({"deep": [node]}))
    assert stranger not in sys.modules
    assert not hasattr(sys, "stranger_ran")


@pytest.mark.parametrize("module", ["antigravity", "{}", "{}.deeper", "this"])
def test_an_error_of_a_class_that_is_not_loaded_keeps_its_name_and_message(
    stranger: str, module: str
) -> None:
    found = decode_error(error_node(f"{module.format(stranger)}:Broken"))
    assert type(found) is RecordedError
    assert (found.type_name, found.recorded_message) == ("shop.Refused", "no stock")
    assert module.format(stranger) not in sys.modules
    assert stranger not in sys.modules


def test_an_error_is_of_its_own_class_again_once_its_module_is_loaded(stranger: str) -> None:
    module = importlib.import_module(stranger)
    del sys.stranger_ran  # type: ignore[attr-defined]
    text = encode_error(module.Broken("no stock"))
    assert type(decode_error(text)) is module.Broken


def test_a_cause_that_is_not_found_leaves_the_error_itself_as_it_is(stranger: str) -> None:
    text = error_node(
        "builtins:ValueError", args=["outer"], cause=json.loads(error_node(f"{stranger}:Broken"))
    )
    found = decode_error(text)
    assert type(found) is ValueError
    assert type(found.__cause__) is RecordedError


# ------------------------------------------------------------------ the application's own packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package whose workflows are registered, and whose models nobody has imported yet."""
    name = unique_name("package")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "flows.py").write_text("def handle() -> None: ...\n")
    (folder / "models.py").write_text("class Late(Exception):\n    pass\n")
    (folder / "__main__.py").write_text("class Late(Exception):\n    pass\n")
    (folder / "broken.py").write_text("raise OSError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_module_of_a_package_with_workflows_is_imported_when_a_row_names_it(package: str) -> None:
    flows = importlib.import_module(f"{package}.flows")
    text = error_node(f"{package}.models:Late")
    assert type(decode_error(text)) is RecordedError
    App().workflow()(flows.handle)
    assert type(decode_error(text)) is sys.modules[f"{package}.models"].Late


@pytest.mark.parametrize("module", ["__main__", "broken", "nowhere"])
def test_what_is_a_program_or_cannot_be_imported_is_not_found(package: str, module: str) -> None:
    App().step()(importlib.import_module(f"{package}.flows").handle)
    assert type(decode_error(error_node(f"{package}.{module}:Late"))) is RecordedError
    assert f"{package}.{module}" not in sys.modules


# ------------------------------------------------------------------ nothing runs on the way


class Proxy:
    """Says that it is a class when it is asked, as lazy imports do."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        ran.append("__class__")
        return type


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        ran.append("metaclass __call__")
        return super().__call__(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        ran.append(f"metaclass __getattr__ {name}")
        raise AttributeError(name)


class Watched(Exception, metaclass=Meta):
    def __init__(self, *args: Any) -> None:
        ran.append("__init__")
        super().__init__(*args)

    def __setattr__(self, name: str, value: object) -> None:
        ran.append("__setattr__")
        super().__setattr__(name, value)

    def __setstate__(self, state: object) -> None:
        ran.append("__setstate__")


class Rebuilt(Exception):
    """It says itself how to make it, from a number."""

    def __init__(self, number: int) -> None:
        ran.append("__init__")
        super().__init__(number)

    def __reduce__(self) -> Any:
        return Rebuilt, (7,)


class Colour(enum.Flag):
    RED = 1
    BLUE = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        ran.append("_missing_")
        return super()._missing_(value)


@dataclass
class Checked:
    number: int

    def __post_init__(self) -> None:
        ran.append("__post_init__")

    def __getattribute__(self, name: str) -> Any:
        ran.append(f"__getattribute__ {name}")
        return super().__getattribute__(name)


HERE = __name__


@pytest.mark.parametrize(
    "call", [{}, {"call": {"args": [], "state": {}}}, {"call": {"args": [1], "state": {"a": 1}}}]
)
def test_no_constructor_of_an_exception_runs_that_does_not_ask_for_it(call: dict[str, Any]) -> None:
    found = decode_error(
        error_node(
            f"{HERE}:Watched", args=["no stock"], cause=json.loads(error_node("builtins:OSError")), **call
        )
    )
    assert type(found) is Watched
    assert (found.args, type(found.__cause__)) == (("no stock",), OSError)
    assert ran == []


@pytest.mark.parametrize("args", [[], [1, 2], ["a", "b", "c"]])
def test_one_that_asks_for_it_does_not_run_with_arguments_that_it_does_not_take(args: list[Any]) -> None:
    found = decode_error(error_node(f"{HERE}:Rebuilt", call={"args": args, "state": {}}, args=[7]))
    assert (type(found), found.args) == (Rebuilt, (7,))
    assert ran == []


@pytest.mark.parametrize("value", [99, "RED", None, 1.0, [1]])
def test_a_flag_is_found_without_code_of_its_class(value: object) -> None:
    assert decode(json.dumps({"$": "flag", "t": f"{HERE}:Colour", "v": 3})) == Colour.RED | Colour.BLUE
    ran.clear()
    with pytest.raises(SerializationError):
        decode(json.dumps({"$": "flag", "t": f"{HERE}:Colour", "v": value}))
    assert ran == []


def test_a_dataclass_is_filled_without_code_of_its_class() -> None:
    text = encode(Checked(5))
    ran.clear()
    found: Any = decode(text)
    assert ran == []
    assert found.number == 5


@pytest.mark.parametrize("name", [f"{HERE}:a_proxy", f"{HERE}:Watched.missing", f"{HERE}:a_proxy.inner"])
def test_what_only_says_that_it_is_a_class_is_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "a_proxy", Proxy())
    for tag in ("dataclass", "enum", "namedtuple", "model"):
        with pytest.raises(SerializationError):
            decode(json.dumps({"$": tag, "t": name, "v": {}, "s": []}))
    assert type(decode_error(error_node(name))) is RecordedError
    assert ran == []


class AskedModule(ModuleType):
    """Loads something when it is asked for anything, as lazy modules do."""

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__spec__", "__class__"):  # the machinery of imports asks for these
            ran.append(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("kind", ["module", "__getattr__", "no module"])
def test_no_module_is_asked_for_what_it_does_not_hold(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = unique_name("lazy")
    module: Any = AskedModule(name) if kind == "module" else ModuleType(name)
    if kind == "__getattr__":
        vars(module)["__getattr__"] = ran.append
    monkeypatch.setitem(sys.modules, name, 5 if kind == "no module" else module)  # type: ignore[arg-type]
    ran.clear()
    assert type(decode_error(error_node(f"{name}:Broken"))) is RecordedError
    with pytest.raises(SerializationError):
        decode(json.dumps({"$": "dataclass", "t": f"{name}:Broken", "v": {}}))
    assert ran == []
