"""Times for people to read."""

from __future__ import annotations

from datetime import UTC, datetime

LONGEST_WAIT = 100 * 366 * 86_400.0
"""Seconds beyond which a wait has no end: what a database holds of a time is bounded."""


def shown_moment(milliseconds: int | None) -> str:
    """A stored time in UTC, to the second; a dash where there is none."""
    if milliseconds is None:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown_span(milliseconds: int) -> str:
    """A length of time, short: the largest unit that fits, and the next."""
    seconds = max(0, milliseconds) // 1000
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86_400}d{seconds % 86_400 // 3600:02}h"
