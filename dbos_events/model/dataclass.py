"""`dataclass` as in the standard library, but each method is made when it is first asked for.

That of the standard library compiles up to eight methods for each class, most of a millisecond, and this package has
hundreds of such classes. A program uses few of them, and of most of those only `__init__`. What a class is to others is the
same: its fields, `replace`, its signature, pickling, comparison.
"""

from __future__ import annotations

import dataclasses
from copy import copy
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass", "field", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(given=None, /, **asked):
        """As `dataclasses.dataclass`."""
        return _prepare(given, **asked) if given is not None else lambda cls: _prepare(cls, **asked)


def _prepare(
    cls: Any, *, init: bool = True, eq: bool = True, frozen: bool = False, slots: bool = False, **asked: Any
) -> Any:
    """The class with its fields, and with what will make its methods."""
    if any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:]):
        return dataclasses.dataclass(cls, init=init, eq=eq, frozen=frozen, slots=slots, **asked)
    cls.__doc__ = cls.__doc__ or cls.__name__  # else a signature would be made for it
    own = set(vars(cls))
    cls = dataclasses.dataclass(cls, init=False, repr=False, eq=False, slots=slots, **asked)
    cls.__dataclass_params__.init, cls.__dataclass_params__.repr = init, True
    cls.__dataclass_params__.eq, cls.__dataclass_params__.frozen = eq, frozen
    wanted = {"__init__": init, "__repr__": True, "__eq__": eq, "__hash__": eq and frozen}
    for name, really in wanted.items():
        if really and name not in own:
            setattr(cls, name, _Later(cls, name))
    if eq and not frozen and "__hash__" not in own:
        cls.__hash__ = None
    if frozen:
        cls.__setattr__, cls.__delattr__ = _refuse_to_set, _refuse_to_delete
        if slots:
            cls.__getstate__, cls.__setstate__ = _state, _set_state
    return cls


class _Later:
    """Stands for a method of a class until somebody asks for it."""

    __slots__ = ("cls", "name")

    def __init__(self, cls: Any, name: str) -> None:
        self.cls = cls
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        method = _made(self.cls, self.name)
        setattr(self.cls, self.name, method)
        return method.__get__(instance, owner)


def _made(cls: Any, name: str) -> Any:
    """The method, made by the standard library for a class of the same fields that is thrown away."""
    # Copies: the standard library sets each field's kind anew, and another thread may make a method of the class just now.
    fields = {known: copy(one) for known, one in cls.__dataclass_fields__.items()}
    body = {
        **fields,
        "__annotations__": {known: one.type for known, one in fields.items()},
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": "",
    }
    if hasattr(cls, "__post_init__"):
        body["__post_init__"] = cls.__post_init__
    twin: Any = dataclasses.dataclass(
        type(cls.__name__, (), body),
        init=name == "__init__",
        repr=name == "__repr__",
        eq=name == "__eq__",
        unsafe_hash=name == "__hash__",
        frozen=name == "__init__" and cls.__dataclass_params__.frozen,
    )
    return vars(twin)[name]


def _refuse_to_set(one: Any, name: str, value: object) -> None:
    if _is_of(one, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(one, name, value)


def _refuse_to_delete(one: Any, name: str) -> None:
    if _is_of(one, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(one, name)


def _is_of(one: Any, name: str) -> bool:
    """Whether the attribute is frozen: in a class that a user derives, only the fields are."""
    return name in one.__dataclass_fields__ or "__dataclass_fields__" in vars(type(one))


def _state(one: Any) -> list[Any]:
    return [getattr(one, known.name) for known in dataclasses.fields(one)]


def _set_state(one: Any, state: list[Any]) -> None:
    for known, value in zip(dataclasses.fields(one), state, strict=True):
        object.__setattr__(one, known.name, value)
