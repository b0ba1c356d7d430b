"""Waiting for the turn of a call in a replay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dbos_events.storage.writes import CANCELLED_CALL

if TYPE_CHECKING:
    from dbos_events.engine.replay import Turns
    from dbos_events.engine.run import Run
    from dbos_events.storage.writes import Checkpoint


class Recall:
    """Effect: wait for the turn of a recorded call (`entry`), or of a fresh one (None)."""

    __slots__ = ("entry", "run")

    def __init__(self, run: Run, entry: Checkpoint | None) -> None:
        self.run = run
        self.entry = entry

    def block(self) -> Any:
        if self.entry is not None:
            self._turns.pass_by(self.entry.completion_order)

    async def suspend(self) -> Any:
        if self.entry is None or self.entry.codec == CANCELLED_CALL:
            self._turns.pay()
        if self.entry is not None and self.entry.codec == CANCELLED_CALL:
            await asyncio.get_running_loop().create_future()  # until it is cancelled again
        alone = self.run.tasks is None or self.run.tasks.alone
        if alone:
            self.block()
        elif self.entry is not None:
            run = self.run
            await self._turns.recorded(
                self.entry.completion_order,
                lambda: not run.unwinding and run.verdict is None and not run.core.stopped.is_set(),
            )
        else:
            await self._turns.fresh()

    @property
    def _turns(self) -> Turns:
        assert self.run.history is not None  # noqa: S101
        return self.run.history.turns
