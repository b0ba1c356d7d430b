"""A task that a workflow or a step starts: an exit in it must not end the event loop that it runs on."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from dbos_events.serialization.raised import as_exception

R = TypeVar("R")


class Contained(Coroutine[Any, Any, R]):
    """The coroutine itself, but for SystemExit, which comes out as an exception.

    asyncio lets that pass through a task and out of the loop, and with it the work of all others would end. A coroutine
    around it would not do: cancelled before it begins, it would leave this one without anybody who awaits it.
    """

    def __init__(self, coro: Coroutine[Any, Any, R], name: str) -> None:
        self._coro = coro
        self.__name__ = getattr(coro, "__name__", name)
        self.__qualname__ = name

    def send(self, value: Any) -> Any:
        try:
            return self._coro.send(value)
        except SystemExit as error:
            raise as_exception(error, f"The task {self.__qualname__}") from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._coro.throw(*error)
        except SystemExit as exit_:
            raise as_exception(exit_, f"The task {self.__qualname__}") from exit_

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, R]:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        """What is asked of coroutines, such as the line where they stand (`cr_frame`)."""
        return getattr(self._coro, name)
