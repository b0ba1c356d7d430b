"""About schedules."""

from __future__ import annotations

from typing import Any

from dbos_events.errors.base import DBOSException


class _AboutSchedule(DBOSException):
    """An error that names one schedule."""

    template = "Schedule {name}"

    def __init__(self, name: str, application: str) -> None:
        self.name = name
        self.application = application
        super().__init__(self.template.format(name=name, application=application))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.application)


class DBOSNonExistentScheduleError(_AboutSchedule):
    """The application has no schedule of that name."""

    code = "schedule-not-found"
    template = (
        "The application {application!r} has no schedule called {name!r}. `dbos-events schedule list` shows those that "
        "it has."
    )


class DBOSScheduleExistsError(_AboutSchedule):
    """The application has a schedule of that name already."""

    code = "schedule-exists"
    template = (
        "The application {application!r} has a schedule called {name!r} already. Change it with DBOS.apply_schedules, or "
        "delete it first."
    )
