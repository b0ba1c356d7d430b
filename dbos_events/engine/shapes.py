"""The shapes that a function of the user may have, and that of what it gives.

What is not called like a plain or an async function is refused where it is declared. A plain function may turn out to
give something to be awaited when it is called: most decorators are such functions.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from dbos_events.errors import RegistrationError

PLAIN: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes, dict, list, tuple, set})
"""Types of values that need no second look."""

_CACHED = type(functools.lru_cache(lambda: None))


def is_async(function: object) -> bool:
    """Whether a call surely gives an awaitable: also of a partial, a method, or an object with such a `__call__`."""
    return any(map(_is_coroutine_function, _called(function)))


def may_await(function: object) -> bool:
    """Whether it is a plain function around an async one (`functools.wraps`), so that a call may give an awaitable."""
    return not is_async(function) and any(map(is_async, _wrapped(function)))


def check_runs(described: str, function: object, *, is_step: bool = False) -> None:
    """Refuse what cannot be run as a workflow or step, with what to do instead.

    Raises:
        RegistrationError: A call of it would not run its body, or not each time.
    """
    problem = _problem(function, is_step=is_step)
    if problem is not None:
        raise RegistrationError(f"{described} {problem}")


def check_answers(described: str, function: object) -> None:
    """Refuse what does not answer at once when it is called, such as a filter.

    Raises:
        RegistrationError: It is not callable, async, around something async, or a generator.
    """
    if not callable(function):
        raise RegistrationError(f"{described} is not a function: {function!r}.")
    if is_async(function) or may_await(function):
        raise RegistrationError(
            f"{described} is async, or stands around something async. It is asked while records are taken in, so it has "
            "to answer at once: make it a plain function, and do what waits in the handler."
        )
    if _generates(function):
        raise RegistrationError(
            f"{described} is a generator function, which answers nothing: return the answer."
        )


def name_of(function: object) -> str | None:
    """Its qualified name; None for what has none of its own: a partial, an object that is called."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else None


is_awaitable = inspect.isawaitable


def is_unread(value: object) -> bool:
    """Whether it is a generator: the body of the function that gave it waits to be iterated over."""
    return isinstance(value, (types.GeneratorType, types.AsyncGeneratorType))


def at_once(answer: Any) -> Any:
    """The answer of a function that is asked while others wait.

    Raises:
        TypeError: It is not there yet.
    """
    if type(answer) in PLAIN:
        return answer
    kind = "an awaitable" if is_awaitable(answer) else "a generator" if is_unread(answer) else None
    if kind is not None:
        close(answer)
        raise TypeError(f"it gave {kind}; it has to answer at once")
    return answer


def close(value: object) -> None:
    """Say that nobody will await or iterate over it, where that can be said."""
    ends = getattr(value, "close", None)
    if isinstance(value, (types.CoroutineType, types.GeneratorType)) and ends is not None:
        ends()


def mark_async(function: Callable[..., Any]) -> None:
    """Tell frameworks that ask that a call gives an awaitable; `function` itself is a plain one."""
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
    else:
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001


# -- what is called, in the end -------------------------------------------------------------------


def _called(function: object) -> Iterator[object]:
    """What a call of `function` calls first: itself, the function of a partial, the method `__call__`."""
    seen = 0
    while isinstance(function, functools.partial) and seen < 100:
        function, seen = function.func, seen + 1
    yield function
    if not isinstance(function, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        yield getattr(type(function), "__call__", None)  # noqa: B004 - the method is wanted


def _wrapped(function: object) -> Iterator[object]:
    """All that stands within, by `__wrapped__`, as functools.wraps, lru_cache and singledispatch say it."""
    seen: set[int] = set()
    left = [*_called(function)]
    while left:
        inner = getattr(left.pop(), "__wrapped__", None)
        if inner is not None and id(inner) not in seen:
            seen.add(id(inner))
            yield inner
            left += _called(inner)


def _is_coroutine_function(function: object) -> bool:
    if inspect.iscoroutinefunction(function):
        return True
    code = getattr(function, "__code__", None)
    flags = getattr(code, "co_flags", 0)
    if isinstance(flags, int) and flags & inspect.CO_ITERABLE_COROUTINE:  # types.coroutine
        return True
    if sys.version_info < (3, 12):  # compiled by Cython, or marked; later Pythons have one mark for all
        return getattr(function, "_is_coroutine", None) is asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
    return False


def _generates(function: object) -> bool:
    return any(
        inspect.isasyncgenfunction(one)
        or (inspect.isgeneratorfunction(one) and not _is_coroutine_function(one))
        for one in _called(function)
    )


def _problem(function: object, *, is_step: bool) -> str | None:
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        return (
            f"is a {kind} object. Put @{kind} above this decorator, so that it decorates the function itself."
        )
    if not callable(function):  # a partialmethod, a property
        return f"is a {type(function).__name__}, which is not called itself. Decorate the function within."
    if isinstance(function, type) and not is_step:
        return "is a class; a call would make an instance and run nothing. Decorate a function, or a method of an instance."
    if _generates(function):
        return "is a generator function; a call would run nothing of its body. Return a value instead of yielding."
    cached = any(isinstance(one, _CACHED) for one in (*_called(function), *_wrapped(function)))
    if cached and (not is_step or is_async(function) or may_await(function)):
        return "is cached (functools.lru_cache), so its body would not run each time. Take the cache away."
    return None
