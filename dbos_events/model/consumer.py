"""Consumers as operators see them: whether they take events in, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BreakerStatus = Literal["open", "half-open"]


@dataclass(frozen=True, slots=True)
class Trial:
    """The event that a half-open breaker let in: how its workflow stands.

    `waits` says that it is parked in a wait of its own, `attempt` how many attempts have failed.
    """

    workflow_id: str
    status: str
    owned: bool
    waits: bool
    attempt: int


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """Whether a consumer takes events in, as all processes see it.

    `breaker` is None when the breaker is closed. `due` says that `breaker_until` has come by the
    database's clock; `epoch` grows with each change of the breaker, and every change compares it.
    """

    id: int
    application: str
    name: str
    paused_at: int | None
    paused_by: str | None
    paused_reason: str | None
    breaker: BreakerStatus | None
    breaker_reason: str | None
    breaker_since: int | None
    breaker_until: int | None
    breaker_executor: int | None
    due: bool
    epoch: int
    openings: int
    trial: Trial | None


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition of one consumer, as the status shows it."""

    application: str
    consumer: str
    group: str
    topic: str
    incarnation: int
    partition: int
    next_offset: int
    end_offset: int | None
    holder: str | None
    holder_alive: bool
    in_flight: int
    held: int
    quarantined: int
    state: str | None
    detail: str | None
    filtered: int = 0
    expired: int = 0
    reached: int | None = None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A process without a partition of one consumer, as the status shows it; `process` is None when there is none."""

    application: str
    consumer: str
    group: str
    topics: tuple[str, ...]
    process: str | None
    state: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class PushedState:
    """How one consumer stands whose events are pushed.

    `addresses` are where they come in; `held` events wait behind others of their lane, `filtered` are those that `when`
    said no to, as long as their ids are remembered. `processes` are the live ones that have it: label, state, detail.
    """

    application: str
    consumer: str
    connector: str
    addresses: tuple[str, ...]
    id_prefix: str
    held: int
    quarantined: int
    filtered: int
    processes: tuple[tuple[str, str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionDecided:
    """What an operator's decision changed: the partition's incarnation and next offset from now on."""

    incarnation: int
    next_offset: int
