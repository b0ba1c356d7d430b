"""In which lane an event is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any
from urllib.parse import quote_from_bytes

from dbos_events.connect.source import Record
from dbos_events.engine.problems import problem_with
from dbos_events.engine.shapes import at_once
from dbos_events.errors import TryAgain
from dbos_events.model.event import ConsumerOptions
from dbos_events.serialization.raised import is_interrupt
from dbos_events.telemetry.log import Recurring

LONGEST = 200
"""Bytes of a key that a lane's name shows; of a longer one it has the hash, since names are indexed."""

LaneOf = Callable[[str, Record], "str | None"]
"""The name of an event's lane, from its topic and the record; None when it has none."""


def lane_naming(
    options: ConsumerOptions,
    message_of: Callable[[str, Record], Any],
    new_context: Callable[[], Context] = copy_context,
) -> LaneOf | None:
    """How a consumer names lanes; None when its events are in none, or all in one over the partitions.

    Its function is called in a new context each time.
    """
    if options.ordering == "partition":
        return lambda _topic, record: str(record.partition)
    if options.ordering != "key":
        return None
    if options.ordering_key is None:
        return _by_record_key
    return _Extracted(options, message_of, new_context)


def _by_record_key(_topic: str, record: Record) -> str | None:
    return None if record.key is None else key_lane(record.partition, record.key)


def key_lane(partition: int, key: bytes) -> str:
    """`3/key`, percent-encoded; two different keys never share a name."""
    return f"{partition}/{key_name(key)}"


def key_name(key: bytes) -> str:
    """The key percent-encoded; a long one as `#` and its digest, which no encoded key begins with."""
    if len(key) > LONGEST:
        return f"#{hashlib.blake2b(key, digest_size=20).hexdigest()}"
    return quote_from_bytes(key, safe="")


class _Extracted:
    """Lanes by what the user's function makes of a message."""

    def __init__(
        self,
        options: ConsumerOptions,
        message_of: Callable[[str, Record], Any],
        new_context: Callable[[], Context],
    ) -> None:
        assert options.ordering_key is not None  # noqa: S101
        self._name = options.name
        self._extract = options.ordering_key
        self._message_of = message_of
        self._new_context = new_context
        self._trouble = Recurring()

    def __call__(self, topic: str, record: Record) -> str | None:
        if record.unreadable:  # what the function asks for may be missing
            return _by_record_key(topic, record) or str(record.partition)
        try:
            key = self._new_context().run(self._key_of, topic, record)
        except TryAgain:
            raise  # another lane than the events before it has would lose the order: intake waits
        except BaseException as error:
            if is_interrupt(error):
                raise
            self._trouble.say(
                "%s: ordering_key failed for %s/%s/%s; events for which it fails are ordered by their record's key, "
                "those without a key with all others of their partition: %s",
                self._name, topic, record.partition, record.offset, problem_with(error),
                extra={"consumer": self._name, "topic": topic, "partition": record.partition, "offset": record.offset},
            )  # fmt: skip
            return _by_record_key(topic, record) or str(record.partition)
        return None if key is None else key_lane(record.partition, key)

    def _key_of(self, topic: str, record: Record) -> bytes | None:
        return key_bytes(at_once(self._extract(self._message_of(topic, record))))


def key_bytes(key: object) -> bytes | None:
    """What `ordering_key` gave, as bytes. Raises TypeError where that is not a key."""
    if key is None or isinstance(key, bytes):
        return key
    if isinstance(key, (str, int)):
        return str(key).encode("utf-8", "surrogatepass")
    raise TypeError(f"ordering_key must give bytes, str, int or None, not {type(key).__name__}")
