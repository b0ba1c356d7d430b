"""What tests give as values and headers, as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

Headers = Sequence[tuple[str, bytes | None]]


def bytes_of(value: object) -> bytes | None:
    """A record's bytes: text as UTF-8, a pydantic model or anything else as JSON; None is a tombstone."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    as_json = getattr(value, "model_dump_json", None)
    if as_json is not None:
        return str(as_json()).encode()
    try:
        return json.dumps(value).encode()
    except TypeError:  # dataclasses, dates, models within lists
        from pydantic_core import to_json

        return to_json(value)


def headers_of(
    headers: Headers | Mapping[str, bytes | str | None] | None,
) -> list[tuple[str, bytes | None]] | None:
    """Headers as pairs of a name and bytes."""
    if headers is None:
        return None
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name, bytes_of(value)) for name, value in pairs]
