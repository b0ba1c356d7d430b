"""How an event is named and stored."""

from __future__ import annotations

import zlib
from urllib.parse import quote

from dbos_events.connect.source import Record


def id_prefix(consumer: str, topic: str, incarnation: int, partition: int) -> str:
    """What the ids of a partition's events begin with; the offset follows. `consumer` is what its consumer's begin with.

    The parts are separated by `/`, which percent-encoding keeps out of them, so two different
    events can never share an id.
    """
    return f"{consumer}{quote(topic, safe='')}/{incarnation}/{partition}/"


def fingerprint_of(record: Record) -> int:
    """63 bits that differ, very likely, between two records under the same offset."""
    # What is there, and how long, comes first: else key and value could trade bytes unseen.
    shape = b"-" if record.key is None else b"%d" % len(record.key)
    checksum = zlib.crc32(shape + (b"-" if record.value is None else b"+"))
    checksum = zlib.crc32(record.value or b"", zlib.crc32(record.key or b"", checksum))
    return (checksum << 31) ^ (record.timestamp & 0x7FFFFFFF)
