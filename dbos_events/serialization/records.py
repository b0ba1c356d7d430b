"""Values of the user's own classes: enums, named tuples and dataclasses, stored by `module:qualname`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from enum import Enum, Flag
from types import MemberDescriptorType
from typing import Any

from dbos_events.errors import SerializationError
from dbos_events.serialization.class_names import bases_of, class_dict, compiled_base, find_class, name_of
from dbos_events.serialization.nodes import TAG, Child, Node, Tree, dict_in, list_in, text_in
from dbos_events.serialization.notstorable import NotStorable, type_name


def is_named_tuple(cls: type) -> bool:
    """Tell whether `cls` is a named tuple."""
    return tuple in bases_of(cls) and isinstance(class_attribute(cls, "_fields"), tuple)


def is_dataclass(cls: type) -> bool:
    """Tell whether `cls` is a dataclass."""
    return isinstance(class_attribute(cls, "__dataclass_fields__"), dict)


def enum_tree(value: Enum) -> Tree:
    """Return the tree of an enum's member: by name, or by value for a flag, which may combine members."""
    cls = type(value)
    name = name_of(cls)
    if isinstance(value, Flag):
        return {TAG: "flag", "t": name, "v": value._value_}
    if cls.__members__.get(value._name_) is not value:
        raise NotStorable(cls, f"{value._name_!r} is no member of the enum, so replay could not find it.")
    return {TAG: "enum", "t": name, "v": value._name_}


def enum_from(node: Node) -> object:
    """Return the member that an `enum` or `flag` node names."""
    cls = find_class(text_in(node, "t"))
    members = class_attribute(cls, "_member_map_")
    if Enum not in bases_of(cls) or not isinstance(members, dict):
        raise wrong_kind(cls, "an enum")
    if node[TAG] == "flag":
        return _flag_from(cls, node["v"])
    name = text_in(node)
    if name not in members:
        raise SerializationError(
            f"The enum {type_name(cls)} has no member {name!r}, but a stored value names it. Bring it back."
        )
    return members[name]


def _flag_from(cls: type, value: object) -> object:
    """The flag with a value, which may combine members; neither the class's `__call__` nor its `_missing_` runs."""
    if Flag not in bases_of(cls) or type(value) is not int:
        raise wrong_kind(cls, "a flag with a whole number")
    known = class_attribute(cls, "_value2member_map_")
    if isinstance(known, dict) and value in known:
        return known[value]
    combine: Any = class_dict(Flag)["_missing_"]
    return combine.__func__(cls, value)


def named_tuple_tree(value: Any, child: Child, depth: int) -> Tree:
    """Return the tree of a named tuple, field by field."""
    cls = type(value)
    if getattr(value, "__dict__", None):
        raise NotStorable(cls, "it holds attributes besides its fields. Make it a dataclass.")
    fields = dict(zip(cls._fields, value, strict=True))
    return {TAG: "namedtuple", "t": name_of(cls), "v": state_tree(fields, child, depth)}


def named_tuple_from(node: Node) -> object:
    """Return the named tuple of a node; fields that were added since get their defaults."""
    cls: Any = find_class(text_in(node, "t"))
    if not is_named_tuple(cls):
        raise wrong_kind(cls, "a named tuple")
    state = dict_in(node)
    refuse_unknown_fields(cls, state, cls._fields)
    defaults: dict[str, object] = cls._field_defaults
    for field in cls._fields:
        if field not in state and field not in defaults:
            raise missing_field(cls, field)
    return tuple.__new__(cls, [state[field] if field in state else defaults[field] for field in cls._fields])


def dataclass_tree(value: Any, child: Child, depth: int) -> Tree:
    """Return the tree of a dataclass: the state of the instance, whatever `__init__` would make of it."""
    cls = type(value)
    if compiled_base(cls) is not object:
        base = type_name(compiled_base(cls))
        raise NotStorable(
            cls, f"a dataclass that is also a {base} cannot be rebuilt. Hold the {base} in a field."
        )
    state = instance_state(value)
    fields = dataclass_fields(cls)
    node: dict[str, Tree] = {TAG: "dataclass", "t": name_of(cls)}
    node["v"] = state_tree({field: state[field] for field in fields if field in state}, child, depth)
    if len(state) != len(fields) or state.keys() != fields.keys():
        _add_irregular(node, cls, state, child, depth)
    return node


def dataclass_from(node: Node) -> object:
    """Return the dataclass of a node, without running `__init__` or `__post_init__`.

    Fields that were added since get their defaults; a field that is gone is an error.
    """
    cls: Any = find_class(text_in(node, "t"))
    if not is_dataclass(cls) or compiled_base(cls) is not object:
        raise wrong_kind(cls, "a dataclass")
    fields = dataclass_fields(cls)
    state = dict_in(node)
    refuse_unknown_fields(cls, state, fields)
    unset = list_in(node, "u") if "u" in node else []
    instance = object.__new__(cls)
    for name, field in fields.items():
        if name in state:
            set_attribute(instance, name, state[name])
        elif name not in unset:
            set_attribute(instance, name, _default_of(cls, field))
    for name, extra in dict_in(node, "x").items() if "x" in node else ():
        set_attribute(instance, name, extra)
    return instance


def dataclass_fields(cls: type[Any]) -> dict[str, Any]:
    """Return the fields of a dataclass by name, without class variables and init-only parameters."""
    fields = sys.modules["dataclasses"].fields(cls)
    return {field.name: field for field in fields}


def instance_state(value: object) -> dict[str, object]:
    """Return the attributes that an instance holds, in its `__dict__` and in slots."""
    state = object.__getstate__(value)
    if isinstance(state, tuple):
        return {**(state[0] or {}), **state[1]}
    return state if isinstance(state, dict) else {}


def set_attribute(instance: object, name: str, value: object) -> None:
    """Set an attribute as storage only: no property and no `__setattr__` of the class runs."""
    slot = class_attribute(type(instance), name)
    if isinstance(slot, MemberDescriptorType):
        slot.__set__(instance, value)
    else:
        object.__getattribute__(instance, "__dict__")[name] = value


def class_attribute(cls: type, name: str) -> object:
    """Return what the class or a base defines under `name`, without running descriptors."""
    return next((class_dict(base)[name] for base in bases_of(cls) if name in class_dict(base)), None)


def is_recomputed(cls: type, name: str) -> bool:
    """Tell whether an attribute may be left out: a cached property, or the alias of a generic class."""
    if name == "__orig_class__":
        return True
    return type(class_attribute(cls, name)).__name__ == "cached_property"


def state_tree(state: Mapping[str, object], child: Child, depth: int) -> Tree:
    """Return the tree of attributes by name; a refused one adds `.name` to the path."""
    tree: dict[str, Tree] = {}
    for name, value in state.items():
        if name == TAG:
            raise NotStorable(type(value), f"an attribute cannot be named {TAG!r}.")
        try:
            tree[name] = child(value, depth + 1)
        except NotStorable as refused:
            refused.add_step(f".{name}")
            raise
    return tree


def refuse_unknown_fields(cls: type, state: Iterable[str], fields: Iterable[str]) -> None:
    """Raise when stored fields no longer exist: dropping them silently would lose data."""
    unknown = sorted(set(state) - set(fields))
    if unknown:
        raise SerializationError(
            f"A stored {type_name(cls)} has the fields {unknown}, which the class no longer has. "
            "Keep removed or renamed fields until the workflows that stored them have finished."
        )


def missing_field(cls: type, field: str) -> SerializationError:
    """Return the error for a field that was added without a default after the value was stored."""
    return SerializationError(
        f"A stored {type_name(cls)} has no field {field!r}, and the class gives it no default. "
        "Give a field that was added later a default."
    )


def wrong_kind(cls: type, wanted: str) -> SerializationError:
    """Return the error for a node whose class is not of the kind that its tag says."""
    return SerializationError(
        f"The stored class {type_name(cls)} is not {wanted}; the value is damaged or was tampered with."
    )


def _add_irregular(
    node: dict[str, Tree], cls: type, state: dict[str, object], child: Child, depth: int
) -> None:
    fields = dataclass_fields(cls)
    unset: list[Tree] = [name for name in fields if name not in state]
    extra = {
        name: item for name, item in state.items() if name not in fields and not is_recomputed(cls, name)
    }
    if unset:
        node["u"] = unset
    if extra:
        node["x"] = state_tree(extra, child, depth)


def _default_of(cls: type, field: Any) -> object:
    missing = sys.modules["dataclasses"].MISSING
    if field.default is not missing:
        return field.default
    if field.default_factory is not missing:
        return field.default_factory()
    raise missing_field(cls, field.name)
