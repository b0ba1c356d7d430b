"""Schedules, their ticks, and what became of each."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypedDict
from urllib.parse import quote

from dbos_events.model.dataclass import dataclass
from dbos_events.model.mapped import Mapped

Dst = Literal["once", "wall", "skip"]
CatchUp = Literal["all", "last", "none"]
Overlap = Literal["allow", "skip", "buffer_one", "cancel_other"]
Source = Literal["code", "api"]
Second = Literal["actual", "context"]
"""What the workflow gets beside the scheduled time: when it was started, or the schedule's context."""

DST: tuple[Dst, ...] = ("once", "wall", "skip")
CATCH_UP: tuple[CatchUp, ...] = ("all", "last", "none")
OVERLAP: tuple[Overlap, ...] = ("allow", "skip", "buffer_one", "cancel_other")

DAY_MS = 86_400_000
LONGEST_NAME = 255
ON_TIME_MS = 10_000
"""A tick that is decided this late at most was not missed, whatever `catch_up` says."""

# The outcomes of a tick.
RAN = "ran"
SHIFTED = "shifted"
SKIPPED = "skipped"
BUFFERED = "buffered"
PAUSED = "paused"
MISSED = "missed"
MERGED = "merged"
ABSENT = "absent"
BACKFILLED = "backfilled"
TRIGGERED = "triggered"

STARTED = frozenset({RAN, SHIFTED, BACKFILLED, TRIGGERED})
"""Outcomes of ticks that started a workflow."""

CHANNEL = "schedules"
"""Signalled when a schedule was made, changed or deleted."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """When a schedule fires, and what it starts then.

    `context` is stored text, written by `codec`. `zone` None is UTC. Times are milliseconds.
    """

    name: str
    workflow_name: str
    expression: str
    zone: str | None = None
    dst: Dst = "once"
    catch_up: CatchUp = "last"
    catch_up_window_ms: int = DAY_MS
    overlap: Overlap = "allow"
    jitter_ms: int = 0
    queue: str | None = None
    second: Second = "context"
    codec: str | None = None
    context: str | None = None
    class_name: str | None = None


class Fire(NamedTuple):
    """One nominal time of a schedule: local, which of a time that comes twice, and the instant that it means.

    `kind` is "ran", or what keeps it from being an ordinary tick: "shifted" to the end of a gap, "merged" into another tick
    there, or "absent" since the clock never shows it and the schedule wants nothing instead.
    """

    nominal: datetime
    repeat: int
    at_ms: int
    kind: str = RAN


def nominal_text(nominal: datetime) -> str:
    """A nominal local time as it is stored."""
    return nominal.isoformat(timespec="seconds")


def tick_id(application: str, schedule: str, nominal: str, zone: str, repeat: int) -> str:
    """The id of the workflow of a tick: the same in every process, whichever zone data it has."""
    again = f"#{repeat + 1}" if repeat else ""
    return f"sched-{quote(application, safe='')}/{quote(schedule, safe='')}-{nominal}[{zone}]{again}"


def trigger_id(application: str, schedule: str, at: str, number: int) -> str:
    """The id of a workflow that somebody triggered."""
    return f"sched-{quote(application, safe='')}/{quote(schedule, safe='')}-trigger-{at}-{number:x}"


def jitter_of(spec: ScheduleSpec, application: str, fire: Fire) -> int:
    """How many milliseconds later than its time a tick starts: the same in every process."""
    if spec.jitter_ms <= 0:
        return 0
    text = tick_id(application, spec.name, nominal_text(fire.nominal), spec.zone or "UTC", fire.repeat)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (spec.jitter_ms + 1)


@dataclass(frozen=True, slots=True)
class Tick:
    """What became of one nominal time, or of all that were due up to `until`, where they were too many to tell apart.

    `due_at` is when it was due and `decided_at` when its outcome was written; they are milliseconds since 1970 (UTC), and
    so is `until`.
    """

    schedule: str
    kind: str
    nominal: str
    zone: str
    repeat: int
    outcome: str
    due_at: int
    until: int | None = None
    workflow_id: str | None = None
    detail: str | None = None
    decided_at: int = 0
    executor: int | None = None


class _ScheduleOptions(TypedDict, total=False):
    """What a schedule has besides its name and its workflow."""

    schedule: str
    context: Any
    automatic_backfill: bool
    cron_timezone: str | None
    queue_name: str | None
    dst: Dst
    catch_up: CatchUp | None
    catch_up_window: float | None
    overlap: Overlap
    jitter: float


class ScheduleInput(_ScheduleOptions, total=False):
    """One schedule for `apply_schedules`; `schedule_name`, `workflow_fn` and `schedule` are required."""

    schedule_name: str
    workflow_fn: Any


class ClientScheduleInput(_ScheduleOptions, total=False):
    """One schedule for a client's `apply_schedules`; `schedule_name`, `workflow_name` and `schedule` are required."""

    schedule_name: str
    workflow_name: str
    workflow_class_name: str | None


@dataclass(slots=True)
class WorkflowSchedule(Mapped):
    """A schedule as the database holds it; its fields are also its items: `schedule["status"]`.

    `status` is "ACTIVE" or "PAUSED", `last_fired_at` the time of the last tick that started a workflow (ISO 8601, UTC).
    Times that end in `_ms` and `next_at` are milliseconds, the latter since 1970 (UTC). `orphaned` says that live processes
    exist and none of them has the function any more; `alarm` what happened last that somebody should know.
    """

    schedule_id: str
    schedule_name: str
    workflow_name: str
    schedule: str
    status: str
    context: Any = None
    workflow_class_name: str | None = None
    last_fired_at: str | None = None
    automatic_backfill: bool = False
    cron_timezone: str | None = None
    queue_name: str | None = None
    application_name: str | None = None
    dst: Dst = "once"
    catch_up: CatchUp = "last"
    catch_up_window_ms: int = DAY_MS
    overlap: Overlap = "allow"
    jitter_ms: int = 0
    source: Source = "api"
    version: str | None = None
    revision: int = 1
    valid_from: int = 0
    next_at: int | None = None
    orphaned: bool = False
    alarm: str | None = None
    changed_by: str | None = None
    change_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ScheduleAudit:
    """What became of every nominal time of a schedule between two moments.

    `expected` were due, `outcomes` counts them by outcome, `unexplained` are those without one.
    """

    name: str
    begin: int
    end: int
    expected: int
    outcomes: dict[str, int]
    unexplained: tuple[str, ...] = ()
    ticks: tuple[Tick, ...] = ()

    @property
    def explained(self) -> int:
        """How many of the expected ticks have an outcome."""
        return self.expected - len(self.unexplained)
