"""Make schedules, look at them, pause, trigger, fill in, and account for every tick."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from dbos_events.control.signals import Tell, tell_nobody, this_operator
from dbos_events.engine.schedules import begin_of, check_name, check_spec, input_of, timetable_of
from dbos_events.errors import DBOSException, DBOSNonExistentScheduleError, DBOSScheduleExistsError
from dbos_events.model.queue import channel_of
from dbos_events.model.schedule import (
    BACKFILLED,
    CHANNEL,
    TRIGGERED,
    Fire,
    ScheduleAudit,
    ScheduleSpec,
    Tick,
    WorkflowSchedule,
    nominal_text,
    tick_id,
    trigger_id,
)  # fmt: skip
from dbos_events.model.workflow import ENQUEUED
from dbos_events.storage.subjects.schedulerows import (
    LiveVersion,
    PlannedTick,
    ScheduleRow,
    SpecRow,
    TickStart,
)

if TYPE_CHECKING:
    from dbos_events.engine.timetable import Timetable
    from dbos_events.serialization import Codecs
    from dbos_events.storage.protocol import Storage

MOST_BACKFILLED = 10_000
MOST_AUDITED = 200_000


class ScheduleControl:
    """What may be asked of, and done to, the schedules of one application; needs no registered functions."""

    def __init__(
        self, storage: Storage, codecs: Codecs, application: str, *, tell: Tell = tell_nobody
    ) -> None:
        self._storage = storage
        self._codecs = codecs
        self._application = application
        self._tell = tell

    # -- making and changing ------------------------------------------------------------------

    def create(self, spec: ScheduleSpec, *, by: str | None = None) -> None:
        """Make a schedule; its first tick is the first one after now.

        Raises:
            RegistrationError: A value of it is not usable.
            DBOSScheduleExistsError: There is one of that name.
        """
        begin = begin_of(self._application, check_spec(spec), self._storage.now_ms())
        if not self._storage.schedules.create(self._application, spec, begin, by=by or this_operator()):
            raise DBOSScheduleExistsError(spec.name, self._application)
        self._tell((CHANNEL,))

    def apply(self, specs: Sequence[ScheduleSpec], *, by: str | None = None) -> list[str]:
        """Make or change schedules, all or none; gives the names of those that were changed.

        A change counts from now on: ticks that were due before follow the spec of then. Id, pause and history stay.

        Raises:
            RegistrationError: A value of one is not usable, or two have one name.
            DBOSException: One of them is declared in code.
        """
        names = [spec.name for spec in specs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DBOSException(f"Schedules are given twice: {', '.join(twice)}. Give each once.")
        now = self._storage.now_ms()
        begun = [(spec, begin_of(self._application, check_spec(spec), now)) for spec in specs]
        changed = self._storage.schedules.apply(self._application, begun, by=by or this_operator())
        if changed:
            self._tell((CHANNEL,))
        return changed

    def pause(self, name: str, *, by: str | None = None, reason: str | None = None) -> bool:
        """Have ticks start nothing; each is noted as paused. False where it is paused already."""
        return self._set_paused(name, paused=True, by=by, reason=reason)

    def resume(self, name: str, *, by: str | None = None) -> bool:
        """Have ticks start workflows again, from now on; False where it was not paused. Its alarm is cleared."""
        return self._set_paused(name, paused=False, by=by, reason=None)

    def _set_paused(self, name: str, *, paused: bool, by: str | None, reason: str | None) -> bool:
        check_name(name)
        now = self._storage.now_ms()
        changed = self._storage.schedules.set_paused(
            self._application, name, now, paused=paused, by=by or this_operator(), reason=reason
        )
        if changed is None:
            raise DBOSNonExistentScheduleError(name, self._application)
        self._tell((CHANNEL,))
        return changed

    def delete(self, name: str) -> bool:
        """Delete a schedule; False where there is none. What it has started runs on, and its ticks stay."""
        check_name(name)
        deleted = self._storage.schedules.delete(self._application, name)
        if deleted:
            self._tell((CHANNEL,))
        return deleted

    # -- starting by hand ---------------------------------------------------------------------

    def trigger(self, name: str) -> str:
        """Start the schedule's workflow once, now, whatever its pause and overlap; gives the workflow's id."""
        row = self.row(name)
        now = self._storage.now_ms()
        at = datetime.fromtimestamp(now / 1000, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
        number = secrets.randbits(32)
        workflow_id = trigger_id(self._application, name, at, number)
        tick = Tick(name, "trigger", f"{at}-{number:x}", "UTC", 0, TRIGGERED, now, workflow_id=workflow_id)
        self._start(row.spec, [PlannedTick(tick, self._started(row.spec, workflow_id, now, now, number))])
        return workflow_id

    def backfill(self, name: str, begin_ms: int, end_ms: int) -> list[str]:
        """Start the workflows of all nominal times between two moments, both left out; gives their ids.

        It can be repeated: the workflow of a tick is the same one, whether the tick ran or is filled in.

        Raises:
            DBOSException: The end is not after the begin, or there are too many ticks in between.
        """
        row = self.row(name)
        if end_ms <= begin_ms:
            raise DBOSException("The end of a backfill lies after its begin.")
        table = timetable_of(row.spec)
        fires = [one for one in _between(table, begin_ms, end_ms, MOST_BACKFILLED) if one.at_ms < end_ms]
        now = self._storage.now_ms()
        ticks = []
        first = secrets.randbits(62)
        for number, fire in enumerate(fires, start=first):
            nominal, zone = nominal_text(fire.nominal), row.spec.zone or "UTC"
            workflow_id = tick_id(self._application, name, nominal, zone, fire.repeat)
            tick = Tick(
                name, "tick", nominal, zone, fire.repeat, BACKFILLED, fire.at_ms, workflow_id=workflow_id
            )
            ticks.append(PlannedTick(tick, self._started(row.spec, workflow_id, fire.at_ms, now, number)))
        self._start(row.spec, ticks)
        return [one.tick.workflow_id or "" for one in ticks]

    def _started(
        self, spec: ScheduleSpec, workflow_id: str, scheduled_ms: int, now_ms: int, start_id: int
    ) -> TickStart:
        codec, text = input_of(self._codecs, spec, timetable_of(spec), scheduled_ms, now_ms)
        return TickStart(
            id=workflow_id,
            application=self._application,
            name=spec.workflow_name,
            status=ENQUEUED,  # without a queue it is for any process
            start_id=start_id,
            version=None,
            codec=codec,
            input=text,
            schedule_name=spec.name,
            class_name=spec.class_name,
            queue=spec.queue,
        )

    def _start(self, spec: ScheduleSpec, ticks: Sequence[PlannedTick]) -> None:
        if ticks:
            self._storage.schedules.start(self._application, ticks)
            self._tell(("queues",) if spec.queue is None else ("queues", channel_of(spec.queue)))

    # -- asking -------------------------------------------------------------------------------

    def row(self, name: str) -> ScheduleRow:
        """A schedule as it is stored.

        Raises:
            DBOSNonExistentScheduleError: There is none of that name.
        """
        check_name(name)
        found = self._storage.schedules.find(self._application, name)
        if not found:
            raise DBOSNonExistentScheduleError(name, self._application)
        return found[0]

    def get(self, name: str) -> WorkflowSchedule | None:
        """A schedule, or None where there is none of that name."""
        check_name(name)
        found = self._storage.schedules.find(self._application, name)
        live = self._storage.schedules.live(self._application) if found else []
        return self._shown(found[0], live) if found else None

    def find(
        self,
        *,
        status: Sequence[str] = (),
        workflow_name: Sequence[str] = (),
        name_prefix: Sequence[str] = (),
        application: str | None = None,
    ) -> list[WorkflowSchedule]:
        """Schedules that fit, by application and name; of all applications where none is given."""
        live = self._storage.schedules.live(application)
        shown = [self._shown(row, live) for row in self._storage.schedules.find(application)]
        return [
            one
            for one in shown
            if (not status or one.status in status)
            and (not workflow_name or one.workflow_name in workflow_name)
            and (not name_prefix or one.schedule_name.startswith(tuple(name_prefix)))
        ]

    def upcoming(self, name: str, count: int) -> list[tuple[Fire, str]]:
        """The next fire times of a schedule, each with its instant in the schedule's zone (ISO 8601)."""
        row = self.row(name)
        table = timetable_of(row.spec)
        now = self._storage.now_ms()
        fires = islice(table.after_instant(now), count)
        return [(fire, table.scheduled(fire.at_ms).isoformat()) for fire in fires]

    def audit(self, name: str, begin_ms: int | None = None, end_ms: int | None = None) -> ScheduleAudit:
        """Account for every nominal time of a schedule that was due in a time; from its begin until now by default.

        Raises:
            DBOSNonExistentScheduleError: There is none of that name.
            DBOSException: There are too many ticks in that time.
        """
        self.row(name)
        specs = self._storage.schedules.specs(self._application, name)
        begin = max(begin_ms or 0, specs[0].valid_from)
        end = self._storage.now_ms() if end_ms is None else end_ms
        stored = self._storage.schedules.ticks(self._application, name, begin, end, MOST_AUDITED)
        single = {(tick.nominal, tick.zone, tick.repeat): tick for tick in stored if tick.kind == "tick"}
        runs = [tick for tick in stored if tick.until is not None]
        expected, outcomes, unexplained = 0, dict[str, int](), []
        for spec, fire in _expected(specs, begin, end):
            expected += 1
            nominal, zone = nominal_text(fire.nominal), spec.zone or "UTC"
            tick = single.get((nominal, zone, fire.repeat)) or _run_with(runs, fire)
            if tick is None:
                unexplained.append(f"{nominal}[{zone}]{f'#{fire.repeat + 1}' if fire.repeat else ''}")
            else:
                outcomes[tick.outcome] = outcomes.get(tick.outcome, 0) + 1
        ticks = tuple(tick for tick in stored if begin < tick.due_at <= end)
        return ScheduleAudit(name, begin, end, expected, outcomes, tuple(unexplained), ticks)

    def _shown(self, row: ScheduleRow, live: Sequence[LiveVersion]) -> WorkflowSchedule:
        spec = row.spec
        return WorkflowSchedule(
            schedule_id=row.schedule_id,
            schedule_name=spec.name,
            workflow_name=spec.workflow_name,
            schedule=spec.expression,
            status="PAUSED" if row.paused else "ACTIVE",
            context=self._context(spec),
            workflow_class_name=spec.class_name,
            last_fired_at=row.last_fired_at,
            automatic_backfill=spec.catch_up == "all",
            cron_timezone=spec.zone,
            queue_name=spec.queue,
            application_name=row.application,
            dst=spec.dst,
            catch_up=spec.catch_up,
            catch_up_window_ms=spec.catch_up_window_ms,
            overlap=spec.overlap,
            jitter_ms=spec.jitter_ms,
            source=row.source,
            version=row.version,
            revision=row.revision,
            valid_from=row.valid_from,
            next_at=row.next_at,
            orphaned=_orphaned(row, [one for one in live if one.application == row.application]),
            alarm=row.alarm,
            changed_by=row.changed_by,
            change_reason=row.change_reason,
        )

    def _context(self, spec: ScheduleSpec) -> Any:
        if spec.context is None:
            return None
        try:
            return self._codecs.get(spec.codec or "json").decode(spec.context)
        except Exception:  # noqa: BLE001 - one value of a list must not hide the others
            return spec.context


def _orphaned(row: ScheduleRow, live: Sequence[LiveVersion]) -> bool:
    """Whether processes live and none of them can serve it; what is declared in code is served by that version only."""
    if not live:
        return False
    if row.source == "code" and all(one.version != row.version for one in live):
        return True
    return all(one.functions is not None and row.spec.workflow_name not in one.functions for one in live)


def _between(table: Timetable, begin_ms: int, end_ms: int, most: int) -> Iterator[Fire]:
    for number, fire in enumerate(table.after_instant(begin_ms)):
        if fire.at_ms > end_ms:
            return
        if number >= most:
            raise DBOSException(f"There are more than {most} ticks in that time. Name a shorter one.")
        yield fire


def _expected(specs: Sequence[SpecRow], begin_ms: int, end_ms: int) -> Iterator[tuple[ScheduleSpec, Fire]]:
    """Every nominal time between two moments, by the spec that counted then."""
    for number, one in enumerate(specs):
        ends = specs[number + 1].valid_from if number + 1 < len(specs) else end_ms
        first, last = max(begin_ms, one.valid_from), min(ends, end_ms)
        if first < last:
            for fire in _between(timetable_of(one.spec), first, last, MOST_AUDITED):
                yield one.spec, fire


def _run_with(runs: Sequence[Tick], fire: Fire) -> Tick | None:
    for run in runs:
        if run.until is not None and run.due_at <= fire.at_ms <= run.until:
            return run
    return None
