"""From what users write about a schedule to its spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from dbos_events.api.decorators import workflow
from dbos_events.api.session import Session
from dbos_events.api.starting import registered
from dbos_events.engine.registry import Registered
from dbos_events.engine.schedules import caught_up, milliseconds_of
from dbos_events.errors import RegistrationError
from dbos_events.model.schedule import ScheduleInput, ScheduleSpec

F = TypeVar("F", bound=Callable[..., Any])

_KNOWN = frozenset(ScheduleInput.__annotations__)
_REQUIRED = ("schedule_name", "workflow_fn", "schedule")


class ScheduleHost(Session, Protocol):
    """An App that schedules can be declared on, also after its launch."""

    @property
    def is_launched(self) -> bool: ...

    @property
    def launched(self) -> Any: ...


def given_among(arguments: Mapping[str, Any]) -> ScheduleInput:
    """Those of a call's arguments that say what the schedule is."""
    return cast("ScheduleInput", {name: value for name, value in arguments.items() if name in _KNOWN})


def spec_of(session: Session, given: ScheduleInput) -> ScheduleSpec:
    """The spec of what was given; its context is encoded here, on the caller's thread."""
    if not isinstance(given, Mapping):
        raise RegistrationError(
            f"A schedule is a mapping of the arguments of create_schedule, not {given!r}."
        )
    unknown = sorted(set(given) - _KNOWN)
    missing = [name for name in _REQUIRED if given.get(name) is None]
    if unknown or missing:
        wrong = (
            f"has no {', '.join(missing)}"
            if missing
            else f"has {', '.join(map(str, unknown))}, which is unknown"
        )
        raise RegistrationError(
            f"The schedule {given.get('schedule_name')!r} {wrong}. It takes {', '.join(sorted(_KNOWN))}."
        )
    name = given["schedule_name"]
    entry = registered(session, given["workflow_fn"])
    chosen, window = caught_up(
        name,
        given.get("catch_up"),
        given.get("catch_up_window"),
        automatic_backfill=given.get("automatic_backfill"),
    )
    codec = session.core.codecs.default
    context = given.get("context")
    return ScheduleSpec(
        name=name,
        workflow_name=entry.name,
        expression=given["schedule"],
        zone=given.get("cron_timezone"),
        dst=given.get("dst") or "once",
        catch_up=chosen,
        catch_up_window_ms=window,
        overlap=given.get("overlap") or "allow",
        jitter_ms=milliseconds_of(name, "jitter", given.get("jitter") or 0),
        queue=given.get("queue_name"),
        codec=codec.name,
        context=None if context is None else codec.encode(context),
        class_name=entry.class_name,
    )


def scheduled_workflow(session: Session, function: F) -> tuple[F, Registered]:
    """The workflow below the decorator; a plain function becomes one."""
    if getattr(function, "__dbos_session__", None) is None:
        function = workflow(session, function, None, 100)  # type: ignore[assignment]
    return function, registered(session, function)


def check_arguments(entry: Registered) -> None:
    """Refuse a function that cannot be called with two arguments."""
    try:
        inspect.signature(entry.function).bind(None, None)
    except TypeError as error:
        raise RegistrationError(
            f"{entry.name} cannot be scheduled: it is called with two arguments, the scheduled time and the actual one, "
            f"such as def {entry.name.rsplit('.', 1)[-1]}(scheduled_time, actual_time): ... ({error})."
        ) from error
    except ValueError:  # it does not tell its arguments
        return


def add_schedule(app: ScheduleHost, spec: ScheduleSpec) -> None:
    """Note a schedule; when launched already, it counts from now on."""
    known = app.registry.schedules.get(spec.name)
    if known is not None and known.workflow_name != spec.workflow_name:
        raise RegistrationError(
            f"Two schedules are called {spec.name!r}: of {known.workflow_name} and of {spec.workflow_name}. Give one of "
            "them another name=..."
        )
    entry = app.registry.workflows[spec.workflow_name]
    if known is not None and known != spec and entry.schedule_loading is entry.loading:
        raise RegistrationError(
            f"The workflow {spec.workflow_name!r} is scheduled twice under one name, {spec.name!r}. Give one of the "
            "schedules another: @DBOS.scheduled(cron, name=...)."
        )
    entry.schedule_loading = entry.loading
    app.registry.schedules[spec.name] = spec
    if app.is_launched:
        app.launched.schedules.add(spec)
