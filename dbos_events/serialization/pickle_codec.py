"""Values by pickle, for those who opt in: any picklable type, at the price of trusting the database."""

from __future__ import annotations

import binascii

from dbos_events.errors import SerializationError
from dbos_events.serialization.errors_codec import decode_error, error_node
from dbos_events.serialization.json_codec import read_raw
from dbos_events.serialization.notstorable import type_name
from dbos_events.serialization.plain import write_json
from dbos_events.serialization.raised import is_interrupt, text_of

_PROTOCOL = 5  # fixed, so that every supported Python reads what another one wrote


def encode_pickle(value: object) -> str:
    """Return base64 of the pickled value; raises SerializationError for what pickle refuses."""
    import pickle  # costs 3 ms, and most processes never use it

    try:
        data = pickle.dumps(value, protocol=_PROTOCOL)
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise SerializationError(
            f"A value of type {type_name(type(value))} cannot be pickled: {type(error).__name__}: {text_of(error)}"
        ) from error
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_pickle(text: str) -> object:
    """Return the pickled value. Reading pickle runs code that the text names: only for trusted databases."""
    import pickle

    try:
        return pickle.loads(binascii.a2b_base64(text, strict_mode=True))  # noqa: S301  # opted in by the user
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise SerializationError(
            f"The pickled value cannot be read: {type(error).__name__}: {text_of(error)}"
        ) from error


def encode_pickle_error(error: BaseException) -> str:
    """Return the stored form of an error as the JSON codec writes it, with the pickled error added.

    Never fails: an error that pickle cannot carry both ways is stored as JSON alone.
    """
    node = error_node(error)
    try:
        pickled = encode_pickle(error)
        if type(decode_pickle(pickled)) is type(error):
            node["pickle"] = pickled
    except SerializationError:
        pass
    return write_json(node)


def decode_pickle_error(text: str) -> BaseException:
    """Return the pickled error, or what the JSON codec makes of it where there is none."""
    node = read_raw(text)
    pickled = node.get("pickle") if isinstance(node, dict) else None
    if isinstance(pickled, str):
        try:
            error = decode_pickle(pickled)
        except SerializationError:
            return decode_error(text)
        if isinstance(error, BaseException):
            return error
    return decode_error(text)
