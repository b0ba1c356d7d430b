"""Ids of events: what two different events can never share, and what a database can keep."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

MAX_ID = 255
DIGEST = "sha256:"
HASHED = "h:"
JOINT = "|"
_PLAIN = re.compile(r"[\x21-\x7e]{1,255}")
_MADE_HERE = (DIGEST, HASHED)


def digest(*parts: bytes) -> str:
    """SHA-256 over parts, each with its length, so that no two lists of parts are the same bytes."""
    made = hashlib.sha256()
    for part in parts:
        made.update(b"%d:" % len(part))
        made.update(part)
    return made.hexdigest()


def canonical(value: Any) -> bytes:
    """The same bytes for equal JSON values, however their keys were ordered."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def tidy(parts: Sequence[str]) -> str:
    """One id from the parts of a sender's. Two different lists of parts never have the same.

    Several parts are percent-encoded and joined with `|`. What is not printable ASCII, has a space or over 255
    characters, or looks like an id that is made here, becomes a digest. Nothing is normalised: ids that differ in
    case, or in how an accent is composed, are different.
    """
    text = parts[0] if len(parts) == 1 else JOINT.join(_encoded(part) for part in parts)
    made_here = text.startswith(_MADE_HERE) or (len(parts) == 1 and JOINT in text)
    if _PLAIN.fullmatch(text) and not made_here:
        return text
    return HASHED + digest(*(part.encode("utf-8", "surrogatepass") for part in parts))


def _encoded(part: str) -> str:
    return quote(part.encode("utf-8", "surrogatepass"), safe="")


def text_of(value: object) -> str | None:
    """An id as text: a string that is not empty, or a whole number; nothing else names an event."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**100 else None
    return None
