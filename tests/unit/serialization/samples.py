"""Classes at module level, as users write them, and a comparison that sees types."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    GREEN = ("g", 2)
    CRIMSON = "red"  # noqa: PIE796  # an alias


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Status(StrEnum):
    OPEN = "open"
    PAID = "paid"


class Right(Flag):
    READ = 1
    WRITE = 2


class Bits(IntFlag):
    ONE = 1
    TWO = 2


class Point(NamedTuple):
    x: int
    y: object = 0


@dataclass
class Order:
    id: int
    items: list[object] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Money:
    amount: object
    currency: str = "EUR"


@dataclass
class Paid(Order):
    by: object = None


@dataclass
class Derived:
    """`total` is set by `__post_init__`, `tax` is not even a field, and `once` is computed on demand."""

    net: int
    total: int = field(init=False)

    def __post_init__(self) -> None:
        if self.net == 13:
            raise ValueError("13 is refused by __post_init__")
        self.total = self.net * 2
        self.tax = self.net

    @cached_property
    def once(self) -> list[int]:
        return [self.net]


@dataclass
class Unset:
    late: int = field(init=False)


@dataclass
class Box(Generic[T]):
    content: T


class Outer:
    @dataclass
    class Inner:
        value: object = None


@dataclass
class Both(dict[str, int]):
    value: int = 0


class Address(BaseModel):
    street: str
    extra: Any = None
    _cache: list[int] = PrivateAttr(default_factory=list)


class Customer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    address: Address | None = None
    tags: Any = ()


class Envelope(BaseModel, Generic[T]):
    body: T


class Names(RootModel[list[str]]):
    pass


class Failure(Exception):
    pass


class CodedFailure(Exception):
    """Its constructor wants other arguments than those that end in `args`."""

    def __init__(self, code: int, *, detail: object) -> None:
        super().__init__(f"failed with {code}")
        self.code = code
        self.detail = detail


class ReducedFailure(Exception):
    """It says itself how to rebuild it, and holds what nothing can store."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.lock = object()

    def __reduce__(self) -> tuple[Any, ...]:
        return ReducedFailure, (self.code,)


class SlottedFailure(Exception):
    __slots__ = ("code",)

    code: int


class FileFailure(OSError):
    def __init__(self, name: str) -> None:
        super().__init__(5, "cannot use", name)
        self.name_given = name


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class NotADataclass:
    called = False

    def __init__(self, *_: object) -> None:
        type(self).called = True


def numbered(values: list[object]) -> list[str]:
    """Return ids for parametrised values: a number, which keeps them apart, and the type."""
    return [f"{number}-{type(value).__name__}" for number, value in enumerate(values)]


def assert_same(found: Any, expected: Any) -> None:
    """Assert that two values are the same in type and content, all the way down."""
    assert type(found) is type(expected), f"{found!r} is not of the type of {expected!r}"
    if isinstance(expected, Enum) or expected is None:
        assert found is expected
    elif isinstance(expected, (set, frozenset)):
        assert sorted(map(_sort_key, found)) == sorted(map(_sort_key, expected))
    elif isinstance(expected, dict):
        assert_same([*found.items()], [*expected.items()])
        assert getattr(found, "default_factory", None) is getattr(expected, "default_factory", None)
    elif isinstance(expected, (list, tuple, deque)):
        assert len(found) == len(expected)
        assert getattr(found, "maxlen", None) == getattr(expected, "maxlen", None)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif (parts := _parts(expected)) is not None:
        assert_same(_parts(found), parts)
    else:
        assert _exact(found) == _exact(expected)


def _parts(value: Any) -> object:
    """Return what an object consists of, or None for one without parts."""
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, complex):
        return value.real, value.imag
    if isinstance(value, BaseException):
        return value.args, vars(value)
    if isinstance(value, BaseModel):
        return vars(value), value.model_fields_set, value.model_extra
    if hasattr(value, "__dataclass_fields__"):
        return object.__getstate__(value)
    return None


def _exact(value: Any) -> object:
    """Equality of aware times ignores the zone, and of decimals the digits: compare those too."""
    zone = getattr(value, "tzinfo", None)
    return (str(value), repr(value), getattr(value, "fold", 0), type(zone), repr(zone))


def _sort_key(value: Any) -> str:
    if isinstance(value, frozenset):
        return f"frozenset{sorted(map(_sort_key, value))}"
    if isinstance(value, tuple):
        return f"{type(value)}{[*map(_sort_key, value)]}"
    if isinstance(value, dict):
        return f"dict{[*map(_sort_key, value.items())]}"
    parts = _parts(value)
    return f"{type(value)} {value!r}" if parts is None else f"{type(value)} {_sort_key(parts)}"
