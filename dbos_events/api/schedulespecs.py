"""From what users write about a schedule to its spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_type_hints

from dbos_events.api.decorators import workflow
from dbos_events.api.session import Session
from dbos_events.api.starting import registered
from dbos_events.engine.schedules import caught_up, milliseconds_of
from dbos_events.errors import RegistrationError
from dbos_events.model.schedule import ClientScheduleInput, ScheduleInput, ScheduleSpec

if TYPE_CHECKING:
    from dbos_events.engine.registry import Registered

F = TypeVar("F", bound=Callable[..., Any])

_REQUIRED = ("schedule_name", "workflow_fn", "schedule")
_REQUIRED_BY_NAME = ("schedule_name", "workflow_name", "schedule")


class ScheduleHost(Session, Protocol):
    """An App that schedules can be declared on, also after its launch."""

    @property
    def is_launched(self) -> bool: ...

    @property
    def launched(self) -> Any: ...


def given_among(arguments: Mapping[str, Any]) -> ScheduleInput:
    """Those of a call's arguments that say what the schedule is."""
    return cast("ScheduleInput", _known_of(arguments, ScheduleInput))


def given_by_name(arguments: Mapping[str, Any]) -> ClientScheduleInput:
    """As `given_among`, of a workflow by its name."""
    return cast("ClientScheduleInput", _known_of(arguments, ClientScheduleInput))


def _known_of(arguments: Mapping[str, Any], kind: type) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name in get_type_hints(kind)}


def spec_of(session: Session, given: ScheduleInput) -> ScheduleSpec:
    """The spec of what was given; its context is encoded here, on the caller's thread."""
    _check(given, ScheduleInput, _REQUIRED)
    entry = registered(session, given["workflow_fn"])
    return _spec(session, given, entry.name, entry.class_name)


def spec_by_name(session: Session, given: ClientScheduleInput) -> ScheduleSpec:
    """As `spec_of`, of a workflow by its name."""
    _check(given, ClientScheduleInput, _REQUIRED_BY_NAME)
    return _spec(session, given, given["workflow_name"], given.get("workflow_class_name"))


def _check(given: object, kind: type, required: Sequence[str]) -> None:
    if not isinstance(given, Mapping):
        raise RegistrationError(
            f"A schedule is a mapping of the arguments of create_schedule, not {given!r}."
        )
    known = get_type_hints(kind)
    unknown = sorted(set(given) - set(known))
    missing = [name for name in required if given.get(name) is None]
    if unknown or missing:
        wrong = (
            f"has no {', '.join(missing)}"
            if missing
            else f"has {', '.join(map(str, unknown))}, which is unknown"
        )
        raise RegistrationError(
            f"The schedule {given.get('schedule_name')!r} {wrong}. It takes {', '.join(sorted(known))}."
        )


def _spec(
    session: Session,
    given: ScheduleInput | ClientScheduleInput,
    workflow_name: str,
    class_name: str | None,
) -> ScheduleSpec:
    name = given["schedule_name"]
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
        workflow_name=workflow_name,
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
        class_name=class_name,
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
