"""Exceptions as values: their own class, arguments, attributes, notes and cause."""

from __future__ import annotations

import sys
from typing import Any, cast

from dbos_events.errors import RecordedError, SerializationError
from dbos_events.serialization.class_names import bases_of, class_dict, compiled_base, find_class, name_of
from dbos_events.serialization.nodes import MAX_DEPTH, TAG, Child, Node, Tree, dict_in, list_in, text_in
from dbos_events.serialization.notstorable import NotStorable, type_name
from dbos_events.serialization.plain import is_plain_text
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.serialization.records import class_attribute, instance_state, set_attribute

_TEXT_LIMIT = 1_000

_CAUSE: Any = vars(BaseException)["__cause__"]
"""Set by this and not by assignment, which would run a `__setattr__` of the class."""

# An error is often an argument, an attribute and the cause of the next one at once, or part of a
# circle: each level multiplies the work, so that only a few are followed.
_LEVEL = MAX_DEPTH // 5


def error_tree(error: BaseException, child: Child, depth: int = 0) -> dict[str, Tree]:
    """Return the tree of an exception.

    An error must always be recordable: an argument that cannot be stored becomes its text, an
    attribute that cannot be stored is left out.
    """
    node: dict[str, Tree] = {TAG: "error", "n": _safe(type_name(type(error))), "m": _safe(text_of(error))}
    depth += _LEVEL
    if error.__cause__ is not None and depth <= MAX_DEPTH:
        node["cause"] = error_tree(error.__cause__, child, depth)
    try:
        node["t"] = name_of(type(error))
    except NotStorable:
        return node
    args, state = _pieces(error)
    node["args"] = [_lenient(argument, child, depth) for argument in args]
    node["state"] = _lenient_state(state, child, depth)
    _add_call(node, error, child, depth)
    return node


def error_from(node: Node) -> BaseException:
    """Return the exception of a node: of its own class, else a RecordedError with name and message."""
    error: BaseException
    try:
        error = _rebuilt(node)
        str(error)
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        error = RecordedError(text_in(node, "n"), text_in(node, "m"))
    cause = node.get("cause")
    if isinstance(cause, BaseException):
        _CAUSE.__set__(error, cause)
    return error


def _pieces(error: BaseException) -> tuple[tuple[object, ...], dict[str, object]]:
    """Return the arguments and attributes from which the compiled-in base restores the exception."""
    state = dict(instance_state(error))
    if _reduce_is_custom(type(error)):
        return error.args, state
    reduced: Any = error.__reduce__()
    # OSError keeps the file name, and ImportError the module, outside `args` and `__dict__`.
    return reduced[1], {**state, **(reduced[2] if len(reduced) > 2 and reduced[2] else {})}


def _add_call(node: dict[str, Tree], error: BaseException, child: Child, depth: int) -> None:
    """Add the class's own way to be rebuilt, where it defines one and its pieces can be stored."""
    cls = type(error)
    if not _reduce_is_custom(cls):
        return
    try:
        reduced: Any = error.__reduce_ex__(4)
        factory, args = reduced[:2]
        state = reduced[2] if len(reduced) > 2 else None
        if factory == _factory(cls) and (state is None or isinstance(state, dict)):
            node["call"] = {
                "args": [child(argument, depth) for argument in args],
                "state": {str(name): child(item, depth) for name, item in (state or {}).items()},
            }
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        return


def _reduce_is_custom(cls: type[BaseException]) -> bool:
    for base in bases_of(cls):
        if base is object:
            return False
        if "__reduce__" in class_dict(base) or "__reduce_ex__" in class_dict(base):
            return base.__module__ != "builtins"
    return False


def _factory(cls: type) -> object:
    """Return the one callable that may rebuild an exception: its class, save for one without constructor."""
    factory: Any = cls
    special = getattr(sys.modules.get("pydantic_core"), "ValidationError", None)
    return factory.from_exception_data if cls is special else factory


def _rebuilt(node: Node) -> BaseException:
    cls = find_class(text_in(node, "t"))
    if BaseException not in bases_of(cls):
        raise SerializationError(f"The stored class {type_name(cls)} is not an exception.")
    state = dict_in(node, "state")
    error: Any = _called(cls, dict_in(node, "call")) if "call" in node and _reduce_is_custom(cls) else None
    if error is None:
        # Neither `__new__` nor `__init__` of the user's class runs: they may want other arguments
        # than those that ended in `args`, and would set anew what `state` holds.
        base: Any = compiled_base(cls)
        if base.__module__ != "builtins":  # nobody knows what its constructor does with any arguments
            raise SerializationError(f"The stored {type_name(cls)} could not be rebuilt.")
        args = list_in(node, "args")
        error = base.__new__(cls, *args)
        base.__init__(error, *args)
    if type(error) is not cls:
        raise SerializationError(f"The stored {type_name(cls)} could not be rebuilt.")
    for name, value in state.items():
        if name not in instance_state(error):
            set_attribute(error, name, value)
    return cast("BaseException", error)


def _called(cls: type[BaseException], call: Node) -> BaseException | None:
    factory: Any = _factory(cls)
    try:
        args = list_in(call, "args")
        if factory is cls and not _takes(cls, args):
            return None
        error: BaseException = factory(*args) if factory is not cls else type.__call__(cls, *args)
        for name, value in dict_in(call, "state").items():
            set_attribute(error, name, value)
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        return None
    return error


def _takes(cls: type[BaseException], args: list[Any]) -> bool:
    """Whether the class's constructor takes so many arguments; otherwise nothing of it shall run."""
    import inspect  # costs 3 ms, and few classes say how to rebuild them

    made = class_attribute(cls, "__init__")
    if not inspect.isfunction(made):
        return True  # compiled in
    try:
        inspect.signature(made).bind(None, *args)
    except TypeError:
        return False
    return True


def _lenient(value: object, child: Child, depth: int) -> Tree:
    try:
        return child(value, depth)
    except NotStorable:
        return _safe(_text_of(value))


def _lenient_state(state: dict[str, object], child: Child, depth: int) -> Tree:
    tree: dict[str, Tree] = {}
    for name, value in state.items():
        try:
            tree[str(name)] = child(value, depth)
        except NotStorable:
            continue
    tree.pop(TAG, None)
    return tree


def _text_of(value: object) -> str:
    try:
        return str(value)[:_TEXT_LIMIT]
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        return f"<{type(value).__name__}>"


def _safe(text: str) -> str:
    return text if is_plain_text(text) else text.encode("utf-8", "backslashreplace").decode()
