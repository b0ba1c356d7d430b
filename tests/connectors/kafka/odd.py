"""Records, and a client, that are not as the rest: what the binding does not write, and what it could do wrong."""

import ctypes
import glob
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Consumer, Message

from dbos_events_kafka import client

TOPIC, VALUE, HEADERS = 1, 4, 10
"""The client's own numbers for what a record is made of."""


class _Part(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_size_t),
        ("pad", ctypes.c_char * 48),
    )


def produce_with_header_names(
    bootstrap: str, topic: str, records: Sequence[tuple[bytes, Sequence[bytes]]]
) -> None:
    """Write values with headers of any name: the C library takes any bytes for one, its Python binding only text."""
    folder = os.path.join(os.path.dirname(confluent_kafka.__file__), "..", "confluent_kafka.libs")  # noqa: PTH118, PTH120
    lib = ctypes.CDLL(glob.glob(os.path.join(folder, "librdkafka*"))[0])  # noqa: PTH118, PTH207
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new", "rd_kafka_produceva"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.rd_kafka_header_add.argtypes = [ctypes.c_void_p, *[ctypes.c_char_p, ctypes.c_ssize_t] * 2]
    conf, error = ctypes.c_void_p(lib.rd_kafka_conf_new()), ctypes.create_string_buffer(512)
    lib.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), error, 512)
    producer = ctypes.c_void_p(lib.rd_kafka_new(0, conf, error, 512))
    target = ctypes.create_string_buffer(topic.encode())
    for value, names in records:
        headers = ctypes.c_void_p(lib.rd_kafka_headers_new(len(names)))
        for name in names:
            lib.rd_kafka_header_add(headers, name, len(name), b"v", 1)
        held = ctypes.create_string_buffer(value)
        parts = (_Part * 3)(
            _Part(TOPIC, ctypes.addressof(target), 0),
            _Part(VALUE, ctypes.addressof(held), len(value)),
            _Part(HEADERS, headers, 0),
        )
        assert not lib.rd_kafka_produceva(producer, parts, ctypes.c_size_t(3))
        assert lib.rd_kafka_flush(producer, 20_000) == 0
    lib.rd_kafka_destroy(producer)


class Odd:
    """A message of which one field raises when it is read."""

    def __init__(self, message: Message, field: str, error: BaseException) -> None:
        self._message = message
        self._field = field
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name == self._field:
            raise self._error
        return getattr(self._message, name)


Change = Callable[[list[Message]], list[Any]]


class Between:
    """Stands between the client and what reads from it: `change` gets all that was taken from the client.

    What it raises takes those messages with it, as an error in the client would.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
        self.lock = threading.Lock()
        between = self

        class Changed(Consumer):
            def poll(self, timeout: float = -1) -> Any:
                message = super().poll(timeout)
                return None if message is None else between.changed(change, [message])[0]

            def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Any]:
                return between.changed(change, super().consume(num_messages, timeout))

        monkeypatch.setattr(client, "Consumer", Changed)

    def changed(self, change: Change, messages: list[Message]) -> list[Any]:
        with self.lock:
            return change(messages) if messages else []
