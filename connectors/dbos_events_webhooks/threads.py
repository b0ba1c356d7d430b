"""Threads on which functions of a program run, so that none of them holds a loop, or the process when it exits."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from dbos_events.connect import Readers

P = ParamSpec("P")
R = TypeVar("R")

MOST = 32
"""Threads of one kind that a receiver has; further calls wait for one of them."""


class Threads:
    """Threads for one kind of call, started when they are needed, while the receiver that they belong to is open."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.readers: Readers | None = None
        self._process = os.getpid()

    def open(self) -> None:
        """Keep threads from now on."""
        if (
            self.readers is None or self._process != os.getpid()
        ):  # a forked process has none of its parent's threads
            self.readers, self._process = Readers(MOST, self._name), os.getpid()

    def close(self) -> None:
        """Let go of them; each ends after the call that it is in. Nobody waits for that."""
        readers, self.readers = self.readers, None
        if readers is not None:
            readers.shutdown(wait=False)


async def on_thread(
    threads: Threads | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """As `asyncio.to_thread`, on a thread which the interpreter does not wait for when it exits.

    Where no receiver is open, or one was closed meanwhile, the call gets a thread of its own, which ends with it.
    """
    loop = asyncio.get_running_loop()
    call = contextvars.copy_context().run
    readers = None if threads is None else threads.readers
    if readers is not None:
        try:
            answer = loop.run_in_executor(readers, lambda: call(function, *args, **kwargs))
        except RuntimeError:  # closed meanwhile
            pass
        else:
            return await answer
    own = Readers(1, "webhook-call")
    try:
        return await loop.run_in_executor(own, lambda: call(function, *args, **kwargs))
    finally:
        own.shutdown(wait=False)
