"""Answers a call with wrong options in words of our own, with the nearest right one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from dbos_events.errors import UnknownOption

F = TypeVar("F", bound=Callable[..., Any])


def decorator_options(verb: F) -> F:
    """For a method that gives a decorator, and is called with options alone."""
    known = tuple(inspect.signature(verb).parameters)[1:]
    positional = [
        name
        for name, parameter in inspect.signature(verb).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ][1:]
    name = verb.__name__

    @functools.wraps(verb)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args and callable(args[0]):
            shown = getattr(args[0], "__name__", "the function")
            raise UnknownOption(
                f"@DBOS.{name} was put on {shown} without brackets. Write @DBOS.{name}(), with its options in them."
            )
        if len(args) > len(positional):
            takes = f"only {', '.join(positional)} without a name" if positional else "options by name only"
            raise UnknownOption(f"DBOS.{name}() takes {takes}: {', '.join(known)}.")
        for given in kwargs:
            if given not in known:
                raise UnknownOption(unknown(f"DBOS.{name}()", "option", given, known))
        return verb(self, *args, **kwargs)

    return cast("F", call)


def unknown(where: str, what: str, given: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist: the nearest one, else all that do."""
    found = nearest(given, known)
    hint = f"Did you mean {found}?" if found is not None else f"There are {', '.join(known)}."
    return f"{where} has no {what} {given!r}. {hint}"


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The name that was probably meant; None where none is near."""
    import difflib  # takes 2 ms to import, and most programs spell well

    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(given.lower(), by_lower, 1, 0.6)
    return by_lower[found[0]] if found else None
