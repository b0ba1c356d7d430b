"""Codecs by name: each stored row names the codec that wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeAlias, runtime_checkable

from dbos_events.errors import SerializationError
from dbos_events.serialization.errors_codec import decode_error, encode_error
from dbos_events.serialization.json_codec import decode, encode
from dbos_events.serialization.notstorable import type_name
from dbos_events.serialization.pickle_codec import (
    decode_pickle,
    decode_pickle_error,
    encode_pickle,
    encode_pickle_error,
)
from dbos_events.serialization.plain import is_plain_text
from dbos_events.serialization.raised import as_exception, is_interrupt, text_of


@runtime_checkable
class Codec(Protocol):
    """Values and errors to stored text and back."""

    @property
    def name(self) -> str:
        """The name that is stored beside each text."""

    def encode(self, value: object) -> str:
        """Return the stored form; raises SerializationError for a value that has none."""

    def decode(self, text: str) -> object:
        """Return the value; raises SerializationError for a text that cannot be read."""

    def encode_error(self, error: BaseException) -> str:
        """Return the stored form of an error."""

    def decode_error(self, text: str) -> BaseException:
        """Return the error, or a stand-in with its name and message."""


@runtime_checkable
class Serializer(Protocol):
    """A user's own serializer, of the shape that DBOS Transact takes."""

    def name(self) -> str:
        """Return the name that is stored beside each text."""

    def serialize(self, data: object) -> str:
        """Return the stored form."""

    def deserialize(self, serialized_data: str) -> object:
        """Return the value."""


AnyCodec: TypeAlias = "str | Codec | Serializer"


class JsonCodec:
    """Tagged JSON, the default: exact types, safe to read."""

    name = "json"

    def encode(self, value: object) -> str:
        """Return tagged JSON; raises SerializationError for a type that it does not know."""
        return encode(value)

    def decode(self, text: str) -> object:
        """Return the value with its types."""
        return decode(text)

    def encode_error(self, error: BaseException) -> str:
        """Return the stored form of an error; never fails."""
        return encode_error(error)

    def decode_error(self, text: str) -> BaseException:
        """Return the error, of its own class where that is importable."""
        return decode_error(text)


class PickleCodec:
    """Base64 of pickle: any picklable type; reading it trusts the database with running code."""

    name = "pickle"

    def encode(self, value: object) -> str:
        """Return base64 of the pickled value."""
        return encode_pickle(value)

    def decode(self, text: str) -> object:
        """Return the unpickled value."""
        return decode_pickle(text)

    def encode_error(self, error: BaseException) -> str:
        """Return the stored form of an error; never fails."""
        return encode_pickle_error(error)

    def decode_error(self, text: str) -> BaseException:
        """Return the error."""
        return decode_pickle_error(text)


class SerializerCodec:
    """A user's serializer as a codec.

    Errors go through it as the text that the JSON codec makes of them, so that a serializer that
    encrypts or compresses does so for errors too, and need not know exceptions.
    """

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        self.name = str(serializer.name())

    def encode(self, value: object) -> str:
        """Return what the serializer makes of the value; it must be text."""
        try:
            text = self._serializer.serialize(value)
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise self._failed("write", error) from error
        if not isinstance(text, str):
            raise SerializationError(
                f"The serializer {self.name!r} returned {type(text).__name__} instead of str."
            )
        if "\0" in text or not is_plain_text(text):
            raise SerializationError(
                f"The serializer {self.name!r} returned text that a database cannot store: NUL, or half of a surrogate "
                "pair. Return ASCII, such as base64."
            )
        return text

    def decode(self, text: str) -> object:
        """Return what the serializer reads from the text."""
        try:
            return self._serializer.deserialize(text)
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise self._failed("read", error) from error

    def encode_error(self, error: BaseException) -> str:
        """Return the stored form of an error."""
        return self.encode(encode_error(error))

    def decode_error(self, text: str) -> BaseException:
        """Return the error."""
        return decode_error(str(self.decode(text)))

    def _failed(self, verb: str, error: BaseException) -> SerializationError:
        return SerializationError(
            f"The serializer {self.name!r} could not {verb} a value: {type(error).__name__}: {text_of(error)}"
        )


JSON = JsonCodec()
PICKLE = PickleCodec()
_BUILT_IN: dict[str, Codec] = {JSON.name: JSON, PICKLE.name: PICKLE}


def not_storable(what: str, error: SerializationError) -> SerializationError:
    """The same refusal of a value, with what the value is of."""
    named = SerializationError(f"{what} cannot be stored: {error.message}")
    named.__cause__ = error.__cause__
    return named


def encoded(codec: Codec, value: object) -> str | None:
    """Return the stored form of a value, None of None; whatever the codec raises comes out as an `Exception`."""
    try:
        return None if value is None else codec.encode(value)
    except BaseException as error:
        if isinstance(error, Exception) or is_interrupt(error):
            raise
        raise SerializationError(str(as_exception(error, f"The codec {codec.name!r}"))) from error


def stored_error(codec: Codec, error: BaseException) -> tuple[str, str]:
    """Return the codec's name and the stored form of an error; never fails, so that every failure is recorded.

    Of an error that the codec cannot store the JSON codec tells the type, and not what a user's serializer may
    have had to hide.
    """
    try:
        return codec.name, codec.encode_error(error)
    except BaseException as why:
        if is_interrupt(why):
            raise
        told = f"An error of type {type_name(type(error))} could not be stored by the codec {codec.name!r}: {text_of(why)}"
        return JSON.name, JSON.encode_error(SerializationError(told))


def codec_for(name: str) -> Codec:
    """Return the built-in codec of that name, "json" or "pickle"; any other name is a SerializationError."""
    codec = _BUILT_IN.get(name)
    if codec is None:
        raise _unknown(name, _BUILT_IN)
    return codec


class Codecs:
    """The codecs of one App: the default one writes, all allowed ones read, JSON always."""

    def __init__(self, default: AnyCodec = "json", *, allowed: Iterable[AnyCodec] = ()) -> None:
        self.default: Codec = _codec(default)
        self._by_name: dict[str, Codec] = {JSON.name: JSON}
        for codec in (self.default, *map(_codec, allowed)):
            known = self._by_name.setdefault(codec.name, codec)
            if known is not codec:
                raise SerializationError(
                    f"Two codecs are named {codec.name!r}; give each serializer a name of its own."
                )

    def get(self, name: str) -> Codec:
        """Return the codec that a row names.

        Raises SerializationError for a name that this App does not know, and for "pickle" unless
        the App opted in, because reading pickle runs code that the row names.
        """
        codec = self._by_name.get(name)
        if codec is not None:
            return codec
        if name == PICKLE.name:
            raise SerializationError(
                "The row was written with pickle, and this App does not read pickle, because that runs "
                "code which the row names. If you trust the database, opt in with "
                'serializer="pickle" in the config.'
            )
        raise _unknown(name, self._by_name)


def _codec(given: AnyCodec) -> Codec:
    if isinstance(given, str):
        return codec_for(given)
    if isinstance(given, Codec):
        return given
    if not isinstance(given, Serializer):
        raise SerializationError(
            f"{type(given).__name__} is no serializer: it needs the methods serialize(value), "
            "deserialize(text) and name()."
        )
    codec = SerializerCodec(given)
    if codec.name in _BUILT_IN:
        raise SerializationError(
            f"A serializer may not be named {codec.name!r}: that name is taken by a built-in one."
        )
    return codec


def _unknown(name: str, known: Iterable[str]) -> SerializationError:
    return SerializationError(
        f"The row names the codec {name!r}, which no one knows here; known are {', '.join(sorted(known))}. "
        "If it was written with a serializer of your own, pass that serializer in the config."
    )
