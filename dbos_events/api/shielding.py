"""`DBOS.shielded`: clean up after a cancel."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from dbos_events.api.contexts import milliseconds
from dbos_events.api.session import Session
from dbos_events.engine.context import workflow_scope
from dbos_events.engine.shield import Shield
from dbos_events.errors import DBOSException


class Shielded:
    """A block in which a cancelled workflow may still record what it does; `with` and `async with`."""

    def __init__(self, seconds: float) -> None:
        bound = milliseconds("DBOS.shielded: its time", seconds)
        if bound is None:
            raise DBOSException("DBOS.shielded needs a time: the seconds after which cleaning up ends.")
        self._milliseconds = bound
        self._shield: Shield | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        if self._is_open:
            raise DBOSException("This shielded block is in use already; make a new one for a nested block.")
        self._is_open = True
        scope = workflow_scope()
        if scope is not None:
            self._shield = Shield(scope.run, self._milliseconds)
            self._shield.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        shield, self._shield = self._shield, None
        if shield is not None:
            shield.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Shielding(Session):
    """The verb."""

    def shielded(self, seconds: float) -> Shielded:
        """Let the workflow clean up: durable operations in the block are recorded also after it was cancelled.

        `with DBOS.shielded(30): refund(order)`, mostly in a `finally` or an `except`; `async with` does the same. The
        block holds for the branch that opens it, and for the tasks that are started in it. After `seconds`, counted from
        its beginning, the next operation raises as if there were no block; an operation that waits then ends so, too.

        The workflow stays CANCELLED. Steps in the block are at-least-once as all steps are, and are not taken up by
        another process: when this one dies, the cleaning up ends. Children that are started in it have its end as their
        deadline. A run does not leave memory while it waits in the block. Outside of workflows, and within a step, the
        block does nothing.

        Raises:
            DBOSException: `seconds` is not a time above 0.
        """
        return Shielded(seconds)
