"""The stored form of a value: JSON in which an object with the key `$` stands for what JSON lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from dbos_events.errors import SerializationError

TAG = "$"

# Deeper values are refused when they are written: reading one needs a multiple of this in stack
# frames, and a replay may start from a deeper stack than the run that wrote it.
MAX_DEPTH = 100

Tree: TypeAlias = "bool | int | float | str | Sequence[Tree] | Mapping[str, Tree] | None"
Child: TypeAlias = Callable[[object, int], Tree]
Node: TypeAlias = Mapping[str, object]


def text_in(node: Node, key: str = "v") -> str:
    """Return the text under `key`; anything else there is a SerializationError."""
    value = node.get(key)
    if type(value) is not str:
        raise _damaged(node, key, "text", value)
    return value


def whole_in(node: Node, key: str = "v") -> int:
    """Return the whole number under `key`; anything else there is a SerializationError."""
    value = node.get(key)
    if type(value) is not int:
        raise _damaged(node, key, "a whole number", value)
    return value


def list_in(node: Node, key: str = "v") -> list[object]:
    """Return the list under `key`; anything else there is a SerializationError."""
    value = node.get(key)
    if type(value) is not list:
        raise _damaged(node, key, "a list", value)
    return value


def dict_in(node: Node, key: str = "v") -> dict[str, object]:
    """Return the dict under `key`; anything else there is a SerializationError."""
    value = node.get(key)
    if type(value) is not dict:
        raise _damaged(node, key, "an object", value)
    return value


def pairs_in(node: Node, key: str = "v") -> list[tuple[object, object]]:
    """Return the list of pairs under `key`; anything else there is a SerializationError."""
    pairs: list[tuple[object, object]] = []
    for pair in list_in(node, key):
        if type(pair) is not list or len(pair) != 2:
            raise _damaged(node, key, "a list of pairs", pair)
        pairs.append((pair[0], pair[1]))
    return pairs


def _damaged(node: Node, key: str, wanted: str, found: object) -> SerializationError:
    return SerializationError(
        f"The stored value is damaged: {key!r} of a {node.get(TAG)!r} must be {wanted}, "
        f"and is of type {type(found).__name__}."
    )
