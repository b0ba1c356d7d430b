"""Threads on which functions of a program run, so that none of them holds a loop, or the process when it exits."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from dbos_events.connect import Readers

P = ParamSpec("P")
R = TypeVar("R")

FUNCTIONS = Readers(32, "webhook-function")
"""For what a request waits for: secrets are looked up, and content is validated."""

REPLIES = Readers(32, "webhook-reply")
"""Of their own: replies that hang would else take the threads on which other endpoints look up their secrets."""


async def on_thread(threads: Readers, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """As `asyncio.to_thread`, on one of these threads, which the interpreter does not wait for when it exits."""
    call = contextvars.copy_context().run
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: call(function, *args, **kwargs))
