"""Steps that are interrupted at once when their run is stopped, as by a cancel or a deadline."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

from dbos_events.engine.effects import Call
from dbos_events.engine.shield import shield_over
from dbos_events.engine.waits import subscribed
from dbos_events.engine.waking import ENGINE

if TYPE_CHECKING:
    from dbos_events.engine.run import Run
    from dbos_events.engine.waking import LoopInbox


class PreemptibleCall(Call):
    """A call of an async step that ends with what stopped its run; then nothing is recorded of it."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.timeout is None:
            self.timeout = math.inf

    async def _bounded(self, awaitable: Any, seconds: float) -> Any:
        run = self.scope.run
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        interrupting = _Interrupting(run, task, run.core.inbox())
        try:
            with subscribed(run.core, interrupting, [f"run:{run.id}"]):
                if run.verdict is not None:  # it came before the subscription
                    interrupting.wake()
                if seconds == math.inf:
                    return await awaitable
                return await super()._bounded(awaitable, seconds)
        except (asyncio.CancelledError, Exception):
            # Where both a timeout and a cancel end it, the cancel counts.
            if interrupting.done and (verdict := run.refusal()) is not None:
                raise verdict from None
            raise
        finally:
            interrupting.end()


class _Interrupting:
    """Cancels the task of a step when its run is stopped; a shield puts that off until its end."""

    def __init__(self, run: Run, task: asyncio.Task[Any], inbox: LoopInbox) -> None:
        self._run = run
        self._task = task
        self._inbox = inbox
        self._shield = shield_over(run) if run.shields else None
        self._later: asyncio.TimerHandle | None = None
        self._over = False
        self.done = False

    def wake(self) -> None:
        """The run may have been stopped; called on any thread."""
        self._inbox.post(self._look)

    def end(self) -> None:
        """The step has ended; takes the cancellation back, so that only the step sees it."""
        self._over = True
        if self._later is not None:
            self._later.cancel()
        if self.done:
            self._task.uncancel()

    def _look(self) -> None:
        if self._over or self.done or self._run.verdict is None:
            return
        if self._shield is not None and (left := self._shield.left_ms) > 0:
            if self._later is None:
                loop = asyncio.get_running_loop()
                self._later = loop.call_later(left / 1000 + 0.001, self._look, context=ENGINE)
            return
        self.done = True
        self._task.cancel()
