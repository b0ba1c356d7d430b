"""The two colours: run an operation on this thread, or on the running event loop."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from dbos_events.engine.effects import Awaits, Call, Effect, Flow

R = TypeVar("R")


def drive(flow: Flow[R]) -> R:
    """Run `flow` on the calling thread.

    Where a function of the user turns out to give an awaitable, the rest of the flow is returned, as a coroutine.
    """
    try:
        effect = next(flow)
        while True:
            try:
                value = effect.block()
            except Awaits as found:
                return cast("R", _go_on(flow, cast("Call", effect), found.awaitable))
            except BaseException as raised:  # noqa: BLE001 - the operation decides what an error means
                effect = flow.throw(raised)
            else:
                effect = flow.send(value)
    except StopIteration as stop:
        return cast("R", stop.value)


async def drive_async(flow: Flow[R], effect: Effect | None = None) -> R:
    """Run `flow` on the running event loop; from `effect` on, where it has begun and waits for that."""
    try:
        if effect is None:
            effect = next(flow)
        while True:
            try:
                value = await effect.suspend()
            except BaseException as raised:  # noqa: BLE001
                effect = flow.throw(raised)
            else:
                effect = flow.send(value)
    except StopIteration as stop:
        return cast("R", stop.value)


async def _go_on(flow: Flow[R], call: Call, awaitable: Awaitable[Any]) -> R:
    """Run the rest of `flow` on a loop, from the call on that gave `awaitable`."""
    return await drive_async(flow, _Awaited(call, awaitable))


class _Awaited:
    """Effect: await what a call has given already."""

    __slots__ = ("awaitable", "call")

    def __init__(self, call: Call, awaitable: Awaitable[Any]) -> None:
        self.call = call
        self.awaitable = awaitable

    def block(self) -> Any:
        raise NotImplementedError

    async def suspend(self) -> Any:
        return await self.call.finish(self.awaitable)
