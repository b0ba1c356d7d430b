"""Errors of steps and workflows to stored text and back."""

from __future__ import annotations

from dbos_events.errors import RecordedError, SerializationError
from dbos_events.serialization.exceptions import error_tree
from dbos_events.serialization.json_codec import decode, read_raw
from dbos_events.serialization.nodes import TAG, Tree
from dbos_events.serialization.notstorable import type_name
from dbos_events.serialization.plain import write_json
from dbos_events.serialization.raised import is_interrupt, text_of
from dbos_events.serialization.trees import to_tree

TRACEBACK_LIMIT = 20_000
_HEAD = 4_000
ERROR_LIMIT = 1_000_000
"""Characters of a stored error without its traceback. A message that holds a whole response is cut, not kept for ever."""
TEXT_LIMIT = 50_000
"""Characters of each text in an error that is longer than that."""


def encode_error(error: BaseException) -> str:
    """Return the stored form of an error, with its traceback as text for people.

    Never fails: what cannot be stored of the error is replaced by its text or left out.
    """
    return write_json(error_node(error))


def error_node(error: BaseException) -> dict[str, Tree]:
    """Return the tree of an error with its traceback."""
    try:
        node = error_tree(error, to_tree)
        if len(write_json(node)) > ERROR_LIMIT:
            node = _shortened(node)
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        node = _named_only(error)
    node["tb"] = _traceback_text(error)
    return node


def _named_only(error: BaseException) -> dict[str, Tree]:
    """An error by its name and its message; it comes back as a RecordedError."""
    return {TAG: "error", "n": ascii(type_name(type(error)))[1:-1], "m": _cut(ascii(text_of(error))[1:-1])}


def _shortened(node: dict[str, Tree]) -> dict[str, Tree]:
    """The same error with its long texts cut. Raises SerializationError where it is long by other things."""
    shorter = {key: _with_short_texts(part) for key, part in node.items()}
    if len(write_json(shorter)) > ERROR_LIMIT:
        raise SerializationError("The error is too large to be stored whole.")
    return shorter


def _with_short_texts(tree: Tree) -> Tree:
    if isinstance(tree, str):
        return _cut(tree)
    if isinstance(tree, dict):
        return {key: _with_short_texts(part) for key, part in tree.items()}
    if isinstance(tree, list):
        return [_with_short_texts(part) for part in tree]
    return tree


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]} ... {len(text) - TEXT_LIMIT} characters left out"


def decode_error(text: str) -> BaseException:
    """Return the error that `encode_error` was given: its own class, arguments, attributes, notes and cause.

    Where its class is not loaded, or cannot be rebuilt here, the answer is a RecordedError with its name
    and message. Raises SerializationError for a text that is no stored error.
    """
    try:
        error = decode(text)
    except SerializationError:
        # A part of it may be of a class that is gone; name and message are plain text.
        summary = _summary(read_raw(text))
        if summary is None:
            raise
        return RecordedError(summary[0], summary[1])
    if not isinstance(error, BaseException):
        raise SerializationError(f"The stored error is no error but of type {type(error).__name__}.")
    return error


def with_stored_traceback(error: BaseException, text: str) -> BaseException:
    """The error that was decoded from `text`, to be raised with the lines of its workflow: its own traceback was there."""
    from dbos_events.serialization.tracebacks import rebuilt

    if error.__traceback__ is None:
        BaseException.with_traceback(error, rebuilt(error_summary(text)[2]))  # not by code of its class
    return error


def error_summary(text: str) -> tuple[str, str, str]:
    """Return type name, message and traceback of a stored error, without importing or building anything.

    Never fails: a text that is no stored error is returned as the message.
    """
    try:
        summary = _summary(read_raw(text))
    except SerializationError:
        summary = None
    return summary or ("", str(text), "")


def _summary(node: object) -> tuple[str, str, str] | None:
    if not isinstance(node, dict) or node.get(TAG) != "error":
        return None
    name, message, traceback = node.get("n"), node.get("m"), node.get("tb", "")
    if not (isinstance(name, str) and isinstance(message, str) and isinstance(traceback, str)):
        return None
    return name, message, traceback


def _traceback_text(error: BaseException) -> str:
    import traceback  # costs 5 ms, and most processes record no error

    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        return ""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= TRACEBACK_LIMIT:
        return text
    left_out = "\n... {} characters left out ...\n"
    tail = TRACEBACK_LIMIT - _HEAD - len(left_out) - 10
    return text[:_HEAD] + left_out.format(len(text) - _HEAD - tail) + text[-tail:]
