"""All that an operator may ask and do, by subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbos_events.control.consumers import ConsumerControl
from dbos_events.control.positions import PositionControl
from dbos_events.control.processes import ProcessControl
from dbos_events.control.proofs import ProofControl
from dbos_events.control.quarantine import QuarantineControl
from dbos_events.control.queues import QueueControl
from dbos_events.control.schedules import ScheduleControl
from dbos_events.control.signals import tell_all
from dbos_events.control.workflows import WorkflowControl

if TYPE_CHECKING:
    from dbos_events.serialization import Codecs
    from dbos_events.storage.protocol import Storage


class Control:
    """The subjects of control over one database; needs no registered functions and no running process.

    A change wakes the processes concerned. Questions are about all applications unless they are given one;
    `application` is the one whose consumers are changed, `sections` the settings of connectors by their names.
    """

    def __init__(
        self,
        storage: Storage,
        codecs: Codecs,
        application: str,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        tell = tell_all(storage)
        self._storage = storage
        self.application = application
        self.workflows = WorkflowControl(storage, codecs, tell=tell)
        self.quarantine = QuarantineControl(storage, codecs, tell=tell)
        self.consumers = ConsumerControl(storage, application, tell=tell)
        self.positions = PositionControl(storage, application, sections)
        self.processes = ProcessControl(storage)
        self.queues = QueueControl(storage, application, tell=tell)
        self.proofs = ProofControl(storage, self.workflows)
        self.schedules = ScheduleControl(storage, codecs, application, tell=tell)

    def now_ms(self) -> int:
        """The database's clock, in milliseconds since 1970 (UTC)."""
        return self._storage.now_ms()
