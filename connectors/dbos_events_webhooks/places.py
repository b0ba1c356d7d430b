"""Where in a request something stands: `Header("x-id")`, `Body("event.uuid")`, `BodyHash()`, or several of them."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from dbos_events.errors import ConfigurationError
from dbos_events.model.dataclass import dataclass
from dbos_events_webhooks.payload import TwiceNamed, Unreadable

Unit = Literal["s", "ms", "iso"]
MISSING: Any = object()
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)
_SECONDS = re.compile(r"[0-9]{1,12}")
_MILLISECONDS = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Header:
    """The value of a header; `*-id` is the one of the family that the sender uses."""

    name: str
    unit: Unit = "iso"


@dataclass(frozen=True, slots=True)
class Body:
    """A value inside the content: `a.b`, `items.0.id`, or a tuple of names where a name has a dot in it."""

    path: str | tuple[str, ...]
    unit: Unit = "iso"

    @property
    def names(self) -> tuple[str, ...]:
        return self.path if isinstance(self.path, tuple) else tuple(self.path.split("."))


@dataclass(frozen=True, slots=True)
class BodyHash:
    """A digest of the content: the same bytes are the same event."""


@dataclass(frozen=True, slots=True, init=False)
class FirstOf:
    """The first place at which something stands."""

    places: tuple[Place, ...]

    def __init__(self, *places: Place) -> None:
        object.__setattr__(self, "places", places)


Found = Callable[[Any], Any]
Place = Header | Body | BodyHash | FirstOf | tuple["Place", ...] | Found
"""A tuple joins the values of several places, all of which are needed. A function gets the content."""


def checked_place(option: str, given: object) -> None:
    """See that something is a place: what is none would be found out by the first event only.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(given, FirstOf | tuple):
        inner = given.places if isinstance(given, FirstOf) else given
        for each in inner:
            checked_place(option, each)
        if inner:
            return
    elif isinstance(given, (Body, Header)):
        names: tuple[object, ...] = given.names if isinstance(given, Body) else (given.name,)
        if names and all(isinstance(name, str) and name for name in names):
            return
    elif isinstance(given, BodyHash) or (callable(given) and not inspect.iscoroutinefunction(given)):
        return
    raise ConfigurationError(
        f"{option} is a place such as Body('data.id') or Header('x-id'), several of them, or a function of the content "
        f"that is not async, and not {given!r}."
    )


def found(value: Any, place: Body) -> Any:
    """What stands at a place of the content, or MISSING.

    Raises:
        Unreadable: A key on the way stands twice, so that two readers could see different values.
    """
    for name in place.names:
        if isinstance(value, dict):
            if isinstance(value, TwiceNamed) and name in value.twice:
                raise Unreadable(f"The key {name!r} stands twice in one object.")
            value = value.get(name, MISSING)
        elif isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 7:
            value = value[int(name)] if int(name) < len(value) else MISSING
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value


Element = tuple[Any, tuple[Any, ...]]
"""An item, and the objects around it without the lists that it stood in, from the outside in."""


def elements(value: Any, paths: tuple[str, ...]) -> list[Element]:
    """The items that stand under paths such as `entry[].changes[]`; `[]` is the items of the content itself.

    Nothing is left out: what has none of the lists is an item itself, at whatever depth.
    """
    made: list[Element] = []
    _descend(value, [path.split("[]")[:-1] for path in paths], (), made)
    return made


def _descend(value: Any, paths: list[list[str]], context: tuple[Any, ...], made: list[Element]) -> None:
    lists: dict[str, list[list[str]]] = {}
    for steps in paths:
        if steps:
            lists.setdefault(steps[0].strip("."), []).append(steps[1:])
    hits = [(name, rest) for name, rest in lists.items() if isinstance(_listed(value, name), list)]
    if not hits:
        made.append((value, context))
        return
    around = value
    for name, _ in hits:
        around = _without(around, name.split("."))
    for name, rest in hits:
        inner = (*context, around) if name else context
        for item in _listed(value, name):
            _descend(item, rest, inner, made)


def _listed(value: Any, name: str) -> Any:
    return found(value, Body(name)) if name else value


def _without(value: Any, names: list[str]) -> Any:
    if not isinstance(value, dict):
        return value
    first, *rest = names
    kept = {key: item for key, item in value.items() if key != first or rest}
    if rest:
        kept[first] = _without(kept[first], rest)
    return kept


def time_ms(value: object, unit: Unit) -> int | None:
    """Milliseconds since 1970 of a time as a sender writes it, or None where it is not one."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    if unit == "iso":
        return _iso_ms(value) if isinstance(value, str) else None
    if isinstance(value, float):
        return (
            int(value * (1000 if unit == "s" else 1)) if math.isfinite(value) and 0 <= value < 1e15 else None
        )
    text = str(value) if isinstance(value, str) or abs(value) < 10**15 else ""
    if not (_SECONDS if unit == "s" else _MILLISECONDS).fullmatch(text):
        return None
    return int(text) * (1000 if unit == "s" else 1)


def _iso_ms(text: str) -> int | None:
    match = _ISO.fullmatch(text) if len(text) < 64 else None
    if match is None:
        return None
    try:
        whole = datetime(*(int(match[index]) for index in range(1, 7)), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    shift = (int(match[9]) * 60 + int(match[10])) * 60_000 if match[8] else 0
    fraction = int((match[7] or "0").ljust(3, "0")[:3])
    return int(whole.timestamp()) * 1000 + fraction + (shift if match[8] == "-" else -shift)


def moment(milliseconds: int | None) -> datetime | None:
    """The same as a datetime in UTC, or None where there is none or no calendar has it."""
    try:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
