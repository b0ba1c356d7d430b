"""Schedules: the decorator, and the verbs that make, change and use them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.reading import asked
from dbos_events.api.schedulespecs import (
    ScheduleHost,
    add_schedule,
    check_arguments,
    given_among,
    scheduled_workflow,
    spec_of,
)  # fmt: skip
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.control.schedules import ScheduleControl
from dbos_events.engine.context import CURRENT
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.schedules import caught_up, check_spec, milliseconds_of
from dbos_events.errors import DBOSException
from dbos_events.model.schedule import CatchUp, Dst, Overlap, ScheduleInput, ScheduleSpec, WorkflowSchedule

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.effects import Flow

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class Scheduling(Session):
    """Schedules; within a workflow the verbs that are allowed there are recorded and replayed."""

    def scheduled(  # noqa: PLR0913 - the options of one declaration
        self,
        cron: str,
        *,
        name: str | None = None,
        cron_timezone: str | None = None,
        queue_name: str | None = None,
        dst: Dst = "once",
        catch_up: CatchUp | None = None,
        catch_up_window: float | timedelta | None = None,
        overlap: Overlap = "allow",
        jitter: float | timedelta = 0,
    ) -> Callable[[F], F]:
        """Run a workflow at every time that a cron expression names, exactly once over all processes.

        It is called with the scheduled time and the actual time of its start, both aware of their zone. Below the decorator
        stands `@DBOS.workflow()`; it is implied where it is missing. Ticks begin at the first launch that declares the
        schedule.

        Args:
            cron: Five fields, or six with the seconds first.
            name: The schedule's name; the workflow's by default.
            cron_timezone: An IANA name; UTC by default.
            queue_name: Enqueue the workflows instead of running them in the process that notices the tick.
            dst: "once": a local time that comes twice runs at its first, one that does not exist at the end of the gap;
                "wall": whenever clocks show it; "skip": as "once", but not where it does not exist. An expression that
                names every hour runs in every real hour in any case.
            catch_up: Ticks that no process served: "last" runs the newest of them, "all" each, "none" none.
            catch_up_window: Seconds after which a tick is missed for good; a day by default.
            overlap: While the run before has not ended: "allow" another one; "skip" the tick; "buffer_one" tick until it
                has ended; "cancel_other", and run.
            jitter: Each tick starts up to this many seconds later, by an amount that follows from its id.

        Raises:
            RegistrationError: A value is not usable.
        """

        def decorate(function: F) -> F:
            decorated, entry = scheduled_workflow(self, function)
            check_arguments(entry)
            chosen, window = caught_up(
                name or entry.name, catch_up, catch_up_window, automatic_backfill=False
            )
            spec = check_spec(
                ScheduleSpec(
                    name=entry.name if name is None else name,
                    workflow_name=entry.name,
                    expression=cron,
                    zone=cron_timezone,
                    dst=dst,
                    catch_up=chosen,
                    catch_up_window_ms=window,
                    overlap=overlap,
                    jitter_ms=milliseconds_of(name or entry.name, "jitter", jitter),
                    queue=queue_name,
                    second="actual",
                    class_name=entry.class_name,
                )
            )
            add_schedule(cast("ScheduleHost", self), spec)
            return decorated

        return decorate

    # -- making and changing ------------------------------------------------------------------

    def create_schedule(  # noqa: PLR0913 - the values of one schedule
        self,
        *,
        schedule_name: str,
        workflow_fn: Callable[..., Any],
        schedule: str,
        context: Any = None,
        automatic_backfill: bool = False,
        cron_timezone: str | None = None,
        queue_name: str | None = None,
        dst: Dst = "once",
        catch_up: CatchUp | None = None,
        catch_up_window: float | timedelta | None = None,
        overlap: Overlap = "allow",
        jitter: float | timedelta = 0,
    ) -> None:
        """Make a schedule in the database; its workflow is called with the scheduled time and `context`.

        The values are those of `scheduled`; `automatic_backfill=True` is `catch_up="all"` over up to a year.

        Raises:
            DBOSScheduleExistsError: There is one of that name; `apply_schedules` changes it.
            RegistrationError: A value is not usable.
        """
        refuse_on_loop("create_schedule")
        given = given_among(locals())
        drive(create_flow(self, spec_of(self, given)))

    async def create_schedule_async(  # noqa: PLR0913 - as `create_schedule`
        self,
        *,
        schedule_name: str,
        workflow_fn: Callable[..., Any],
        schedule: str,
        context: Any = None,
        automatic_backfill: bool = False,
        cron_timezone: str | None = None,
        queue_name: str | None = None,
        dst: Dst = "once",
        catch_up: CatchUp | None = None,
        catch_up_window: float | timedelta | None = None,
        overlap: Overlap = "allow",
        jitter: float | timedelta = 0,
    ) -> None:
        """As `create_schedule`, without blocking the loop."""
        given = given_among(locals())
        await drive_async(create_flow(self, spec_of(self, given)))

    def apply_schedules(self, schedules: Iterable[ScheduleInput]) -> None:
        """Make or change schedules in one transaction: all, or none.

        Each is a mapping of the arguments of `create_schedule`. A change counts from now on, and ticks that were due before
        it follow the schedule of then. What is equal stays untouched; a pause stays.

        Raises:
            RegistrationError: A value is not usable.
            DBOSException: It is called within a workflow, or one of them is declared in code.
        """
        refuse_on_loop("apply_schedules")
        drive(apply_flow(self, [spec_of(self, one) for one in schedules]))

    async def apply_schedules_async(self, schedules: Iterable[ScheduleInput]) -> None:
        """As `apply_schedules`, without blocking the loop."""
        await drive_async(apply_flow(self, [spec_of(self, one) for one in schedules]))

    def delete_schedule(self, name: str) -> None:
        """Delete a schedule, if there is one. What it has started runs on; one that is declared in code comes back."""
        refuse_on_loop("delete_schedule")
        drive(_asked(self, "DBOS.deleteSchedule", lambda control: _nothing(control.delete(name))))

    async def delete_schedule_async(self, name: str) -> None:
        """As `delete_schedule`, without blocking the loop."""
        await drive_async(_asked(self, "DBOS.deleteSchedule", lambda control: _nothing(control.delete(name))))

    def pause_schedule(self, name: str, *, reason: str | None = None) -> None:
        """Have ticks start nothing until it is resumed; each is noted as paused, and none is caught up with.

        Raises:
            DBOSNonExistentScheduleError: There is none of that name.
        """
        refuse_on_loop("pause_schedule")
        drive(_pause_flow(self, name, reason))

    async def pause_schedule_async(self, name: str, *, reason: str | None = None) -> None:
        """As `pause_schedule`, without blocking the loop."""
        await drive_async(_pause_flow(self, name, reason))

    def resume_schedule(self, name: str) -> None:
        """Have ticks start workflows again, from now on.

        Raises:
            DBOSNonExistentScheduleError: There is none of that name.
        """
        refuse_on_loop("resume_schedule")
        drive(_resume_flow(self, name))

    async def resume_schedule_async(self, name: str) -> None:
        """As `resume_schedule`, without blocking the loop."""
        await drive_async(_resume_flow(self, name))

    # -- asking -------------------------------------------------------------------------------

    def list_schedules(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow_name: str | Sequence[str] | None = None,
        schedule_name_prefix: str | Sequence[str] | None = None,
        application_name: str | None = None,
    ) -> list[WorkflowSchedule]:
        """The schedules that fit, by name; of this application where none is named."""
        refuse_on_loop("list_schedules")
        return drive(_list_flow(self, status, workflow_name, schedule_name_prefix, application_name))

    async def list_schedules_async(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow_name: str | Sequence[str] | None = None,
        schedule_name_prefix: str | Sequence[str] | None = None,
        application_name: str | None = None,
    ) -> list[WorkflowSchedule]:
        """As `list_schedules`, without blocking the loop."""
        flow = _list_flow(self, status, workflow_name, schedule_name_prefix, application_name)
        return await drive_async(flow)

    def get_schedule(self, name: str) -> WorkflowSchedule | None:
        """A schedule; None where there is none of that name."""
        refuse_on_loop("get_schedule")
        return drive(_asked(self, "DBOS.getSchedule", lambda control: control.get(name)))

    async def get_schedule_async(self, name: str) -> WorkflowSchedule | None:
        """As `get_schedule`, without blocking the loop."""
        return await drive_async(_asked(self, "DBOS.getSchedule", lambda control: control.get(name)))

    # -- starting by hand ---------------------------------------------------------------------

    def trigger_schedule(self, name: str) -> WorkflowHandle[Any]:
        """Start the schedule's workflow once, now, whatever its pause and its overlap.

        Raises:
            DBOSNonExistentScheduleError: There is none of that name.
            DBOSException: It is called within a workflow.
        """
        refuse_on_loop("trigger_schedule")
        return WorkflowHandle(self, drive(_by_hand(self, "trigger_schedule", lambda c: c.trigger(name))))

    async def trigger_schedule_async(self, name: str) -> WorkflowHandleAsync[Any]:
        """As `trigger_schedule`, without blocking the loop."""
        started = await drive_async(_by_hand(self, "trigger_schedule_async", lambda c: c.trigger(name)))
        return WorkflowHandleAsync(self, started)

    def backfill_schedule(self, name: str, start: datetime, end: datetime) -> list[WorkflowHandle[Any]]:
        """Start the workflows of all nominal times between two moments, both left out; times without a zone are UTC.

        The workflow of a tick that ran is the same one, so a backfill can be repeated.

        Raises:
            DBOSNonExistentScheduleError: There is none of that name.
            DBOSException: It is called within a workflow, the end is not after the start, or more than 10,000 ticks lie in
                between.
        """
        refuse_on_loop("backfill_schedule")
        flow = _by_hand(self, "backfill_schedule", lambda c: c.backfill(name, _instant(start), _instant(end)))
        return [WorkflowHandle(self, workflow_id) for workflow_id in drive(flow)]

    async def backfill_schedule_async(
        self, name: str, start: datetime, end: datetime
    ) -> list[WorkflowHandleAsync[Any]]:
        """As `backfill_schedule`, without blocking the loop."""
        flow = _by_hand(
            self, "backfill_schedule_async", lambda c: c.backfill(name, _instant(start), _instant(end))
        )
        return [WorkflowHandleAsync(self, workflow_id) for workflow_id in await drive_async(flow)]


# ------------------------------------------------------------------ flows


def _control(core: Core) -> ScheduleControl:
    def tell(channels: Sequence[str]) -> None:
        for channel in channels:
            core.signal(channel)

    return ScheduleControl(core.storage, core.codecs, core.application, tell=tell)


def _asked(session: Session, name: str, work: Callable[[ScheduleControl], R]) -> Flow[R]:
    core = session.core
    return asked(core, name, lambda: work(_control(core)))


def _nothing(_answer: object) -> None:
    return None


def _by(core: Core) -> str:
    return f"executor {core.executor}" if core.executor else "a client"


def create_flow(session: Session, spec: ScheduleSpec) -> Flow[None]:
    """Make a schedule."""
    core = session.core
    return asked(core, "DBOS.createSchedule", lambda: _control(core).create(spec, by=_by(core)))


def apply_flow(session: Session, specs: Sequence[ScheduleSpec]) -> Flow[None]:
    """Make or change schedules, all or none."""
    core = session.core
    _refuse_in_workflow("apply_schedules")
    return asked(core, "DBOS.applySchedules", lambda: _nothing(_control(core).apply(specs, by=_by(core))))


def _pause_flow(session: Session, name: str, reason: str | None) -> Flow[None]:
    by = _by(session.core)
    return _asked(session, "DBOS.pauseSchedule", lambda c: _nothing(c.pause(name, by=by, reason=reason)))


def _resume_flow(session: Session, name: str) -> Flow[None]:
    by = _by(session.core)
    return _asked(session, "DBOS.resumeSchedule", lambda c: _nothing(c.resume(name, by=by)))


def _list_flow(
    session: Session,
    status: str | Sequence[str] | None,
    workflow_name: str | Sequence[str] | None,
    prefix: str | Sequence[str] | None,
    application: str | None,
) -> Flow[list[WorkflowSchedule]]:
    core = session.core
    return asked(
        core,
        "DBOS.listSchedules",
        lambda: _control(core).find(
            status=_several(status),
            workflow_name=_several(workflow_name),
            name_prefix=_several(prefix),
            application=application or core.application,
        ),
    )


def _by_hand(session: Session, verb: str, work: Callable[[ScheduleControl], R]) -> Flow[R]:
    _refuse_in_workflow(verb)
    return _asked(session, f"DBOS.{verb}", work)


def _refuse_in_workflow(verb: str) -> None:
    if CURRENT.get() is not None:
        raise DBOSException(
            f"DBOS.{verb} was called within a workflow, where it cannot be recorded. Call it from outside of workflows."
        )


def _several(value: str | Sequence[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _instant(moment: datetime) -> int:
    if not isinstance(moment, datetime):
        raise DBOSException(f"A backfill is between two datetimes, not from {moment!r}.")
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)
