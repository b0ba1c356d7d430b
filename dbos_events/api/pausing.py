"""The verbs that stop and start the intake of consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos_events.api.reading import asked
from dbos_events.api.session import Session, refuse_on_loop
from dbos_events.control.consumers import ConsumerControl
from dbos_events.engine.drivers import drive, drive_async

if TYPE_CHECKING:
    from dbos_events.engine.core import Core
    from dbos_events.engine.effects import Flow


class Pausing(Session):
    """Pause and resume; within a workflow each is recorded and replayed."""

    def pause_consumer(self, name: str, *, reason: str | None = None) -> None:
        """Have a consumer take no events in, in all processes of the application, until it is resumed.

        What was taken in runs on, the watermark stands, the membership in the group stays. It survives
        restarts. Processes follow within a second.

        Raises:
            DBOSNonExistentConsumerError: No consumer of that name was ever registered.
        """
        refuse_on_loop("pause_consumer")
        drive(_pause_flow(self.core, name, reason))

    async def pause_consumer_async(self, name: str, *, reason: str | None = None) -> None:
        """As `pause_consumer`, without blocking the loop."""
        await drive_async(_pause_flow(self.core, name, reason))

    def resume_consumer(self, name: str) -> None:
        """Let a consumer take events in again: ends a pause, and closes its circuit breaker.

        Raises:
            DBOSNonExistentConsumerError: No consumer of that name was ever registered.
        """
        refuse_on_loop("resume_consumer")
        drive(_resume_flow(self.core, name))

    async def resume_consumer_async(self, name: str) -> None:
        """As `resume_consumer`, without blocking the loop."""
        await drive_async(_resume_flow(self.core, name))


def _pause_flow(core: Core, name: str, reason: str | None) -> Flow[None]:
    def work() -> None:
        by = f"executor {core.executor}"
        ConsumerControl(core.storage, core.application).pause(name, by=by, reason=reason)
        core.signal("consumers")

    return asked(core, "DBOS.pauseConsumer", work)


def _resume_flow(core: Core, name: str) -> Flow[None]:
    def work() -> None:
        ConsumerControl(core.storage, core.application).resume(name)
        core.signal("consumers")

    return asked(core, "DBOS.resumeConsumer", work)
