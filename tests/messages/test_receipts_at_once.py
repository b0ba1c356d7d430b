"""Receipts at once of one topic: who gets which message is the same whatever crashes (rules 4 and 16)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp

MESSAGES = 4
CRASHES = [*((at,) for at in range(MESSAGES + 1)), tuple(range(MESSAGES + 1))]
"""Before which of the messages a process dies, and after the last one."""


@pytest.fixture
def app() -> App:
    return App()


def conversation(app: App, program: Any, dbos: TestApp, crashes: tuple[int, ...], number: int) -> Any:
    """What the program returns when its process dies before these of its messages."""
    with SetWorkflowID(f"w{number}"):
        handle = app.start_workflow(program)
    dbos.run_until_idle()
    for message in range(MESSAGES):
        if message in crashes:
            dbos.crash()
            dbos.run_until_idle()
        app.send(f"w{number}", message, "t")
        dbos.advance(seconds=1)
    if MESSAGES in crashes:
        dbos.crash()
    return handle.get_result()


def flat(app: App) -> Any:
    """Four calls wait in one gather."""

    @app.workflow(name="flat")
    async def program() -> list[Any]:
        return await asyncio.gather(*(app.recv_async("t", 1000) for _ in range(4)))

    return program


def nested(app: App) -> Any:
    """Two branches, the second of which comes first to its call; each then receives again."""

    @app.workflow(name="nested")
    async def program() -> list[Any]:
        async def branch(seconds: float) -> list[Any]:
            await app.sleep_async(seconds)
            return [await app.recv_async("t", 1000), await app.recv_async("t", 1000)]

        return await asyncio.gather(branch(0.3), branch(0.1))

    return program


def impatient(app: App) -> Any:
    """The first in line gives up between two messages, by its own time or because it is cancelled."""

    @app.workflow(name="impatient")
    async def program() -> list[Any]:
        async def cancelled() -> Any:
            receipt = asyncio.create_task(app.recv_async("t", 1000))
            await app.sleep_async(2.5)
            receipt.cancel()
            return (await asyncio.gather(receipt, return_exceptions=True))[0]

        async def late() -> list[Any]:
            return [await app.recv_async("t", timeout_seconds=10) for _ in range(3)]

        async def early() -> Any:
            return await app.recv_async("t", 1000)

        found = await asyncio.gather(early(), app.recv_async("t", 0.5), cancelled(), late())
        return [repr(one) for one in found]

    return program


@pytest.mark.parametrize("make", [flat, nested, impatient])
def test_who_gets_which_message_is_the_same_whenever_the_process_dies(
    app: App, dbos_test_app: MakeTestApp, make: Any
) -> None:
    program = make(app)
    dbos = dbos_test_app(app)
    expected = conversation(app, program, dbos, (), 0)
    for number, crashes in enumerate(CRASHES, 1):
        assert conversation(app, program, dbos, crashes, number) == expected, f"died before {crashes}"
