"""Values of the standard library that have no parts of their own: bytes, times, numbers, paths."""

from __future__ import annotations

import binascii
import importlib
import struct
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from math import isfinite, isnan
from typing import Any

from dbos_events.serialization.nodes import TAG, Child, Node, Tree, list_in, text_in
from dbos_events.serialization.notstorable import NotStorable
from dbos_events.serialization.plain import INT_LIMIT, is_plain_text

# Tag (the class's name) to module: stored as str(value), read by calling the class with that text.
# Named instead of imported: whoever has such a value has imported its module already.
TEXT_TYPES = {
    "Decimal": "decimal",
    "UUID": "uuid",
    "ZoneInfo": "zoneinfo",
    "PurePosixPath": "pathlib",
    "PureWindowsPath": "pathlib",
    "PosixPath": "pathlib",
    "WindowsPath": "pathlib",
}


def is_text_type(cls: type) -> bool:
    """Tell whether `cls` is one of the classes that are stored as their text."""
    module = sys.modules.get(TEXT_TYPES.get(cls.__name__, ""))
    return module is not None and getattr(module, cls.__name__, None) is cls


def text_type_tree(value: object) -> Tree:
    """Return the tree of a Decimal, UUID, path or ZoneInfo."""
    cls = type(value)
    if cls.__name__ == "ZoneInfo" and getattr(value, "key", None) is None:
        raise NotStorable(
            cls, "it has no key, so replay could not find the zone. Make it with ZoneInfo(key)."
        )
    return {TAG: cls.__name__, "v": text_tree(str(value))}


def text_type_from(node: Node) -> object:
    """Return the Decimal, UUID, path or ZoneInfo of a node."""
    tag = text_in(node, TAG)
    make: Callable[[str], object] = getattr(importlib.import_module(TEXT_TYPES[tag]), tag)
    return make(text_in(node))


def text_tree(value: str) -> Tree:
    """Return the tree of a text; surrogates are stored as bytes."""
    if is_plain_text(value):
        return value
    return {TAG: "str", "v": _base64(value.encode("utf-8", "surrogatepass"))}


def int_tree(value: int) -> Tree:
    """Return the tree of an integer of any size."""
    return value if -INT_LIMIT < value < INT_LIMIT else {TAG: "int", "v": hex(value)}


def float_tree(value: float) -> Tree:
    """Return the tree of a float; infinities are named and a NaN keeps its bits."""
    if isfinite(value):
        return value
    return {TAG: "float", "v": struct.pack(">d", value).hex() if isnan(value) else repr(value)}


def complex_tree(value: complex) -> Tree:
    """Return the tree of a complex number."""
    return {TAG: "complex", "v": [float_tree(value.real), float_tree(value.imag)]}


def bytes_tree(value: bytes | bytearray) -> Tree:
    """Return the tree of bytes or a bytearray."""
    return {TAG: type(value).__name__, "v": _base64(value)}


def date_tree(value: date) -> Tree:
    """Return the tree of a date."""
    return {TAG: "date", "v": value.isoformat()}


def timedelta_tree(value: timedelta) -> Tree:
    """Return the tree of a timedelta."""
    return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def clock_tree(value: datetime | time, child: Child, depth: int) -> Tree:
    """Return the tree of a datetime or a time with its fold and its time zone."""
    node: dict[str, Tree] = {TAG: type(value).__name__, "v": value.replace(tzinfo=None).isoformat()}
    if value.fold:
        node["fold"] = 1
    if value.tzinfo is not None:
        try:
            node["tz"] = child(value.tzinfo, depth + 1)
        except NotStorable as refused:
            refused.add_step(".tzinfo")
            raise
    return node


def timezone_tree(value: timezone) -> Tree:
    """Return the tree of a fixed offset, with its name where it has one of its own."""
    offset = value.utcoffset(None)
    node: dict[str, Tree] = {TAG: "timezone", "v": [offset.days, offset.seconds, offset.microseconds]}
    if value.tzname(None) != timezone(offset).tzname(None):
        node["n"] = text_tree(value.tzname(None))
    return node


def _base64(data: bytes | bytearray) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _bytes_from(node: Node) -> bytes:
    return binascii.a2b_base64(text_in(node), strict_mode=True)


def _float_from(node: Node) -> float:
    text = text_in(node)
    if text in ("inf", "-inf"):
        return float(text)
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


def _complex_from(node: Node) -> complex:
    real, imag = list_in(node)
    if type(real) is not float or type(imag) is not float:
        raise ValueError("the parts of a complex number must be floats")
    return complex(real, imag)


def _timedelta_from(node: Node) -> timedelta:
    days, seconds, microseconds = list_in(node)
    if not (type(days) is type(seconds) is type(microseconds) is int):
        raise ValueError("the parts of a timedelta must be whole numbers")
    return timedelta(days, seconds, microseconds)


def _timezone_from(node: Node) -> timezone:
    offset = _timedelta_from(node)
    return timezone(offset, text_in(node, "n")) if "n" in node else timezone(offset)


def _clock_from(cls: type[Any]) -> Callable[[Node], object]:
    def restore(node: Node) -> object:
        zone = node.get("tz")
        if zone is not None and not isinstance(zone, tzinfo):
            raise ValueError(f"{zone!r} is no time zone")
        return cls.fromisoformat(text_in(node)).replace(fold=int("fold" in node), tzinfo=zone)

    return restore


RESTORERS: dict[str, Callable[[Node], object]] = {
    **dict.fromkeys(TEXT_TYPES, text_type_from),
    "str": lambda node: _bytes_from(node).decode("utf-8", "surrogatepass"),
    "int": lambda node: int(text_in(node), 16),
    "float": _float_from,
    "complex": _complex_from,
    "bytes": _bytes_from,
    "bytearray": lambda node: bytearray(_bytes_from(node)),
    "date": lambda node: date.fromisoformat(text_in(node)),
    "datetime": _clock_from(datetime),
    "time": _clock_from(time),
    "timedelta": _timedelta_from,
    "timezone": _timezone_from,
}
