"""Runs whose task was cancelled, as when its event loop ends: they go on elsewhere, but not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.errors import DBOSException
from dbos_events.telemetry.log import Recurring

if TYPE_CHECKING:
    from dbos_events.engine.run import Run

CANCELLED_OFTEN = 3
"""Times that a workflow whose task was cancelled goes on elsewhere; then it seems to cancel itself, and fails."""


class Cancelled:
    """How often the task of each workflow was cancelled in this process."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}
        self._said = Recurring()

    def once_more(self, run: Run) -> DBOSException | None:
        """Count, and say that the run goes on elsewhere; gives the error that it fails with instead, in the end."""
        times = self.times[run.id] = self.times.get(run.id, 0) + 1
        if times > CANCELLED_OFTEN:
            return DBOSException(
                f"The workflow's task was cancelled {times} times, by its own code or by what runs beside it on its "
                "event loop. Cancel a workflow with DBOS.cancel_workflow."
            )
        self._said.say(
            "The task of workflow %s (%s) was cancelled, as happens when its event loop ends; it goes on from its "
            "history. Workflows that an event loop starts run on it: let it live until they have ended.",
            run.id,
            run.function.name,
        )
        return None

    def forget(self, run: Run) -> None:
        """The workflow has ended."""
        self.times.pop(run.id, None)
