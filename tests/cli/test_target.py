"""TARGET names a module or a file, and an App in it; what is wrong with it is said in one line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbos_events import App
from dbos_events.cli.target import TargetError, load_app
from dbos_events.facade import default_app


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name, module in tuple(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)) or name.startswith("target_"):
            del sys.modules[name]  # not what the tests import for themselves: SQLAlchemy takes no second time


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


ONE = "from dbos_events import App\nshop = App({'name': 'shop'})\n"


@pytest.mark.parametrize("target", ["target_one:shop", "target_one.py:shop", "./target_one.py:shop"])
def test_an_app_is_named_behind_a_module_or_a_file(target: str) -> None:
    write("target_one.py", ONE)
    app = load_app(target)
    assert isinstance(app, App)
    assert app.config["name"] == "shop"


def test_a_file_in_a_package_is_imported_as_part_of_it() -> None:
    write("deep/target_package/__init__.py", "")
    write("deep/target_package/names.py", "NAME = 'nested'")
    text = "from dbos_events import App\nfrom .names import NAME\napp = App({'name': NAME})\n"
    write("deep/target_package/consumers.py", text)
    assert load_app("deep/target_package/consumers.py:app").config["name"] == "nested"
    assert "target_package.consumers" in sys.modules


def test_dbos_is_the_default_app() -> None:
    write("target_dbos.py", "from dbos_events import DBOS\n")
    assert load_app("target_dbos:DBOS") is default_app()


@pytest.mark.parametrize(
    ("target", "text", "message"),
    [
        ("target_none", None, "There is no module 'target_none' in "),
        ("target_none.py", None, "There is no file target_none.py."),
        ("target_a.py", "import target_gone", "No module named 'target_gone' (target_a.py, line 1)"),
        ("target_a.py", "\n1 / 0", "ZeroDivisionError: division by zero (target_a.py, line 2)"),
        ("target_a.py", "import json\njson.loads('{')", "(target_a.py, line 2)"),
        ("target_a.py", "x = (", "SyntaxError: '(' was never closed (target_a.py, line 1)"),
        ("target_a.py", "import sys\nsys.exit(3)", "it ends the process by itself (target_a.py, line 2)"),
        (
            "target_a.py:shap",
            ONE,
            "target_a.py:shap is nothing, not an App of dbos_events. Use target_a.py:shop.",
        ),
        ("target_a.py:x", "x = 1", "target_a.py:x is of type int, not an App"),
        (
            "target_a.py",
            "from dbos_events import App\nApp().kafka_consumer({}, [])(lambda message: None)",
            "names no topic: kafka_consumer(config, ['orders']). (target_a.py, line 2)",
        ),
        ("json.py", "x = 1", "json.py cannot be imported: another module is called 'json'. Rename the file."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(target: str, text: str | None, message: str) -> None:
    if text is not None:
        write(target.partition(":")[0], text)
    with pytest.raises(TargetError) as caught:
        load_app(target)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_program_that_launches_itself_while_the_database_is_down_is_told_to_leave_it(here: Path) -> None:
    config = {"system_database_url": "postgresql://me:secret@127.0.0.1:1/none"}
    write("target_own.py", f"from dbos_events import App\nApp({config!r}).launch()\n")
    with pytest.raises(TargetError, match=r"Leave DBOS.launch\(\) to `dbos-events run`"):
        load_app("target_own.py")
