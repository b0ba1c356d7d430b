"""What was wrong with an event's value, in a few words that hold next to nothing of the value itself."""

from __future__ import annotations

import inspect
from pathlib import PurePath
from typing import Any

from dbos_events.serialization.raised import text_of

MOST_FIELDS = 10
FIELD_LENGTH = 100
TEXT_LENGTH = 300
LIBRARIES = (str(PurePath(inspect.__file__).parent), str(PurePath(__file__).parents[1]))


def problem_with(error: BaseException) -> str:
    """Which fields are wrong and why, by pydantic; else what was raised, and where. Always short."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return _fields(error)
    if isinstance(error, UnicodeDecodeError):
        return f"it is no {error.encoding.upper()} ({error.reason} at byte {error.start})"
    return f"{type(error).__qualname__}: {_short(text_of(error), TEXT_LENGTH)}{_raised_at(error)}"


def problem_with_json(value: bytes) -> str | None:
    """Why the bytes are no JSON at all, where that can be told at a glance."""
    if not value:
        return "it is empty"
    if value[0] == 0:
        return (
            "it is no JSON, it begins with a zero byte, as records do whose schema is in a schema registry; "
            "such values need a codec=..."
        )
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"it is no JSON: {problem_with(error)}"
    return None


def _fields(error: Any) -> str:
    # The values are left out: they may be large, or nobody's business.
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [_field(one["loc"], one["msg"]) for one in found[:MOST_FIELDS]]
    if len(found) > MOST_FIELDS:
        shown.append(f"and {len(found) - MOST_FIELDS} more")
    return "; ".join(shown)


def _field(location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part)[:FIELD_LENGTH] for part in location)
    text = _short(message, TEXT_LENGTH)
    return f"{_short(where, FIELD_LENGTH)}: {text}" if where else text


def _raised_at(error: BaseException) -> str:
    """The innermost line of the user's own code, if there is any."""
    found = ""
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = code.co_filename
        if not file.startswith((*LIBRARIES, "<")) and "site-packages" not in file:
            found = f" ({PurePath(file).name}:{traceback.tb_lineno} in {code.co_name})"
        traceback = traceback.tb_next
    return found


def _short(text: str, most: int) -> str:
    """At most so many characters, all of them printable."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in cut)
