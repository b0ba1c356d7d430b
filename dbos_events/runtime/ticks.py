"""What becomes of a schedule that is due: which ticks there are, and what each of them comes to."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias

from dbos_events.engine.core import Core
from dbos_events.engine.schedules import begin_of, input_of
from dbos_events.engine.timetable import Timetable, local_in, newest, zone_of
from dbos_events.errors import DBOSWorkflowFunctionNotFoundError
from dbos_events.model.schedule import (
    ABSENT,
    MERGED,
    MISSED,
    ON_TIME_MS,
    PAUSED,
    RAN,
    SHIFTED,
    Fire,
    ScheduleSpec,
    Tick,
    jitter_of,
    nominal_text,
    tick_id,
)  # fmt: skip
from dbos_events.model.workflow import ENQUEUED, PENDING
from dbos_events.storage.subjects.schedulerows import Begin, DueSchedule, Plan, PlannedTick, TickStart

MOST = 1000
"""Ticks of one schedule that are decided one by one; what is older was missed, all together."""

FEW = 20
"""Ticks that are computed while the schedule's row is held: a transaction that computes for seconds is ended."""

KEPT = 1024
UNUSABLE = "It cannot be served: "
"""Begins the alarm of a schedule whose ticks cannot be decided here; it goes when they can be."""


Passed: TypeAlias = tuple[list[Fire], Fire | None, Fire | None]


class Postponed(Exception):
    """More is due of a schedule than should be computed in a transaction; `prepare` does it outside of one."""

    def __init__(self, due: DueSchedule) -> None:
        self.due = due
        super().__init__(f"Many ticks of {due.spec.name!r} are due.")


class Planner:
    """Plans by the schedules' own specs; needs the registered functions, and no database."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tables: OrderedDict[tuple[Any, ...], Timetable] = OrderedDict()
        self._prepared: tuple[DueSchedule, Passed] | None = None

    def timetable(self, spec: ScheduleSpec) -> Timetable:
        """The fire times of a spec; those that were asked for lately are kept."""
        key = (spec.expression, spec.zone, spec.dst, spec.name)
        table = self._tables.pop(key, None) or Timetable(*key)
        self._tables[key] = table
        while len(self._tables) > KEPT:
            self._tables.popitem(last=False)
        return table

    def begin(self, spec: ScheduleSpec, now_ms: int) -> Begin:
        """Where a spec begins that counts from now on."""
        return begin_of(self._core.application, spec, now_ms, self.timetable(spec))

    def plan(self, due: DueSchedule) -> Plan:
        """All that is to be decided of a schedule at the time of `due`.

        Raises:
            DBOSException: Its function, its zone or its context is not usable here.
            Postponed: It has to be prepared first, outside of a transaction.
        """
        table = self.timetable(due.spec)
        prepared = self._prepared
        if prepared is not None and _state(prepared[0]) == _state(due) and prepared[0].now <= due.now:
            passed, following, older = prepared[1]
        else:
            passed, following, older = self._passed(due, table, FEW)
        ticks = [self._planned(due, table, *one) for one in self._outcomes(due, passed, following)]
        if older is not None:
            outcome = PAUSED if due.paused else MISSED
            run = self._tick(due, older, outcome, until=passed[0].at_ms, detail="too many to be told apart")
            ticks.insert(0, PlannedTick(run))
        plan = self._moved(due, table, passed, following)
        plan.ticks = ticks
        plan.alarm = _alarm(due, ticks)
        if due.buffered is not None and not due.paused:
            plan.released = self._released(due, table)
        return plan

    # -- which ticks --------------------------------------------------------------------------

    def prepare(self, due: DueSchedule) -> None:
        """Compute the ticks that are due, for the next plan of this schedule as it stands."""
        self._prepared = (due, self._passed(due, self.timetable(due.spec), MOST))

    def _passed(self, due: DueSchedule, table: Timetable, most: int) -> Passed:
        """The ticks that are due, the next one, and the first of those that are too many to be told one by one."""
        position = (datetime.fromisoformat(due.position), due.repeat)
        passed: list[Fire] = []
        for fire in table.after(*position):
            jitter = jitter_of(due.spec, self._core.application, fire)
            if fire.at_ms + jitter > due.now or (due.ends_at is not None and fire.at_ms > due.ends_at):
                return passed, fire, None
            passed.append(fire)
            if len(passed) > most:
                if most < MOST:
                    raise Postponed(due)
                until = due.now - due.spec.jitter_ms
                until = until if due.ends_at is None else min(until, due.ends_at)
                kept = newest(table, position, until, MOST) or passed
                following = next(table.after(kept[-1].nominal, kept[-1].repeat), None)
                return kept, following, None if kept[0] == passed[0] else passed[0]
        return passed, None, None

    def _outcomes(
        self, due: DueSchedule, passed: Sequence[Fire], following: Fire | None
    ) -> list[tuple[Fire, str, str | None]]:
        """Each tick with its outcome and what is to be said of it."""
        spec, found = due.spec, []
        last = passed[-1] if passed else None
        for fire in passed:
            late = due.now - fire.at_ms - jitter_of(spec, self._core.application, fire)
            outcome, detail = fire.kind, None
            if due.paused:
                outcome = PAUSED
            elif fire.kind in (ABSENT, MERGED):
                detail = "the clock did not show it that day"
            elif late > ON_TIME_MS and late > spec.catch_up_window_ms:
                outcome, detail = MISSED, f"{late // 1000} s late, beyond catch_up_window"
            elif late > ON_TIME_MS and spec.catch_up == "none":
                outcome, detail = MISSED, f"{late // 1000} s late, and catch_up is none"
            elif late > ON_TIME_MS and spec.catch_up == "last" and fire is not last:
                outcome, detail = MERGED, "a later tick was due"
            elif late > ON_TIME_MS:
                detail = f"caught up, {late // 1000} s late"
            found.append((fire, outcome, detail))
        return found

    # -- what of them -------------------------------------------------------------------------

    def _tick(self, due: DueSchedule, fire: Fire, outcome: str, **more: Any) -> Tick:
        return Tick(
            schedule=due.spec.name,
            kind="tick",
            nominal=nominal_text(fire.nominal),
            zone=due.spec.zone or "UTC",
            repeat=fire.repeat,
            outcome=outcome,
            due_at=fire.at_ms,
            executor=self._core.executor,
            **more,
        )

    def _planned(
        self, due: DueSchedule, table: Timetable, fire: Fire, outcome: str, detail: str | None
    ) -> PlannedTick:
        if outcome not in (RAN, SHIFTED):
            return PlannedTick(self._tick(due, fire, outcome, detail=detail))
        start = self.start_of(due.spec, table, fire, due.now)
        return PlannedTick(self._tick(due, fire, outcome, detail=detail, workflow_id=start.id), start)

    def start_of(
        self, spec: ScheduleSpec, table: Timetable, fire: Fire, now_ms: int, workflow_id: str | None = None
    ) -> TickStart:
        """The workflow of a tick.

        Raises:
            SerializationError: The schedule's context cannot be read here.
        """
        core = self._core
        known = core.registry.workflows.get(spec.workflow_name)
        if known is None:
            raise DBOSWorkflowFunctionNotFoundError(
                spec.name,
                f"The schedule {spec.name!r} starts {spec.workflow_name!r}, which is not registered here.",
            )
        own = tick_id(
            core.application, spec.name, nominal_text(fire.nominal), spec.zone or "UTC", fire.repeat
        )
        codec, text = input_of(core.codecs, spec, table, fire.at_ms, now_ms)
        return TickStart(
            id=workflow_id or own,
            application=core.application,
            name=spec.workflow_name,
            status=PENDING if spec.queue is None else ENQUEUED,
            start_id=core.next_start_id(),
            version=core.version,
            codec=codec,
            input=text,
            schedule_name=spec.name,
            class_name=known.class_name,
            queue=spec.queue,
        )

    def _released(self, due: DueSchedule, table: Timetable) -> TickStart:
        kept = json.loads(due.buffered or "{}")
        fire = Fire(datetime.fromisoformat(kept["nominal"]), kept["repeat"], kept["due_at"])
        return self.start_of(due.spec, table, fire, due.now, kept["workflow_id"])

    # -- where it goes on ---------------------------------------------------------------------

    def _moved(
        self, due: DueSchedule, table: Timetable, passed: Sequence[Fire], following: Fire | None
    ) -> Plan:
        reached = passed[-1].at_ms if passed else due.reached
        if due.ends_at is not None and (following is None or following.at_ms > due.ends_at):
            begins, repeat = local_in(zone_of(due.next_zone), due.ends_at)
            return Plan([], due.revision + 1, nominal_text(begins), repeat, due.ends_at, due.now, None)
        position, repeat = due.position, due.repeat
        if passed:
            position, repeat = nominal_text(passed[-1].nominal), passed[-1].repeat
        if following is None:
            return Plan([], due.revision, position, repeat, reached, None, None)
        jitter = jitter_of(due.spec, self._core.application, following)
        return Plan([], due.revision, position, repeat, reached, following.at_ms + jitter, following.at_ms)


def _state(due: DueSchedule) -> tuple[Any, ...]:
    """What the ticks that are due depend on, beside the time."""
    return due.spec, due.revision, due.position, due.repeat, due.ends_at


def _alarm(due: DueSchedule, ticks: Sequence[PlannedTick]) -> str | None:
    """What somebody should know of it: ticks that were missed, until the schedule is resumed or changed."""
    missed = [planned.tick for planned in ticks if planned.tick.outcome == MISSED]
    if missed:
        first, last = missed[0], missed[-1]
        many = "More than a thousand" if any(tick.until is not None for tick in missed) else str(len(missed))
        return (
            f"{many} ticks were missed, from {first.nominal} to {last.nominal}: no process served the "
            "schedule, or the clock jumped. See `dbos-events schedule audit`; `schedule backfill` runs them."
        )
    return None if due.alarm is not None and due.alarm.startswith(UNUSABLE) else due.alarm
