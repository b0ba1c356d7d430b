"""The hot case: values that JSON holds as they are, checked in one pass and written by C code."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

from dbos_events.serialization.nodes import MAX_DEPTH, TAG

# Longer decimal integers may be refused by Python (sys.set_int_max_str_digits, never below 640 digits).
INT_LIMIT = 10**600
INT_LOWEST = -INT_LIMIT

quote: Callable[[str], str] = json.encoder.encode_basestring_ascii


def is_plain(value: Any, depth: int = 0) -> bool:
    """Tell whether JSON gives the value back exactly, in type and content, without any tag."""
    kind = type(value)
    if kind is dict:
        return depth < MAX_DEPTH and _has_plain_keys(value) and _are_plain(value.values(), depth + 1)
    if kind is list:
        return depth < MAX_DEPTH and _are_plain(value, depth + 1)
    return _are_plain((value,), depth)


def is_plain_text(text: str) -> bool:
    """Tell whether a text is free of surrogates: JSON would join two that stand side by side."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _are_plain(values: Iterable[Any], depth: int) -> bool:
    for value in values:
        kind = type(value)
        if kind is str:
            if not (value.isascii() or is_plain_text(value)):
                return False
        elif kind is int:
            if not INT_LOWEST < value < INT_LIMIT:
                return False
        elif kind is dict or kind is list:
            if not is_plain(value, depth):
                return False
        elif value is not None and kind is not bool and not (kind is float and isfinite(value)):
            return False
    return True


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    for key in value:  # noqa: SIM110 - a generator would cost half as much again
        if type(key) is not str or key == TAG or not (key.isascii() or is_plain_text(key)):
            return False
    return True


def _writer(*, sort_keys: bool) -> Callable[[object], str]:
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(separators=(",", ":"), allow_nan=False, sort_keys=sort_keys).encode
    # JSONEncoder.encode makes this object anew in each call, which takes longer than a small value.
    chunks = make(None, _no_default, quote, None, ":", ",", sort_keys, False, False)
    return lambda tree: "".join(chunks(tree, 0))


def _no_default(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


write_json = _writer(sort_keys=False)
write_sorted_json = _writer(sort_keys=True)
