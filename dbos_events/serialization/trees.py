"""Any storable value to its tree, and a node back to its value."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from enum import Enum
from typing import Any, TypeAlias

from dbos_events.errors import SerializationError
from dbos_events.serialization import builtin_values, models, records
from dbos_events.serialization.class_names import per_class
from dbos_events.serialization.exceptions import error_from, error_tree
from dbos_events.serialization.nodes import MAX_DEPTH, TAG, Node, Tree, list_in, pairs_in, text_in, whole_in
from dbos_events.serialization.notstorable import PICKLE_ADVICE, NotStorable, unknown_type
from dbos_events.serialization.plain import is_plain_text
from dbos_events.serialization.raised import is_interrupt, text_of

_Encoder: TypeAlias = Callable[[Any, int], Tree]

_FACTORIES = {cls.__name__: cls for cls in (list, dict, set, tuple, str, int, float, bool, bytes)}


def to_tree(value: object, depth: int = 0) -> Tree:
    """Return the tree of a value; raises Refused for one that replay could not give back exactly."""
    kind = type(value)
    if value is None or kind is bool:
        return value  # type: ignore[return-value]
    if depth > MAX_DEPTH:
        raise NotStorable(
            kind,
            f"values nest at most {MAX_DEPTH} levels deep; this one is deeper or contains itself. "
            f"Flatten it, {PICKLE_ADVICE}.",
        )
    encoder = _ENCODERS.get(kind) or _encoder_of(kind)
    return encoder(value, depth)


def from_node(node: dict[str, Any]) -> object:
    """Return the value of one JSON object whose parts have been restored already.

    Raises SerializationError for an unknown tag and for a node that cannot be read.
    """
    if TAG not in node:
        return node
    tag = node[TAG]
    restore = _RESTORERS.get(tag) if isinstance(tag, str) else None
    if restore is None:
        raise SerializationError(
            f"The stored value has the unknown tag {tag!r}: a newer version of dbos_events wrote it, "
            "or it is damaged."
        )
    try:
        return restore(node)
    except SerializationError:
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise SerializationError(
            f"The stored {tag} cannot be read: {type(error).__name__}: {text_of(error)}"
        ) from error


@per_class
def _encoder_of(kind: type) -> _Encoder:
    for fits, encoder in _KINDS:
        if fits(kind):
            return encoder
    raise unknown_type(kind)


def _items(values: Iterable[object], depth: int) -> list[Tree]:
    trees: list[Tree] = []
    for index, value in enumerate(values):
        try:
            trees.append(to_tree(value, depth + 1))
        except NotStorable as refused:
            refused.add_step(f"[{index}]")
            raise
    return trees


def _members(values: Iterable[object], depth: int) -> list[Tree]:
    trees: list[Tree] = []
    for value in values:
        try:
            trees.append(to_tree(value, depth + 1))
        except NotStorable as refused:
            refused.add_step("{...}")
            raise
    return trees


def _pairs(mapping: Mapping[Any, object], depth: int) -> list[Tree]:
    pairs: list[Tree] = []
    for key, value in mapping.items():
        try:
            stored = to_tree(key, depth + 1)
        except NotStorable as refused:
            refused.add_step(".keys()")
            raise
        pairs.append([stored, _item(key, value, depth)])
    return pairs


def _item(key: object, value: object, depth: int) -> Tree:
    try:
        return to_tree(value, depth + 1)
    except NotStorable as refused:
        refused.add_step(f"[{key!r}]" if type(key) in (str, int) else f"[<{type(key).__name__}>]")
        raise


def _dict_tree(value: dict[Any, object], depth: int) -> Tree:
    for key in value:
        if type(key) is not str or key == TAG or not is_plain_text(key):
            return {TAG: "dict", "v": _pairs(value, depth)}
    return {key: _item(key, item, depth) for key, item in value.items()}


def _defaultdict_tree(value: defaultdict[Any, object], depth: int) -> Tree:
    factory = value.default_factory
    name = getattr(factory, "__name__", None)
    if factory is not None and _FACTORIES.get(str(name)) is not factory:
        raise NotStorable(
            defaultdict, "its default_factory is not a built-in type. Convert it with dict(...)."
        )
    return {TAG: "defaultdict", "f": name, "v": _pairs(value, depth)}


def _defaultdict_from(node: Node) -> object:
    factory = None if node.get("f") is None else _FACTORIES[text_in(node, "f")]
    return defaultdict(factory, pairs_in(node))


def _deque_from(node: Node) -> object:
    return deque(list_in(node), None if node.get("n") is None else whole_in(node, "n"))


def _leaf(encoder: Callable[[Any], Tree]) -> _Encoder:
    return lambda value, _depth: encoder(value)


def _parent(encoder: Callable[[Any, Callable[[object, int], Tree], int], Tree]) -> _Encoder:
    return lambda value, depth: encoder(value, to_tree, depth)


_ENCODERS: dict[type, _Encoder] = {
    str: _leaf(builtin_values.text_tree),
    int: _leaf(builtin_values.int_tree),
    float: _leaf(builtin_values.float_tree),
    complex: _leaf(builtin_values.complex_tree),
    bytes: _leaf(builtin_values.bytes_tree),
    bytearray: _leaf(builtin_values.bytes_tree),
    date: _leaf(builtin_values.date_tree),
    timedelta: _leaf(builtin_values.timedelta_tree),
    timezone: _leaf(builtin_values.timezone_tree),
    datetime: _parent(builtin_values.clock_tree),
    time: _parent(builtin_values.clock_tree),
    list: _items,
    dict: _dict_tree,
    tuple: lambda value, depth: {TAG: "tuple", "v": _items(value, depth)},
    set: lambda value, depth: {TAG: "set", "v": _members(value, depth)},
    frozenset: lambda value, depth: {TAG: "frozenset", "v": _members(value, depth)},
    deque: lambda value, depth: {TAG: "deque", "n": value.maxlen, "v": _items(value, depth)},
    OrderedDict: lambda value, depth: {TAG: "OrderedDict", "v": _pairs(value, depth)},
    Counter: lambda value, depth: {TAG: "Counter", "v": _pairs(value, depth)},
    defaultdict: _defaultdict_tree,
}

# In order: an enum may be a str or a dataclass as well, an exception may be a dataclass.
_KINDS: tuple[tuple[Callable[[type], bool], _Encoder], ...] = (
    (lambda kind: issubclass(kind, Enum), _leaf(records.enum_tree)),
    (lambda kind: issubclass(kind, BaseException), _parent(error_tree)),
    (records.is_dataclass, _parent(records.dataclass_tree)),
    (models.is_model, _parent(models.model_tree)),
    (records.is_named_tuple, _parent(records.named_tuple_tree)),
    (builtin_values.is_text_type, _leaf(builtin_values.text_type_tree)),
    (models.is_url, _leaf(models.url_tree)),
    (models.is_offset, _leaf(models.offset_tree)),
)

_RESTORERS: dict[str, Callable[[Node], object]] = {
    **builtin_values.RESTORERS,
    "tuple": lambda node: tuple(list_in(node)),
    "set": lambda node: set(list_in(node)),
    "frozenset": lambda node: frozenset(list_in(node)),
    "deque": _deque_from,
    "dict": lambda node: dict(pairs_in(node)),
    "OrderedDict": lambda node: OrderedDict(pairs_in(node)),
    "Counter": lambda node: Counter(dict(pairs_in(node))),
    "defaultdict": _defaultdict_from,
    "enum": records.enum_from,
    "flag": records.enum_from,
    "namedtuple": records.named_tuple_from,
    "dataclass": records.dataclass_from,
    "model": models.model_from,
    "url": models.url_from,
    "TzInfo": models.offset_from,
    "error": error_from,
}
