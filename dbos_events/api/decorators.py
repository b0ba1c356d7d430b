"""The decorators: they register a function and give back one that runs durably."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from dbos_events.api.session import Session
from dbos_events.api.starting import Starting, prepare
from dbos_events.engine.context import CURRENT, Scope
from dbos_events.engine.drivers import drive, drive_async
from dbos_events.engine.operations.result import child_result, result_of
from dbos_events.engine.operations.step import StepCall
from dbos_events.engine.registry import STEP_PREFIX, Registered
from dbos_events.engine.run import Place
from dbos_events.errors import RegistrationError
from dbos_events.model.workflow import StepOptions

P = ParamSpec("P")
R = TypeVar("R")


def workflow(
    session: Session, function: Callable[P, R], name: str | None, max_recovery_attempts: int | None
) -> Callable[P, R]:
    """Register `function` as a workflow of `session`."""
    entry = session.registry.add(
        Registered(
            name or function.__qualname__,
            function,
            inspect.iscoroutinefunction(function),
            max_recovery_attempts,
        )
    )

    @functools.wraps(function)
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
    if entry.is_async:
        return _call_async(starting, scope, place)
    started = drive(starting.flow())
    if started.run is not None:
        starting.core.runner.run_for_caller(started.run)
    if scope is None or place is None:
        return drive(result_of(starting.core, started.workflow_id, started.run, 1.0))
    return drive(child_result(starting.core, scope.run, place, started.workflow_id, started.run, 1.0))


async def _call_async(starting: Starting, scope: Scope | None, place: Place | None) -> Any:
    core = starting.core
    started = await drive_async(starting.flow())
    if started.run is not None:
        core.runner.submit([started.run])
    if scope is None or place is None:
        return await drive_async(result_of(core, started.workflow_id, started.run, 1.0))
    return await drive_async(child_result(core, scope.run, place, started.workflow_id, started.run, 1.0))


def step(session: Session, function: Callable[P, R], options: StepOptions) -> Callable[P, R]:
    """Make `function` a step; it can be started as a workflow of one step, too."""
    if getattr(function, "__dbos_step__", False):
        raise RegistrationError(f"{function.__qualname__} is a step already.")
    name = options.name or function.__qualname__
    is_async = inspect.iscoroutinefunction(function)
    check_step_options(name, options, is_async=is_async)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return call_step(name, options, function, args, kwargs, is_async=is_async)

    call.__dbos_step__ = True  # type: ignore[attr-defined]
    entry = session.registry.add(
        Registered(f"{STEP_PREFIX}{name}", _one_step(call, is_async=is_async), is_async)
    )
    entry.temporary = True
    _mark(call, session, entry.name, is_async=is_async)
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
    call = StepCall(run, run.locate(scope), scope.step_key(name), name, options, function, args, kwargs)
    return drive_async(call.flow()) if is_async else drive(call.flow())


def check_step_options(name: str, options: StepOptions, *, is_async: bool) -> None:
    """Raise `RegistrationError` for options that could not be kept."""
    if options.timeout_seconds is not None and not is_async:
        raise RegistrationError(
            f"Step {name}: timeout_seconds needs an `async def` step, a running function cannot be interrupted."
        )
    key = options.idempotency_key
    if key is not None and (not callable(key) or inspect.iscoroutinefunction(key)):
        raise RegistrationError(
            f"Step {name}: idempotency_key={key!r} is not a plain function. Give one that takes the step's arguments and "
            "returns the key, such as lambda order, cents: order.id."
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
        call._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
