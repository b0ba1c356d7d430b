"""Telling functions apart that are declared under one name: the same one, the same one reloaded, or another."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

SAME, RELOADED, ANOTHER = "same", "reloaded", "another"


def place_of(function: Callable[..., Any]) -> str:
    """`module:qualname`, for people and for other processes: a main program goes by the name of its file."""
    inner = _innermost(function)
    qualname = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return f"{_module_of(inner)}:{qualname}"


def module_of(function: Callable[..., Any]) -> str:
    """The module in which it is written, as it is imported."""
    return _module_of(_innermost(function))


def described(function: Callable[..., Any]) -> str:
    """Its place, and the line where it is written."""
    code = _code_of(_innermost(function))
    where = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
    return f"{place_of(function)}{where}"


def loading_of(function: Callable[..., Any]) -> object:
    """Stands for the one time that its module was executed: a reload gives another."""
    return _globals_of(function).get("__spec__")


def compare(known: Callable[..., Any], loading: object, new: Callable[..., Any]) -> str:
    """What `new` is to `known`, which was declared under the same name; `loading` is what `known` was loaded by then."""
    if known is new or (_innermost(known) is _innermost(new) and _all_same(_bound(known), _bound(new))):
        return SAME
    first, second = _innermost(known), _innermost(new)
    codes = _code_of(first), _code_of(second)
    if codes[0] is None or codes[1] is None or _name_of(first) != _name_of(second):
        return ANOTHER
    if codes[0] is codes[1]:  # one `def` that was executed twice
        return SAME if _all_same(_parts(known), _parts(new)) else ANOTHER
    return RELOADED if _was_reloaded(known, loading, new, codes[0], codes[1]) else ANOTHER


def why_not(known: Callable[..., Any], new: Callable[..., Any]) -> str:
    """How two that are not the same came to have one name."""
    first, second = _code_of(_innermost(known)), _code_of(_innermost(new))
    if first is not None and first is second:
        return (
            f"{described(new)} was declared more than once, by a function that makes such functions, and each may do "
            "something else"
        )
    one_file = first is not None and second is not None and first.co_filename == second.co_filename
    if one_file and first is not None and _globals_of(known) is not _globals_of(new):
        modules = " and as ".join(str(_globals_of(one).get("__name__")) for one in (known, new))
        return f"{first.co_filename} was loaded twice, as {modules}; import it once, under one name"
    return f"they are {described(known)} and {described(new)}"


def _was_reloaded(
    known: Callable[..., Any], loading: object, new: Callable[..., Any], first: CodeType, second: CodeType
) -> bool:
    names = _globals_of(new)
    if names.get("__name__") == "__main__" and "__file__" not in names:
        return True  # typed again into a shell or a notebook
    if first.co_filename != second.co_filename:
        return False
    before = _globals_of(known)
    if names is before:
        return loading is not names.get("__spec__")  # importlib.reload gives a module another one
    imported = sys.modules.get(str(names.get("__name__")))
    return getattr(imported, "__dict__", None) is not before  # else there are two of the module


def _name_of(inner: Any) -> tuple[object, object]:
    return getattr(inner, "__module__", None), getattr(inner, "__qualname__", None)


def _innermost(function: Any) -> Any:
    """The function that was written, without what wraps it."""
    for _ in range(100):  # whatever points at itself
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    return function


def _parts(function: Any) -> list[object]:
    """What distinguishes functions of one `def`: what they close over, their defaults, and what they are bound to."""
    inner = _innermost(function)
    parts: list[object] = _bound(function)
    for cell in getattr(inner, "__closure__", None) or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # not filled yet
            parts.append(cell)
    parts += getattr(inner, "__defaults__", None) or ()
    parts += (getattr(inner, "__kwdefaults__", None) or {}).values()
    return parts


def _bound(function: Any) -> list[object]:
    parts: list[object] = []
    for _ in range(100):
        if isinstance(function, functools.partial):
            parts += [*function.args, *function.keywords.items()]
            function = function.func
        elif inspect.ismethod(function):
            parts.append(function.__self__)
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    return parts


def _all_same(known: list[object], new: list[object]) -> bool:
    return len(known) == len(new) and all(one is other for one, other in zip(known, new, strict=True))


def _code_of(function: Any) -> CodeType | None:
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _globals_of(function: Any) -> dict[str, Any]:
    found = getattr(_innermost(function), "__globals__", None)
    return found if isinstance(found, dict) else {}


def _module_of(function: Any) -> str:
    module = str(getattr(function, "__module__", None) or "?")
    if module not in ("__main__", "__mp_main__"):
        return module
    names = getattr(function, "__globals__", {})
    spec = names.get("__spec__")
    if spec is not None:
        return str(spec.name)
    file = str(names.get("__file__") or "")
    return file.replace("\\", "/").rpartition("/")[2].removesuffix(".py") or module
