"""All that an operator may ask and do, by subject."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dbos_events.control.signals import tell_all

if TYPE_CHECKING:
    from dbos_events.control.consumers import ConsumerControl
    from dbos_events.control.matches import MatchControl
    from dbos_events.control.positions import PositionControl
    from dbos_events.control.processes import ProcessControl
    from dbos_events.control.proofs import ProofControl
    from dbos_events.control.quarantine import QuarantineControl
    from dbos_events.control.queues import QueueControl
    from dbos_events.control.schedules import ScheduleControl
    from dbos_events.control.workflows import WorkflowControl
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
        self._storage = storage
        self._codecs = codecs
        self._sections = sections
        self._tell = tell_all(storage)
        self.application = application

    # Each is loaded when it is asked for: a command needs one or two of them.

    @cached_property
    def workflows(self) -> WorkflowControl:
        from dbos_events.control.workflows import WorkflowControl

        return WorkflowControl(self._storage, self._codecs, tell=self._tell)

    @cached_property
    def quarantine(self) -> QuarantineControl:
        from dbos_events.control.quarantine import QuarantineControl

        return QuarantineControl(self._storage, self._codecs, tell=self._tell)

    @cached_property
    def consumers(self) -> ConsumerControl:
        from dbos_events.control.consumers import ConsumerControl

        return ConsumerControl(self._storage, self.application, tell=self._tell)

    @cached_property
    def positions(self) -> PositionControl:
        from dbos_events.control.positions import PositionControl

        return PositionControl(self._storage, self.application, self._sections)

    @cached_property
    def processes(self) -> ProcessControl:
        from dbos_events.control.processes import ProcessControl

        return ProcessControl(self._storage)

    @cached_property
    def matches(self) -> MatchControl:
        from dbos_events.control.matches import MatchControl

        return MatchControl(self._storage, self._codecs, tell=self._tell)

    @cached_property
    def queues(self) -> QueueControl:
        from dbos_events.control.queues import QueueControl

        return QueueControl(self._storage, self.application, tell=self._tell)

    @cached_property
    def proofs(self) -> ProofControl:
        from dbos_events.control.proofs import ProofControl

        return ProofControl(self._storage, self.workflows)

    @cached_property
    def schedules(self) -> ScheduleControl:
        from dbos_events.control.schedules import ScheduleControl

        return ScheduleControl(self._storage, self._codecs, self.application, tell=self._tell)

    def now_ms(self) -> int:
        """The database's clock, in milliseconds since 1970 (UTC)."""
        return self._storage.now_ms()
