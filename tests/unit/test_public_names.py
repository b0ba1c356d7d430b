"""The public names of the package: loaded with the first that is asked for, and as if they had been imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dbos_events
from dbos_events import public


def typed_names() -> list[str]:
    """What type checkers know of."""
    block = next(
        node for node in ast.parse(Path(public.__file__).read_text()).body if isinstance(node, ast.If)
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in imports for alias in node.names if alias.name != "*"]


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_package_alone_loads_next_to_nothing() -> None:
    program = (
        "import sys, dbos_events\n"
        "print([name for name in sys.modules if name.startswith('dbos_events.')], 'asyncio' in sys.modules)"
    )
    assert run(program) == "[] False\n"


def test_all_public_names_are_there_by_each_way_of_asking() -> None:
    names = typed_names()
    assert "DBOS" in names
    assert public.PLACES.keys() == {*names, *public.MESSAGES}
    for name in names:
        assert getattr(dbos_events, name) is getattr(public, name)
        assert name in dir(dbos_events)
    assert dbos_events.KafkaMessage.__name__ == "KafkaMessage", "one that a connector defines"
    assert (
        run("from dbos_events import *; print(DBOS.__name__, KafkaMessage.__name__)") == "DBOS KafkaMessage\n"
    )


def test_modules_of_the_package_are_there_too() -> None:
    assert run(
        "import dbos_events; print(dbos_events.errors.DBOSException.__name__, dbos_events.error.__name__)"
    )


def test_a_name_that_does_not_exist_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'dbos_events' has no attribute 'Nope'"):
        dbos_events.Nope  # noqa: B018


def test_what_stands_in_for_a_name_stays_when_others_are_loaded() -> None:
    program = "import dbos_events; dbos_events.DBOS = 7; dbos_events.App; print(dbos_events.DBOS)"
    assert run(program) == "7\n"


def test_a_mock_of_a_verb_that_nobody_has_used_yet_takes_the_arguments_of_the_verb() -> None:
    # In a process of its own, since here the verb may have been asked for.
    program = """
from unittest import mock
from dbos_events import DBOS
with mock.patch.object(DBOS, "set_event", autospec=True) as mocked:
    DBOS.set_event("key", 1)
    try:
        DBOS.set_event()
    except TypeError as error:
        print(error)
mocked.assert_called_once_with("key", 1)
print(DBOS.set_event.__name__, DBOS.set_event.__self__ is DBOS.send.__self__)
"""
    assert run(program) == "missing a required argument: 'key'\nset_event True\n"
