"""Cancels workflows whose time is over: to end, or to be claimed."""

from __future__ import annotations

from dbos_events.engine.core import Core
from dbos_events.engine.timelimits import DEADLINES
from dbos_events.runtime.service import DueService
from dbos_events.telemetry.log import logger

BATCH = 1000
"""Workflows that one transaction cancels."""

AGAIN_SECONDS = 0.02
"""When something is due and its row is held by another transaction."""


class DeadlineService(DueService):
    """Sleeps until the next deadline of the application's workflows, at most one second.

    Any process does it for all of them, whichever functions it has: nothing is run. One timer serves all, and a workflow
    without a deadline costs it nothing.
    """

    name = "deadlines"
    signals = (DEADLINES,)

    def __init__(self, core: Core) -> None:
        super().__init__(core, interval=1.0)

    def left(self) -> int | None:
        return self._core.storage.endings.next_due(self._core.application)

    def serve(self) -> float:
        core = self._core
        ended = core.storage.endings.end_due(core.application, BATCH)
        for one in ended:
            logger.info("Workflow %s was cancelled: %s.", one.id, one.reason)
        core.tell_cancelled([one.id for one in ended])
        return 0.0 if ended else AGAIN_SECONDS
