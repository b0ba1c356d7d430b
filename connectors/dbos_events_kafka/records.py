"""From confluent-kafka's messages to records.

Whatever a field raises when it is read, the record keeps its place: it is handed on with what could be read, and with the
reason. The record behind it must not seem to follow a gap.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from operator import methodcaller
from typing import Any, NoReturn

from confluent_kafka import Message

from dbos_events.connect import Record
from dbos_events_kafka.buffers import Place

_headers_of: Callable[[Message], Any] = methodcaller("headers")
"""The client answers a name that is not UTF-8 with a list in which the name is missing, and with an exception beside it. The
interpreter sees both in a call that is made from C; a call from Python that has run often skips this check, and the process
dies from the hole in the list."""

Headers = list[tuple[str, bytes | None]]

_FIELDS = ("key", "value", "headers", "timestamp", "leader_epoch", "latency")


class Displaced(Exception):
    """A message that does not even say which record it is."""


def place_of(message: Message) -> Place:
    """Where the message comes from.

    Raises:
        Displaced: It does not say so.
    """
    try:
        topic, partition = message.topic(), message.partition()
    except Exception as error:
        raise Displaced(f"a record does not tell its partition ({_shown(error)})") from error
    if not topic or partition is None:
        raise Displaced("a record does not tell its partition")
    return Place(topic, partition)


def record_of(message: Message) -> Record:
    """The message as it came; keys and values stay bytes.

    Raises:
        Displaced: It does not say at which offset it is.
        MemoryError: There is no memory for it now, which says nothing about the record.
    """
    try:
        partition, offset = message.partition(), message.offset()
        if partition is None or offset is None or offset < 0:
            _raise_displaced()
        key, value = message.key(), message.value()
        if isinstance(value, str):
            value = value.encode()
        timestamp_type, timestamp = message.timestamp()
        headers, size = None, 0
        if found := _headers_of(message):
            headers, size = _checked(found)
        if value is not None:
            size += len(value)
        if key is not None:
            size += len(key)
        return Record(
            partition,
            offset,
            key,
            value,
            headers,
            timestamp_type,
            timestamp if timestamp_type else 0,
            message.leader_epoch(),
            message.latency(),
            "",
            size,
        )
    except (MemoryError, Displaced):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a field raises, it concerns this record alone
        return _what_is_known(message, error)


def _what_is_known(message: Message, first: Exception) -> Record:
    """Each field by itself, as far as it can be read."""
    try:
        offset, partition = message.offset(), message.partition()
    except Exception as error:
        raise Displaced(f"a record does not tell its offset ({_shown(error)})") from error
    read: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for field in _FIELDS:
        try:
            read[field] = _READERS[field](message)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001
            failed[field] = _shown(error)
    headers, size = read.get("headers", (None, 0))
    key, value = read.get("key"), read.get("value")
    timestamp_type, timestamp = read.get("timestamp", (0, 0))
    return Record(
        _told(partition),
        _told(offset),
        key,
        value,
        headers,
        timestamp_type,
        timestamp if timestamp_type else 0,
        read.get("leader_epoch"),
        read.get("latency"),
        "; ".join(f"{field}: {why}" for field, why in failed.items()) or _shown(first),
        size + len(key or b"") + len(value or b""),
    )


def _told(number: int | None) -> int:
    if number is None or number < 0:
        _raise_displaced()
    return number


def _raise_displaced() -> NoReturn:
    raise Displaced("a record does not tell where it is")


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _headers(message: Message) -> tuple[Headers | None, int]:
    headers = _headers_of(message)
    return _checked(headers) if headers else (None, 0)


def _checked(headers: Any) -> tuple[Headers, int]:
    """The headers as pairs, and how many bytes they are.

    Raises:
        ValueError: A name is missing in what the client gives.
    """
    if isinstance(headers, dict):
        headers = list(headers.items())
    # A collection of garbage may swallow the exception, and a second call gives the same list without one. Counting
    # what the pairs hold touches no hole.
    if len(gc.get_referents(*headers)) < 2 * len(headers):
        raise ValueError("the name of a header is not UTF-8")
    pairs = [(name, _bytes(value)) for name, value in headers]
    return pairs, sum(len(name) + len(value or b"") for name, value in pairs)


def _timestamp(message: Message) -> tuple[int, int]:
    timestamp_type, timestamp = message.timestamp()
    return timestamp_type, timestamp


_READERS: dict[str, Callable[[Message], Any]] = {
    "key": lambda message: _bytes(message.key()),
    "value": lambda message: _bytes(message.value()),
    "headers": _headers,
    "timestamp": _timestamp,
    "leader_epoch": lambda message: message.leader_epoch(),
    "latency": lambda message: message.latency(),
}


def _shown(error: BaseException) -> str:
    """The reason without the interpreter's words around it."""
    cause = error.__cause__ if isinstance(error, SystemError) and error.__cause__ is not None else error
    text = ""
    with suppress(Exception):
        text = str(cause)
    return f"{type(cause).__name__}: {text}"
