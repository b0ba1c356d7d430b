"""The decorators: they register a function and give back one that runs durably."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from dbos_events.api.starting import Starting, prepare
from dbos_events.engine.context import CURRENT, Scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.result import child_result, result_of
from dbos_events.engine.operations.step import StepCall
from dbos_events.engine.registry import STEP_PREFIX, Registered
from dbos_events.engine.shapes import check_runs, mark_async, may_await, name_of
from dbos_events.engine.shapes import is_async as is_coroutine
from dbos_events.engine.waking import running_loop
from dbos_events.errors import RegistrationError

if TYPE_CHECKING:
    from dbos_events.api.session import Session
    from dbos_events.engine.operations.start import Started
    from dbos_events.engine.runvalues import Place
    from dbos_events.model.workflow import StepOptions

P = ParamSpec("P")
R = TypeVar("R")


def workflow(
    session: Session, function: Callable[P, R], name: str | None, max_recovery_attempts: int | None
) -> Callable[P, R]:
    """Register `function` as a workflow of `session`."""
    check_runs(f"Workflow {name or name_of(function) or repr(function)}", function)
    name = _name(function, name)
    entry = session.registry.add(
        Registered(
            name,
            function,
            is_coroutine(function),
            max_recovery_attempts,
            may_await=may_await(function),
        )
    )

    @_wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return call_workflow(session, entry, args, kwargs)

    _mark(call, session, entry.name, is_async=entry.is_async)
    entry.wrapper = call
    return cast("Callable[P, R]", call)


def call_workflow(session: Session, entry: Registered, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A direct call: a durable start, and its result; a coroutine of it for an async workflow."""
    starting = prepare(session, entry, args, kwargs)
    scope = starting.scope
    place = scope.run.locate(scope) if scope is not None else None
    if entry.is_async or (entry.may_await and running_loop() is not None):
        return named(_call_async(starting, scope, place), entry.name)
    started = drive(starting.flow())
    if started.run is not None:
        starting.core.runner.run_for_caller(started.run)
        if started.run.tasks is not None and running_loop() is not None:  # it gave an awaitable, so this does
            return _result(starting, scope, place, started)
    if scope is None or place is None:
        return drive(result_of(starting.core, started.workflow_id, started.run, 1.0))
    return drive(child_result(starting.core, scope.run, place, started.workflow_id, started.run, 1.0))


async def _call_async(starting: Starting, scope: Scope | None, place: Place | None) -> Any:
    core = starting.core
    started = await drive_async(starting.flow())
    if started.run is not None:
        core.runner.start(started.run, awaited=True)
    started.pass_on_cancellation()
    return await _result(starting, scope, place, started)


async def _result(starting: Starting, scope: Scope | None, place: Place | None, started: Started) -> Any:
    core = starting.core
    if scope is None or place is None:
        return await drive_async(result_of(core, started.workflow_id, started.run, 1.0))
    return await drive_async(child_result(core, scope.run, place, started.workflow_id, started.run, 1.0))


def step(session: Session, function: Callable[P, R], options: StepOptions) -> Callable[P, R]:
    """Make `function` a step; it can be started as a workflow of one step, too."""
    if getattr(function, "__dbos_step__", False):
        raise RegistrationError(f"{name_of(function)} is a step already.")
    check_runs(f"Step {options.name or name_of(function) or repr(function)}", function, is_step=True)
    name = _name(function, options.name)
    awaits, may = is_coroutine(function), may_await(function)
    check_step_options(name, options, is_async=awaits)

    @_wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        asynchronous = awaits or (may and running_loop() is not None)
        return call_step(name, options, function, args, kwargs, is_async=asynchronous)

    call.__dbos_step__ = True  # type: ignore[attr-defined]
    entry = session.registry.add(
        Registered(f"{STEP_PREFIX}{name}", _one_step(call, is_async=awaits), awaits, may_await=may)
    )
    entry.temporary = True
    _mark(call, session, entry.name, is_async=awaits)
    return cast("Callable[P, R]", call)


def call_step(
    name: str,
    options: StepOptions,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    is_async: bool,
) -> Any:
    """A step within a workflow; a plain call elsewhere, and within another step."""
    scope = CURRENT.get()
    if scope is None or scope.step is not None:
        return function(*args, **kwargs)
    run = scope.run
    call = StepCall(run, run.locate(scope), scope, name, options, function, args, kwargs)
    return named(drive_async(call.flow()), name) if is_async else drive(call.flow())


def named(coroutine: Coroutine[Any, Any, R], name: str) -> Coroutine[Any, Any, R]:
    """The coroutine under the name of what it does: Python says it where it was never awaited."""
    coroutine.__qualname__ = name  # type: ignore[attr-defined]
    return coroutine


def check_step_options(name: str, options: StepOptions, *, is_async: bool) -> None:
    """Raise `RegistrationError` for options that could not be kept."""
    if options.timeout_seconds is not None and not is_async:
        raise RegistrationError(
            f"Step {name}: timeout_seconds needs an `async def` step, a running function cannot be interrupted."
        )
    if options.preemptible and not is_async:
        raise RegistrationError(
            f"Step {name}: preemptible=True needs an `async def` step, a running function cannot be interrupted."
        )
    key = options.idempotency_key
    if key is not None and (not callable(key) or is_coroutine(key) or may_await(key)):
        raise RegistrationError(
            f"Step {name}: idempotency_key={key!r} is not a plain function. Give one that takes the step's arguments and "
            "returns the key, such as lambda order, cents: order.id."
        )
    if (
        options.should_retry is not None
        and (is_coroutine(options.should_retry) or may_await(options.should_retry))
        and not is_async
    ):
        raise RegistrationError(
            f"Step {name}: should_retry is async, or stands around something async, and the step is a plain function. "
            "Make should_retry a plain function."
        )
    if options.retries_allowed and options.max_attempts < 1:
        raise RegistrationError(
            f"Step {name}: max_attempts counts the first attempt too, so it is at least 1."
        )


def _one_step(call: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    if not is_async:
        return call

    @functools.wraps(call)
    async def body(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return body


def _mark(call: Callable[..., Any], session: Session, name: str, *, is_async: bool) -> None:
    call.__dbos_session__ = session  # type: ignore[attr-defined]
    call.__dbos_name__ = name  # type: ignore[attr-defined]
    if is_async:
        # Numbers are taken at the call, before the first await, so `call` itself cannot be `async
        # def`; frameworks that ask shall be told that it gives a coroutine all the same.
        mark_async(call)


def _name(function: Callable[..., Any], name: str | None) -> str:
    """What its rows carry.

    Raises:
        RegistrationError: None was given, and it has none of its own.
    """
    found = name or name_of(function)
    if found is None:
        raise RegistrationError(
            f'{function!r} has no name of its own, by which its rows could find it again. Give it one: name="...".'
        )
    return found


def _wraps(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As functools.wraps, without the attributes of an object that is called."""
    if hasattr(function, "__qualname__"):
        return functools.wraps(function)
    return functools.wraps(function, updated=())
