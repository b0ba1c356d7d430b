"""The content of a stored event, read when it is first looked at."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from dbos_events.errors import UndecodablePayload
from dbos_events_webhooks.payload import Unreadable, parse_form, parse_json


class Content:
    """Bytes, and how they are read: as `json`, `form`, `form:FIELD` (JSON in a field), `envelope` or `other`.

    An `envelope` is a CloudEvent in JSON, whose content stands in it.
    """

    __slots__ = ("_form", "_problem", "_value", "of", "raw")

    def __init__(self, raw: bytes, form: str, of: str, problem: str | None = None) -> None:
        self.raw = raw
        self.of = of
        self._form = form
        self._problem = problem
        self._value: Any = self

    @property
    def value(self) -> Any:
        """JSON values, the fields of a form, or bytes.

        Raises:
            UndecodablePayload: It cannot be read.
        """
        if self._value is self:
            try:
                self._value = self._read()
            except Unreadable as error:
                raise UndecodablePayload(f"The content of {self.of} cannot be read: {error}") from None
        return self._value

    @property
    def json(self) -> bytes:
        """What a model is validated from: JSON, also where the content is a form; bytes that are neither, as they are.

        Raises:
            UndecodablePayload: It cannot be read.
        """
        if self._form == "other" or (self._form == "json" and self._problem is None):
            return self.raw
        value = self.value
        return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()

    def _read(self) -> Any:
        if self._problem is not None:
            raise Unreadable(self._problem)
        kind, _, field = self._form.partition(":")
        if kind == "other":
            return self.raw
        if kind == "form":
            fields = parse_form(self.raw)
            inner = fields.get(field) if field else None
            return parse_json(inner.encode()) if isinstance(inner, str) else fields
        value = parse_json(self.raw)
        if kind != "envelope" or not isinstance(value, dict):
            return value
        if "data_base64" not in value:
            return value.get("data")
        try:
            return base64.b64decode(value["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Unreadable("data_base64 is not base64.") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and (self.raw, self._form) == (other.raw, other._form)

    def __hash__(self) -> int:
        return hash((self.raw, self._form))
