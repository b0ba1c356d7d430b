"""`DBOS` has every verb of an App, and each verb that blocks has a twin for loops, with the same parameters."""

from __future__ import annotations

import inspect

import pytest

from dbos_events.app import App
from dbos_events.facade import DBOS
from tests.architecture.facade import FILE, families, made, verbs_of

VERBS = [name for kinds in families().values() for kind in kinds for name in verbs_of(kind)]
TWINS = sorted(name for name in VERBS if name.endswith("_async"))


def test_the_lines_of_the_facade_are_those_that_make_facade_writes() -> None:
    text = FILE.read_text()
    assert made(text) == text, "run `make facade`"


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_of_an_app_is_a_verb_of_dbos(name: str) -> None:
    assert getattr(DBOS, name).__func__ is getattr(App, name)


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_takes_what_its_verb_takes(name: str) -> None:
    verb = inspect.signature(getattr(App, name.removesuffix("_async")))
    twin = inspect.signature(getattr(App, name))
    shape = [(one.name, one.kind, one.default) for one in verb.parameters.values()]
    assert [(one.name, one.kind, one.default) for one in twin.parameters.values()] == shape


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_says_what_it_does(name: str) -> None:
    assert (inspect.getdoc(getattr(App, name)) or "").strip(), name
