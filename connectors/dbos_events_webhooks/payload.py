"""From bytes to values, with the traps closed that JSON and forms have."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cached_property
from typing import Any, Literal
from urllib.parse import parse_qsl

MAX_FIELDS = 1000
MediaKind = Literal["json", "form", "other"]


class TwiceNamed(dict[str, Any]):
    """An object in which a key stood twice; the last value is kept, and `twice` has the keys."""

    twice: frozenset[str] = frozenset()


class Unreadable(Exception):
    """The content cannot be read, or does not say clearly which event it is."""


class Payload:
    """The content of a request, parsed when it is first looked at: not before the signature is known to be right."""

    def __init__(self, body: bytes, kind: MediaKind, form_json: str | None = None) -> None:
        self.body = body
        self.kind = kind
        self._form_json = form_json

    @property
    def value(self) -> Any:
        """The content, or None where it cannot be read."""
        return self._read[0]

    @property
    def problem(self) -> str | None:
        """Why it cannot be read, or None."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Any, str | None]:
        try:
            return self._parse(self._form_json), None
        except Unreadable as error:
            return None, str(error)

    def _parse(self, form_json: str | None) -> Any:
        if self.kind == "json":
            return parse_json(self.body)
        if self.kind == "other":
            return self.body
        fields = parse_form(self.body)
        inner = fields.get(form_json) if form_json else None
        return parse_json(inner.encode()) if isinstance(inner, str) else fields


def media_kind(content_type: str | None, usual: MediaKind) -> MediaKind | None:
    """What a content type says the body is; None where its charset is not UTF-8. Without one, it is as usual."""
    if not content_type or not content_type.strip():
        return usual
    kind, *parameters = (piece.strip().lower() for piece in content_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in ("utf-8", "utf8"):
            return None
    if kind in ("application/json", "text/json") or (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        return "json"
    return "form" if kind == "application/x-www-form-urlencoded" else "other"


def parse_json(body: bytes) -> Any:
    """A JSON value in UTF-8, without what Python takes beyond the standard.

    Raises:
        Unreadable: It is not JSON, or no parser can be expected to take it.
    """
    try:
        text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
        return _DECODER.decode(text)
    except UnicodeDecodeError:
        raise Unreadable("The body is not UTF-8.") from None
    except RecursionError:
        raise Unreadable("The JSON is nested too deeply.") from None
    except ValueError as error:
        # The message of a JSONDecodeError names the place; that of an overlong number is Python's advice.
        place = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(f"The body is not JSON{place}.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    counted = Counter(name for name, _ in pairs)
    doubled = TwiceNamed(made)
    doubled.twice = frozenset(name for name, count in counted.items() if count > 1)
    return doubled


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number that no float holds")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_constant)


def parse_pairs(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form in their order.

    Raises:
        Unreadable: It is not UTF-8, or has too many fields.
    """
    try:
        return parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError:
        raise Unreadable(
            f"The form is not UTF-8 in percent encoding, or has more than {MAX_FIELDS} fields."
        ) from None


def parse_form(body: bytes) -> dict[str, Any]:
    """The fields of a form; one that was sent several times is a list."""
    made: dict[str, Any] = {}
    for name, value in parse_pairs(body):
        if name not in made:
            made[name] = value
        elif isinstance(made[name], list):
            made[name].append(value)
        else:
            made[name] = [made[name], value]
    return made
