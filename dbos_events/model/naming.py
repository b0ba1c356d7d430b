"""What the ids of events are made of."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypedDict
from urllib.parse import quote, quote_from_bytes, unquote


def log_prefix(connector: str, group: str) -> str:
    """What the ids of all events of one group begin with; topic, incarnation, partition and offset follow.

    Percent-encoding keeps the separator out of the parts, so two events can never share an id.
    """
    return f"{connector}/{quote(group, safe='')}/"


class EventParts(TypedDict):
    """What the id of an event names."""

    group: str
    topic: str
    incarnation: int
    partition: int
    offset: int


def parts_of_event_id(workflow_id: str) -> EventParts | None:
    """What the id of an event's workflow names; None for an id that has another form than those of a log's events."""
    parts = workflow_id.split("/")
    if len(parts) != 6 or not all(part.isdecimal() for part in parts[3:]):
        return None
    incarnation, partition, offset = map(int, parts[3:])
    return EventParts(
        group=unquote(parts[1]),
        topic=unquote(parts[2]),
        incarnation=incarnation,
        partition=partition,
        offset=offset,
    )


def pushed_prefix(prefix: str, application: str, consumer: str) -> str:
    """What the ids of all events of one pushed consumer begin with; the encoded event id follows.

    Full stops of the application are encoded, too, so `a.b` with `c` is not `a` with `b.c`.
    """
    left = quote(application, safe="").replace(".", "%2E")
    return f"{prefix}/{left}.{quote(consumer, safe='')}/"


def pushed_id(event_id: str) -> str:
    """An event's id as a part of its workflow's: two different ones never give the same.

    One that would be longer than 400 characters stands as a hash, behind a character that no encoded one has.
    """
    encoded = event_id.encode("utf-8", "surrogatepass")
    text = quote_from_bytes(encoded, safe="")
    return text if len(text) <= 400 else f"${blake2b(encoded, digest_size=32).hexdigest()}"
