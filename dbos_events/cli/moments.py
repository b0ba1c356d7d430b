"""Times as people type them."""

from __future__ import annotations

import re
from datetime import datetime

import typer

_AGE = re.compile(r"(\d+)\s*([smhdw])")
_MILLISECONDS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def milliseconds(text: str | None, now_ms: int) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time (local where it names no zone), or of an age such as `15m`.

    Raises:
        BadParameter: It is neither.
    """
    if text is None:
        return None
    age = _AGE.fullmatch(text.strip())
    if age:
        return now_ms - int(age[1]) * _MILLISECONDS[age[2]]
    try:
        return round(datetime.fromisoformat(text.strip()).timestamp() * 1000)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time in ISO 8601, such as 2026-11-22T10:00:00Z, nor an age, such as 15m, 2h or 3d."
        ) from None
