"""Classes by `module:qualname`: the name that is stored, and the way back from it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import TypeVar, cast

from dbos_events.errors import SerializationError
from dbos_events.serialization.refused import Refused

_R = TypeVar("_R")

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made at run time, not compiled in

_ADVICE = {
    False: "If the class was renamed or moved, leave an alias under its old name.",
    True: "Its script ran as the main program; define the class in a module that can be imported.",
}


def per_class(function: Callable[[type], _R]) -> Callable[[type], _R]:
    """Remember what a function answered for the classes that it was last asked about."""
    return cast("Callable[[type], _R]", lru_cache(maxsize=1_000)(function))


@per_class
def name_of(cls: type) -> str:
    """Return the stored name of a class; the name is known to lead back to that very class.

    Raises Refused for a class that no other process could find.
    """
    if "<locals>" in cls.__qualname__:
        raise Refused(
            cls,
            "the class is defined inside a function, where replay cannot find it again. "
            "Move it to the top level of its module.",
        )
    name = f"{_recorded_module(cls.__module__)}:{cls.__qualname__}"
    try:
        found: type | None = find_class(name)
    except SerializationError:
        found = None
    if found is not cls:
        raise Refused(
            cls,
            f"its name {name!r} does not lead back to the class, so replay could not find it. "
            "Bind the class to that name at the top level of its module.",
        )
    return name


def find_class(name: str) -> type:
    """Return the class with a stored name, importing its module where that is needed.

    Raises SerializationError when the name is malformed or leads to anything but a class.
    Nothing is called: what is read on the way are a module's and classes' attributes.
    """
    module_name, _, qualname = name.partition(":")
    steps = qualname.split(".")
    if not all(part.isidentifier() for part in [*module_name.split("."), *steps]):
        raise SerializationError(
            f"The stored class name {name!r} is malformed; it must read module:qualname."
        )
    try:
        found = getattr(_module(module_name), steps[0], None)
    except Exception as error:
        raise SerializationError(
            f"The module of the stored class {name!r} cannot be imported: {type(error).__name__}: {error}. "
            "Make it importable here, or leave an alias where the class used to be."
        ) from error
    for step in steps[1:]:
        found = vars(found).get(step) if isinstance(found, type) else None
    if not isinstance(found, type):
        advice = _ADVICE[module_name == "__main__"]
        raise SerializationError(
            f"The stored class name {name!r} leads to no class in this process. {advice}"
        )
    return found


def compiled_base(cls: type) -> type:
    """Return the nearest compiled-in class that decides the memory layout of instances of `cls`."""
    base: type = cls
    while base.__flags__ & _HEAP_TYPE and base.__base__ is not None:
        base = base.__base__
    return base


def _recorded_module(module_name: str) -> str:
    if module_name not in ("__main__", "__mp_main__"):
        return module_name
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return "__main__" if spec is None else str(spec.name)


def _module(name: str) -> ModuleType:
    main = sys.modules["__main__"]
    # The module that runs as the main program must not be imported a second time under its own
    # name: its classes would exist twice, and its registrations would run again.
    if name == _recorded_module("__main__") or (name not in sys.modules and name == _script_name(main)):
        return main
    return importlib.import_module(name)


def _script_name(main: ModuleType) -> str | None:
    file = getattr(main, "__file__", None)
    if not file or getattr(main, "__spec__", None) is not None:
        return None
    return str(file).replace("\\", "/").rpartition("/")[2].removesuffix(".py")
