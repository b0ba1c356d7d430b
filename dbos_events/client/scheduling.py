"""Schedules that a client makes: of workflows by their names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dbos_events.api.schedules import apply_flow, create_flow
from dbos_events.api.schedulespecs import given_by_name, spec_by_name
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.model.schedule import CatchUp, ClientScheduleInput, Dst, Overlap

if TYPE_CHECKING:
    from dbos_events.client.session import Connected


def create_schedule(  # noqa: PLR0913 - the values of one schedule
    session: Connected,
    *,
    schedule_name: str,
    workflow_name: str,
    schedule: str,
    workflow_class_name: str | None = None,
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

    As `DBOS.create_schedule`, of a workflow by its name, which a process of the application must have when a tick is due.

    Raises:
        DBOSScheduleExistsError: There is one of that name; `apply_schedules` changes it.
        RegistrationError: A value is not usable.
    """
    spec = spec_by_name(session, given_by_name(locals()))
    drive(create_flow(session, spec))


async def create_schedule_async(  # noqa: PLR0913 - as `create_schedule`
    session: Connected,
    *,
    schedule_name: str,
    workflow_name: str,
    schedule: str,
    workflow_class_name: str | None = None,
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
    spec = spec_by_name(session, given_by_name(locals()))
    await drive_async(create_flow(session, spec))


def apply_schedules(session: Connected, schedules: Iterable[ClientScheduleInput]) -> None:
    """Make or change schedules in one transaction: all, or none; each is a mapping of the arguments of `create_schedule`.

    Raises:
        RegistrationError: A value is not usable.
        DBOSException: One of them is declared in code.
    """
    drive(apply_flow(session, [spec_by_name(session, one) for one in schedules]))


async def apply_schedules_async(session: Connected, schedules: Iterable[ClientScheduleInput]) -> None:
    """As `apply_schedules`, without blocking the loop."""
    await drive_async(apply_flow(session, [spec_by_name(session, one) for one in schedules]))
