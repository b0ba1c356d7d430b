"""From confluent-kafka's messages to records."""

from __future__ import annotations

from confluent_kafka import Message

from dbos_events.connect import Record


def record_of(message: Message) -> Record:
    """The message as it came; keys and values stay bytes."""
    timestamp_type, timestamp = message.timestamp()
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        _bytes(message.key()),
        _bytes(message.value()),
        _headers(message),
        timestamp_type,
        timestamp if timestamp_type else 0,
        message.leader_epoch(),
        message.latency(),
    )


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _headers(message: Message) -> list[tuple[str, bytes | None]] | None:
    headers = message.headers()
    if not headers:
        return None
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, _bytes(value)) for name, value in pairs]
