"""How a verb of an App becomes one of a client: connected at the first use, and never a part of a workflow."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from dbos_events.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.client.handles import ClientHandle, ClientHandleAsync
from dbos_events.engine.context import without_caller

if TYPE_CHECKING:
    pass

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


def loosely(verb: Callable[..., R]) -> Callable[..., R]:
    """The same verb to a type checker that knows nothing of its arguments: one that takes any keyword has no other type."""
    return verb


def refuse_to_block(verb: str) -> None:
    """Raise where a verb that blocks is called on a running event loop."""
    refuse_on_loop(f"client.{verb}", hint=f"await client.{verb}_async(...)")


def blocking(verb: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """A verb that blocks."""
    name = verb.__name__

    @functools.wraps(verb)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        refuse_to_block(name)
        session = self.connected()
        with without_caller():
            return cast("R", of_client(session, verb(session, *args, **kwargs)))

    return call


def awaited(
    verb: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """A verb that is awaited."""

    @functools.wraps(verb)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        session = await self.connected_async()
        with without_caller():
            return cast("R", of_client(session, await verb(session, *args, **kwargs)))

    return call


def iterated(
    verb: Callable[Concatenate[Any, P], Generator[V, None, None]],
) -> Callable[Concatenate[Any, P], Generator[V, None, None]]:
    """A verb that gives a generator; its arguments are checked at the call."""
    name = verb.__name__

    @functools.wraps(verb)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Generator[V, None, None]:
        refuse_to_block(name)
        session = self.connected()
        with without_caller():
            values = verb(session, *args, **kwargs)
        return _values(values)

    return call


def iterated_async(
    verb: Callable[Concatenate[Any, P], AsyncGenerator[V, None]],
) -> Callable[Concatenate[Any, P], AsyncGenerator[V, None]]:
    """A verb that gives an asynchronous generator."""

    @functools.wraps(verb)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[V, None]:
        session = await self.connected_async()
        values = verb(session, *args, **kwargs)
        try:
            while True:
                with without_caller():
                    value = await anext(values)
                yield value
        except StopAsyncIteration:
            return
        finally:
            await values.aclose()

    return call


def _values(values: Generator[V, None, None]) -> Generator[V, None, None]:
    try:
        while True:
            with without_caller():
                value = next(values)
            yield value
    except StopIteration:
        return
    finally:
        values.close()


def of_client(session: Session, answer: Any) -> Any:
    """The answer of a verb, with a client's handles instead of an App's."""
    if type(answer) is WorkflowHandle:
        return ClientHandle(session, answer.workflow_id)
    if type(answer) is WorkflowHandleAsync:
        return ClientHandleAsync(session, answer.workflow_id)
    if isinstance(answer, list) and answer and isinstance(answer[0], WorkflowHandle | WorkflowHandleAsync):
        return [of_client(session, one) for one in answer]
    return answer
