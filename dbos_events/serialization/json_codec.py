"""Values to tagged JSON and back, with the same types."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from dbos_events.errors import SerializationError
from dbos_events.serialization.nodes import TAG
from dbos_events.serialization.notstorable import NotStorable
from dbos_events.serialization.plain import INT_LIMIT, INT_LOWEST, is_plain, quote, write_json
from dbos_events.serialization.trees import from_node, to_tree

_TAG_MARK = f'"{TAG}"'


def encode(value: Any) -> str:
    """Return the stored form of a value: ASCII JSON from which `decode` makes the same value, type by type.

    Supported, in any mixture: None, bool, int, float, complex, str, bytes, bytearray, list, tuple, set,
    frozenset, dict, OrderedDict, defaultdict, Counter, deque, datetime, date, time, timedelta, timezone,
    ZoneInfo, Decimal, UUID, paths, enums, named tuples, dataclasses, pydantic models and exceptions.
    Anything else raises SerializationError, which says where in the value it lies and what to do.
    An object that is referred to twice comes back as two equal ones.
    """
    kind = type(value)
    if kind is str and value.isascii():
        return quote(value)
    if kind is int and INT_LOWEST < value < INT_LIMIT:
        return repr(value)
    if value is None:
        return "null"
    try:
        return write_json(value if is_plain(value) else to_tree(value))
    except NotStorable as refused:
        raise refused.as_error() from None
    except RecursionError:
        raise SerializationError(
            "The value could not be stored: Python's recursion limit was reached on the way. "
            "Return it from a less deep call, or flatten it."
        ) from None


def decode(text: str) -> object:
    """Return the value that `encode` was given.

    Raises SerializationError for a text that is damaged, names a class that cannot be found, or names
    one that is not of the kind that its tag says. Only types that `encode` supports are constructed, of classes that
    are loaded or belong to a package of the application (docs/payloads.md).
    """
    return _read(text, _tagged)


def read_raw(text: str) -> object:
    """Return the JSON of a stored value with its tags as plain objects, for who needs only parts of it."""
    return _read(text, _plain)


def _read(text: str, decoder: json.JSONDecoder) -> object:
    try:
        value, end = (decoder if _TAG_MARK in text else _plain).raw_decode(text)
    except SerializationError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise SerializationError(f"The stored value cannot be read: it is not valid JSON: {error}") from error
    if end != len(text):
        raise SerializationError(
            f"The stored value cannot be read: it goes on after its end, at character {end}."
        )
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_plain = json.JSONDecoder(parse_constant=_refuse_constant)
_tagged = json.JSONDecoder(parse_constant=_refuse_constant, object_hook=from_node)
