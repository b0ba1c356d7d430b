"""A machine whose acts have weights: what matters most is done most, in every example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

F = TypeVar("F", bound=Callable[..., None])


class Act(NamedTuple):
    name: str
    weight: int
    when: Callable[[Any], object]
    arguments: st.SearchStrategy[dict[str, Any]]


def _always(_machine: Any) -> bool:
    return True


def act(
    weight: int, when: Callable[[Any], object] = _always, **arguments: st.SearchStrategy[Any]
) -> Callable[[F], F]:
    """Say of a method how often it is called, when it may be, and with what."""

    def mark(method: F) -> F:
        found = Act(method.__name__, weight, when, st.fixed_dictionaries(arguments))
        setattr(method, "act", found)  # noqa: B010 - no attribute of functions
        return method

    return mark


class ActingMachine(RuleBasedStateMachine):
    """Hypothesis turns rules off by chance and knows no weights, so there is only one."""

    @rule(data=st.data())
    def next(self, data: st.DataObject) -> None:
        found = [getattr(getattr(type(self), name), "act", None) for name in sorted(dir(type(self)))]
        able = [one for one in found if isinstance(one, Act) and one.when(self)]
        chosen = data.draw(st.sampled_from([one for one in able for _ in range(one.weight)]).map(_name))
        (arguments,) = [one.arguments for one in able if one.name == chosen]
        getattr(self, chosen)(**data.draw(arguments))


def _name(one: Act) -> str:
    return one.name
