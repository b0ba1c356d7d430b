"""What the ids of events are made of."""

from __future__ import annotations

from urllib.parse import quote


def consumer_prefix(group: str) -> str:
    """What the ids of all events of one group begin with; topic, incarnation, partition and offset follow.

    Percent-encoding keeps the separator out of the parts, so two events can never share an id.
    """
    return f"kafka/{quote(group, safe='')}/"
