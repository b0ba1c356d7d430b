"""Values of pydantic: models by `module:qualname`, URLs and fixed offsets.

Writing imports no pydantic: whoever has such a value has imported it already.
"""

from __future__ import annotations

import importlib
import sys
from types import MemberDescriptorType
from typing import Any

from dbos_events.errors import SerializationError
from dbos_events.serialization.class_names import bases_of, find_class, name_of
from dbos_events.serialization.nodes import TAG, Child, Node, Tree, dict_in, list_in, text_in, whole_in
from dbos_events.serialization.notstorable import NotStorable
from dbos_events.serialization.records import (
    class_attribute,
    is_dataclass,
    missing_field,
    refuse_unknown_fields,
    state_tree,
    wrong_kind,
)

_ARGUMENTS = (str, int, float, bool, bytes, list, dict, set, tuple)


def is_model(cls: type) -> bool:
    """Tell whether `cls` is a pydantic model."""
    return _is_subclass(cls, "pydantic.main", "BaseModel")


def is_url(cls: type) -> bool:
    """Tell whether `cls` is one of pydantic's URL types."""
    return _is_subclass(cls, "pydantic.networks", "AnyUrl")


def is_offset(cls: type) -> bool:
    """Tell whether `cls` is the fixed time zone that pydantic gives to the datetimes it parses."""
    module = sys.modules.get("pydantic_core")
    return module is not None and cls is getattr(module, "TzInfo", None)


def model_tree(value: Any, child: Child, depth: int) -> Tree:
    """Return the tree of a model: its fields as they are, which were set, and extra ones.

    Private attributes are not stored; they come back with their defaults.
    """
    cls = type(value)
    state: dict[str, object] = value.__dict__
    fields = cls.model_fields
    node: dict[str, Tree] = {TAG: "model", **_model_name(cls)}
    node["v"] = state_tree({name: state[name] for name in fields if name in state}, child, depth)
    node["s"] = sorted(value.__pydantic_fields_set__)
    unset: list[Tree] = [name for name in fields if name not in state]
    if unset:
        node["u"] = unset
    if value.__pydantic_extra__ is not None:
        node["x"] = child(value.__pydantic_extra__, depth + 1)
    return node


def model_from(node: Node) -> object:
    """Return the model of a node, without validation: the stored fields were valid when they were stored.

    Fields that were added since get their defaults; a field that is gone is an error.
    """
    cls = _model_class(node)
    state = dict_in(node)
    fields = cls.model_fields
    refuse_unknown_fields(cls, state, fields)
    unset = list_in(node, "u") if "u" in node else []
    attributes: dict[str, object] = {}
    for name, field in fields.items():
        if name in state:
            attributes[name] = state[name]
        elif name not in unset:
            if field.is_required():
                raise missing_field(cls, name)
            attributes[name] = _default_of(field, attributes)
    instance = object.__new__(cls)
    object.__setattr__(instance, "__dict__", attributes)
    object.__setattr__(instance, "__pydantic_fields_set__", set(list_in(node, "s")))
    # In a RootModel these two are attributes of the class.
    if isinstance(class_attribute(cls, "__pydantic_extra__"), MemberDescriptorType):
        object.__setattr__(instance, "__pydantic_extra__", dict_in(node, "x") if "x" in node else None)
    if isinstance(class_attribute(cls, "__pydantic_private__"), MemberDescriptorType):
        object.__setattr__(instance, "__pydantic_private__", _private_defaults(cls, attributes))
    return instance


def url_tree(value: object) -> Tree:
    """Return the tree of a pydantic URL."""
    return {TAG: "url", "t": name_of(type(value)), "v": str(value)}


def url_from(node: Node) -> object:
    """Return the pydantic URL of a node."""
    cls: Any = find_class(text_in(node, "t"))
    if not is_url(cls):
        raise wrong_kind(cls, "a URL type of pydantic")
    return type.__call__(cls, text_in(node))


def offset_tree(value: Any) -> Tree:
    """Return the tree of pydantic's fixed time zone."""
    return {TAG: "TzInfo", "v": int(value.utcoffset(None).total_seconds())}


def offset_from(node: Node) -> object:
    """Return pydantic's fixed time zone of a node."""
    return importlib.import_module("pydantic_core").TzInfo(whole_in(node))


def _is_subclass(cls: type, module_name: str, attribute: str) -> bool:
    base = getattr(sys.modules.get(module_name), attribute, None)
    return isinstance(base, type) and base in bases_of(cls)


def _model_name(cls: Any) -> dict[str, Tree]:
    """Name a class; `Envelope[Order]` exists under no name, so it is its origin and its arguments."""
    generic = cls.__pydantic_generic_metadata__
    origin = generic["origin"]
    if origin is None:
        return {"t": name_of(cls)}
    arguments = generic["args"]
    if not all(_is_argument(argument) for argument in arguments) or origin[arguments] is not cls:
        raise NotStorable(
            cls,
            "its type arguments are not all plain classes, so replay could not find it. "
            "Give it a name: `class Named(TheModel[...]): ...`.",
        )
    return {"t": name_of(origin), "a": [name_of(argument) for argument in arguments]}


def _model_class(node: Node) -> Any:
    cls: Any = find_class(text_in(node, "t"))
    if not is_model(cls):
        raise wrong_kind(cls, "a pydantic model")
    if "a" not in node:
        return cls
    arguments = tuple(find_class(str(name)) for name in list_in(node, "a"))
    if not all(_is_argument(argument) for argument in arguments):
        raise SerializationError(f"The type arguments of a stored {cls.__qualname__} are not plain classes.")
    return cls[arguments]


def _is_argument(argument: object) -> bool:
    if not isinstance(argument, type):
        return False
    return argument in _ARGUMENTS or is_dataclass(argument) or is_model(argument)


def _private_defaults(cls: Any, attributes: dict[str, object]) -> dict[str, object] | None:
    if not cls.__private_attributes__:
        return None
    undefined = importlib.import_module("pydantic_core").PydanticUndefined
    defaults = {
        name: _default_of(private, attributes) for name, private in cls.__private_attributes__.items()
    }
    return {name: default for name, default in defaults.items() if default is not undefined}


def _default_of(field: Any, attributes: dict[str, object]) -> object:
    # Not field.get_default(): its parameters differ between the versions of pydantic.
    if field.default_factory is None:
        from copy import deepcopy

        return deepcopy(field.default)
    if getattr(field, "default_factory_takes_validated_data", False):
        return field.default_factory(attributes)
    return field.default_factory()
