"""Headers of a record as they are stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from dbos_events.errors import SerializationError


def encode_headers(headers: Sequence[tuple[str, bytes | None]] | None) -> str | None:
    """JSON of [name, base64 or null] pairs; None where the record has no headers."""
    if not headers:
        return None
    pairs = [[name, None if value is None else base64.b64encode(value).decode()] for name, value in headers]
    return json.dumps(pairs)


def decode_headers(text: str | None) -> list[tuple[str, bytes | None]] | None:
    """What `encode_headers` stored; raises SerializationError for anything else."""
    if text is None:
        return None
    try:
        return [_pair(*pair) for pair in json.loads(text)]
    except (ValueError, TypeError, RecursionError) as error:
        raise SerializationError(f"The stored headers are damaged: {error}") from error


def _pair(name: object, value: object) -> tuple[str, bytes | None]:
    if not isinstance(name, str) or not isinstance(value, (str, type(None))):
        raise TypeError("a header is a name with its value in base64, or null")
    return name, None if value is None else base64.b64decode(value, validate=True)
