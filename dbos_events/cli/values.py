"""Values of workflows as plain JSON, for people and programs that do not have their classes."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any


def plain(value: Any) -> Any:
    """The value with JSON's own types only.

    Bytes become their text when they are UTF-8, else `{"base64": ...}`; an error is
    `{"type": ..., "message": ...}`, a dataclass or a model its fields, a set a list; what else
    there is becomes its text. It is for reading: unlike the stored form, it does not lead back.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (str, bytes, bytearray)):
        return str(value) if isinstance(value, str) else _bytes(bytes(value))
    return _error(value) if isinstance(value, BaseException) else _composed(value)


def _composed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, AbstractSet)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def _bytes(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _error(error: BaseException) -> dict[str, str]:
    """Name and message; those of the recorded error where its own class could not be rebuilt here."""
    name = getattr(error, "type_name", type(error).__name__)
    return {"type": str(name), "message": str(getattr(error, "recorded_message", error))}
