"""A short hash of a call's arguments, by which replay notices that the code asks for something else."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

from dbos_events.serialization import models, records
from dbos_events.serialization.class_names import per_class
from dbos_events.serialization.nodes import MAX_DEPTH
from dbos_events.serialization.plain import is_plain, write_sorted_json
from dbos_events.serialization.raised import is_interrupt
from dbos_events.serialization.trees import to_tree

try:
    from _blake2 import blake2b  # what hashlib hands out too, but hashlib loads OpenSSL first: 5 ms
except ImportError:
    from hashlib import blake2b

_SCALARS = frozenset({type(None), bool, int, float, str})
_SCALARS_AND_BYTES = _SCALARS | {bytes}
_SEQUENCES = frozenset({list, tuple, deque})
_SETS = frozenset({set, frozenset})
_MAPPINGS = frozenset({dict, OrderedDict, defaultdict, Counter})
_CUT = b"..."

_Items: TypeAlias = Iterable[tuple[object, object]]
_ItemsOf: TypeAlias = Callable[[Any], _Items]


def fingerprint(args: Sequence[object], kwargs: Mapping[str, object], *, bound: bool = False) -> str:
    """Return 16 hex digits that are the same for equal arguments, in any process and Python version.

    The order of dicts and sets does not count. An object that cannot be stored counts by the name of
    its class alone, and so does the first argument when `bound` says that it is the `self` of a method.
    Never fails, and never depends on an address or a `repr`.
    """
    try:
        if bound and args:
            args = (type(args[0]).__qualname__, *args[1:])
        content = _call_content(args, kwargs)
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        content = _joined("call", [type(item).__qualname__.encode() for item in (*args, *kwargs.values())])
    return blake2b(content, digest_size=8).hexdigest()


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


def _call_content(args: Sequence[object], kwargs: Mapping[str, object]) -> bytes:
    if _SCALARS.issuperset(map(type, args)) and _SCALARS.issuperset(map(type, kwargs.values())):
        # ascii() and not repr(): which letters repr() escapes depends on the Python version.
        return ascii((*args, sorted(kwargs.items())) if kwargs else (*args,)).encode()
    if not kwargs and _SCALARS_AND_BYTES.issuperset(map(type, args)):
        return ascii([("bytes", _digest(item)) if type(item) is bytes else item for item in args]).encode()
    positional, named = list(args), dict(kwargs)
    if is_plain(positional) and is_plain(named):
        return write_sorted_json([positional, named]).encode()
    contents = _Contents()
    return _joined("call", [contents.of(positional, 0), contents.of(named, 0)])


class _Contents:
    """The content of each value as bytes; what is referred to twice is looked at once."""

    def __init__(self) -> None:
        self._seen: dict[int, bytes] = {}

    def of(self, value: Any, depth: int) -> bytes:
        kind = type(value)
        if kind is int:
            return hex(value).encode()
        if kind in _SCALARS:
            return ascii(value).encode()
        if kind is bytes or kind is bytearray:
            return _joined(kind.__name__, [blake2b(value, digest_size=16).digest()])
        if depth > MAX_DEPTH:
            return _CUT
        items_of = _items_of(kind)
        if items_of is None and kind not in _SEQUENCES and kind not in _SETS:
            return _leaf(value)
        key = id(value)
        if key not in self._seen:
            self._seen[key] = _CUT  # what a value that contains itself finds inside
            self._seen[key] = _short(_joined(kind.__qualname__, self._parts(value, items_of, depth + 1)))
        return self._seen[key]

    def _parts(self, value: Any, items_of: _ItemsOf | None, depth: int) -> list[bytes]:
        if items_of is not None:
            return sorted(
                _joined("", [self.of(key, depth), self.of(item, depth)]) for key, item in items_of(value)
            )
        parts = [self.of(item, depth) for item in value]
        return parts if type(value) in _SEQUENCES else sorted(parts)


@per_class
def _items_of(kind: type) -> _ItemsOf | None:
    """Return what reads a mapping's items, or a record's fields by name; None for all other classes."""
    if kind in _MAPPINGS:
        return _mapping_items
    if issubclass(kind, (Enum, BaseException)):
        return None
    if records.is_dataclass(kind):
        return _dataclass_items
    if models.is_model(kind):
        return _model_items
    return _named_tuple_items if records.is_named_tuple(kind) else None


def _mapping_items(value: Any) -> _Items:
    return list(value.items())


def _named_tuple_items(value: Any) -> _Items:
    return zip(type(value)._fields, value, strict=True)


def _dataclass_items(value: Any) -> _Items:
    return _chosen(records.instance_state(value), type(value).__dataclass_fields__)


def _model_items(value: Any) -> _Items:
    fields = _chosen(value.__dict__, type(value).model_fields)
    return [*fields, *(value.__pydantic_extra__ or {}).items()]


def _chosen(state: dict[str, object], fields: Iterable[str]) -> list[tuple[object, object]]:
    # Only fields: a cached property may be there in one run and not yet in the other.
    return [(name, state[name]) for name in fields if name in state]


def _leaf(value: object) -> bytes:
    kind = type(value)
    if isinstance(value, BaseException):
        # After a replay it may be a RecordedError, where its class cannot be imported any more.
        return b"exception"
    if isinstance(value, Enum):
        return _joined(kind.__qualname__, [str(value._name_).encode(), *_flag_value(value)])
    try:
        return write_sorted_json(to_tree(value)).encode()
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        return _joined("type", [kind.__qualname__.encode()])


def _flag_value(value: Enum) -> list[bytes]:
    return [hex(value._value_).encode()] if isinstance(value._value_, int) else []


def _short(content: bytes) -> bytes:
    return content if len(content) <= 64 else blake2b(content, digest_size=16).digest()


def _joined(label: str, parts: Iterable[bytes]) -> bytes:
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    return b"%b(%b)" % (label.encode(), b"".join([b"%d:%b" % (len(part), part) for part in parts]))
