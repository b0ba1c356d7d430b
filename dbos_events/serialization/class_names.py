"""Classes by `module:qualname`: the name that is stored, and the way back from it.

A stored name may have been tampered with, so the way back runs no code that the name chooses: no module is imported
but those of the application's own packages, and what is read are the dicts of modules and classes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeGuard, TypeVar, cast

from dbos_events.errors import SerializationError
from dbos_events.serialization.notstorable import NotStorable

_R = TypeVar("_R")

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made at run time, not compiled in

_OWN_PACKAGES: set[str] = set()

_TYPE_DICT = type.__dict__["__dict__"]
_TYPE_MRO = type.__dict__["__mro__"]

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
        raise NotStorable(
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
        raise NotStorable(
            cls,
            f"its name {name!r} does not lead back to the class, so replay could not find it. "
            "Bind the class to that name at the top level of its module.",
        )
    return name


def own_package(module: str) -> None:
    """Note that functions of this module are registered: its package's modules may be imported for their classes."""
    package, dot, _ = _recorded_module(module).partition(".")
    known = sys.modules.get(package)
    if dot or _is_package(known):
        _OWN_PACKAGES.add(package)


def class_dict(cls: type) -> Mapping[str, object]:
    """Return what the class itself defines, by name; nothing of a metaclass runs."""
    return cast("Mapping[str, object]", _TYPE_DICT.__get__(cls))


def bases_of(cls: type) -> tuple[type, ...]:
    """Return the class and its bases in the order of lookup; nothing of a metaclass runs."""
    return cast("tuple[type, ...]", _TYPE_MRO.__get__(cls))


def is_class(value: object) -> TypeGuard[type]:
    """Tell whether `value` is a class; a proxy of one, which `isinstance` would ask, is not."""
    return type in bases_of(type(value))


def find_class(name: str) -> type:
    """Return the class with a stored name, from a module that is loaded or that belongs to an own package.

    Raises SerializationError when the name is malformed, leads to anything but a class, or to no module that may
    be looked into. Nothing is called, and no `__getattr__` of a module or metaclass runs.
    """
    module_name, _, qualname = name.partition(":")
    steps = qualname.split(".")
    if not all(part.isidentifier() for part in [*module_name.split("."), *steps]):
        raise SerializationError(
            f"The stored class name {name!r} is malformed; it must read module:qualname."
        )
    found = _namespace(_module(module_name, name)).get(steps[0])
    for step in steps[1:]:
        found = class_dict(found).get(step) if is_class(found) else None
    if not is_class(found):
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


def _module(module_name: str, name: str) -> object:
    main = sys.modules["__main__"]
    # The module that runs as the main program must not be imported a second time under its own
    # name: its classes would exist twice, and its registrations would run again.
    if module_name == _recorded_module("__main__"):
        return main
    if module_name not in sys.modules:
        if module_name == _script_name(main):
            return main
        package, _, rest = module_name.partition(".")
        if package not in _OWN_PACKAGES or rest.rpartition(".")[2] == "__main__":
            raise SerializationError(
                f"The module of the stored class {name!r} is not loaded in this process. Make it importable by the "
                "modules that declare your workflows: import it there, or here before the value is read. If the "
                "class was moved, leave an alias where it used to be."
            )
        try:
            importlib.import_module(module_name)
        except Exception as error:
            raise SerializationError(
                f"The module of the stored class {name!r} cannot be imported: {type(error).__name__}: {error}. "
                "Make it importable here, or leave an alias where the class used to be."
            ) from error
    return sys.modules.get(module_name)


def _namespace(module: object) -> Mapping[str, object]:
    """What a module holds, without asking it: some load themselves, or others, when they are asked."""
    try:
        found = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


def _is_package(module: object) -> bool:
    return module is not None and "__path__" in _namespace(module)


def _script_name(main: object) -> str | None:
    file = getattr(main, "__file__", None)
    if not file or getattr(main, "__spec__", None) is not None:
        return None
    return str(file).replace("\\", "/").rpartition("/")[2].removesuffix(".py")
