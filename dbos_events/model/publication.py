"""Publications and waits, as callers and operators see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbos_events.model.dataclass import dataclass

WEEK_MS = 7 * 24 * 3600 * 1000
"""How long a publication is kept unless it is said otherwise."""

NOT_GIVEN = object()


@dataclass(frozen=True, slots=True)
class WaitFor:
    """One of several things to wait for; the fields are those of `DBOS.wait_for`."""

    name: str
    key: str
    model: Any = None
    take: bool = False


@dataclass(frozen=True, slots=True)
class Matched:
    """What came first of several: which one (`index` counts from 0), its name and key, and the value."""

    index: int
    name: str
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class ExpiredPublication:
    """What the workflow of `on_expired` gets: a publication as it was published, whose time is over unseen.

    `event_id` is None where the publisher gave none; of one that a consumer has published it is the id of the event.
    """

    name: str
    key: str
    value: Any
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """What the `publishes` of a consumer may give: as the arguments of `DBOS.publish`.

    Without a value it is what `publishes` was called with, or the value of the message.
    """

    name: str
    key: str
    value: Any = NOT_GIVEN
    ttl_seconds: float | None = WEEK_MS / 1000
    on_expired: Callable[..., Any] | str | None = None


@dataclass(frozen=True, slots=True)
class UnmatchedPublication:
    """A publication that nobody has seen; `state` is `open` or `expired`. Times are milliseconds since 1970."""

    number: int
    name: str
    key: str
    codec: str | None
    value: str | None
    event_id: str
    publisher: str | None
    published_at: int
    expires_at: int | None
    state: str


@dataclass(frozen=True, slots=True)
class UnmatchedWait:
    """A call of a workflow that waits for a publication."""

    number: int
    name: str
    key: str
    workflow_id: str
    step: int
    takes: bool
    registered_at: int
    wake_at: int | None
