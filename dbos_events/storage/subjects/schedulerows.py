"""What the storage takes and gives about schedules, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbos_events.model.dataclass import dataclass, field
from dbos_events.model.schedule import ScheduleSpec, Source, Tick

if TYPE_CHECKING:
    from dbos_events.storage.subjects.taking import TakenWorkflow


@dataclass(frozen=True, slots=True)
class Server:
    """A process that decides ticks: what it is, which functions and which schedules of its code it has.

    `but` are schedules that it leaves alone for now.
    """

    executor: int
    application: str
    version: str
    names: Sequence[str]
    declared: Sequence[str]
    but: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule that is due, locked until its ticks are decided; `ends_at` is when its next spec begins to count."""

    spec: ScheduleSpec
    revision: int
    latest: int
    position: str
    repeat: int
    reached: int
    last_run: str | None
    last_fired_at: str | None
    buffered: str | None
    alarm: str | None
    paused: bool
    ends_at: int | None
    next_zone: str | None
    now: int


@dataclass(frozen=True, slots=True)
class TickStart:
    """The workflow of a tick: what it is called with, stored by `codec`."""

    id: str
    application: str
    name: str
    status: str
    start_id: int
    version: str | None
    codec: str | None
    input: str | None
    schedule_name: str
    class_name: str | None = None
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedTick:
    """A tick with its outcome, and the workflow that it starts where the state of the last run allows it."""

    tick: Tick
    start: TickStart | None = None


@dataclass(slots=True)
class Plan:
    """What becomes of a schedule now; `due_at` None has no further tick."""

    ticks: list[PlannedTick]
    revision: int
    position: str
    repeat: int
    reached: int
    due_at: int | None
    next_at: int | None
    alarm: str | None = None
    released: TickStart | None = None
    """The workflow of the buffered tick, to be started when the last run has ended."""


@dataclass(slots=True)
class DecidedTicks:
    """What a transaction of ticks has done: workflows that this executor owns now, queues that got one, cancelled runs."""

    taken: list[TakenWorkflow] = field(default_factory=list)
    queues: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    """By schedule: the run whose end a buffered tick waits for."""
    again: bool = False
    """Whether a schedule goes on by its next spec, which may be due as well."""
    problems: dict[str, Exception] = field(default_factory=dict)
    alarms: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule with its newest spec."""

    application: str
    spec: ScheduleSpec
    schedule_id: str
    source: Source
    version: str | None
    revision: int
    next_at: int | None
    position: str
    repeat: int
    last_fired_at: str | None
    alarm: str | None
    valid_from: int
    paused: bool
    changed_by: str | None
    change_reason: str | None


@dataclass(frozen=True, slots=True)
class SpecRow:
    """One revision of a schedule."""

    spec: ScheduleSpec
    revision: int
    valid_from: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a new schedule begins: from when on it counts, the local time of then, and its first fire time."""

    valid_from: int
    position: str
    repeat: int
    due_at: int | None
    next_at: int | None


@dataclass(frozen=True, slots=True)
class LiveVersion:
    """A version of which a process lives, and the functions that it has; None where it does not say."""

    application: str
    version: str
    functions: frozenset[str] | None
