"""What the ids of events are made of."""

from __future__ import annotations

from typing import TypedDict
from urllib.parse import quote, unquote


def consumer_prefix(group: str) -> str:
    """What the ids of all events of one group begin with; topic, incarnation, partition and offset follow.

    Percent-encoding keeps the separator out of the parts, so two events can never share an id.
    """
    return f"kafka/{quote(group, safe='')}/"


class EventParts(TypedDict):
    """What the id of an event names."""

    group: str
    topic: str
    incarnation: int
    partition: int
    offset: int


def parts_of_event_id(workflow_id: str) -> EventParts | None:
    """What the id of an event's workflow names; None for an id that is not one of an event."""
    parts = workflow_id.split("/")
    if len(parts) != 6 or parts[0] != "kafka" or not all(part.isdecimal() for part in parts[3:]):
        return None
    incarnation, partition, offset = map(int, parts[3:])
    return EventParts(
        group=unquote(parts[1]),
        topic=unquote(parts[2]),
        incarnation=incarnation,
        partition=partition,
        offset=offset,
    )
