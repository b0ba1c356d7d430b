"""The two colours: run an operation on this thread, or on the running event loop."""

from __future__ import annotations

from typing import TypeVar, cast

from dbos_events.engine.effects import Flow

R = TypeVar("R")


def drive(flow: Flow[R]) -> R:
    """Run `flow` on the calling thread."""
    try:
        effect = next(flow)
        while True:
            try:
                value = effect.block()
            except BaseException as raised:  # noqa: BLE001 - the operation decides what an error means
                effect = flow.throw(raised)
            else:
                effect = flow.send(value)
    except StopIteration as stop:
        return cast("R", stop.value)


async def drive_async(flow: Flow[R]) -> R:
    """Run `flow` on the running event loop."""
    try:
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
