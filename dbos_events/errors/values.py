"""Values that cannot be stored or read, and errors of which only the record is left."""

from __future__ import annotations

from typing import Any

from dbos_events.errors.base import DBOSException


class SerializationError(DBOSException):
    """A value cannot be stored so that replay gets it back with the same type, or cannot be read."""

    code = "serialization"


class RecordedError(DBOSException):
    """A stored error whose own class cannot be imported or rebuilt in this process."""

    code = "recorded-error"

    def __init__(self, type_name: str, message: str) -> None:
        self.type_name = type_name
        self.recorded_message = message
        super().__init__(f"{type_name}: {message}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.type_name, self.recorded_message)
