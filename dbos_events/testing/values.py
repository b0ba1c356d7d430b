"""The check that what is stored comes back as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dbos_events.errors import SerializationError
from dbos_events.serialization.codecs import Codec


class CheckedCodec:
    """A codec that reads back whatever it writes, and refuses a value that would come back changed."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.name = codec.name
        self.checked = 0

    def encode(self, value: object) -> str:
        text = self._codec.encode(value)
        decoded = self._codec.decode(text)
        if not same(value, decoded):
            raise SerializationError(
                f"A stored value comes back changed, so a replay would see another one than the first run: "
                f"{value!r} ({type(value).__qualname__}) becomes {decoded!r} ({type(decoded).__qualname__}). "
                "Give the class an __eq__ that compares what matters, or return a plain value."
            )
        self.checked += 1
        return text

    def decode(self, text: str) -> object:
        return self._codec.decode(text)

    def encode_error(self, error: BaseException) -> str:
        return self._codec.encode_error(error)

    def decode_error(self, text: str) -> BaseException:
        return self._codec.decode_error(text)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types throughout."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        return {(type(item), item) for item in one} == {(type(item), item) for item in other}
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name, None), getattr(other, name, None)) for name in names)
    return _equal(one, other)


def _equal(one: Any, other: Any) -> bool:
    if one == other or (one != one and other != other):  # noqa: PLR0124 - NaN
        return True
    compares_identity = "__eq__" not in {name for kind in type(one).__mro__[:-1] for name in vars(kind)}
    return compares_identity and hasattr(one, "__dict__") and same(vars(one), vars(other))
