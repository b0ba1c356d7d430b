"""What operators, and the services that work for them, ask of a database; part of the storage protocol.

Every method is one transaction and raises as `dbos_events.storage.protocol` says.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from dbos_events.model.consumer import ConsumerState
from dbos_events.model.proof import Gap, GapQuestion, TracedEvent
from dbos_events.model.workflow import Unhandled
from dbos_events.storage.rows import Position, TakenWorkflow
from dbos_events.storage.standing import Orphan


class Standing(Protocol):
    """Consumers that take nothing in (protocol 11): paused by hand, or behind an open breaker.

    A change of a breaker compares `epoch`, what its caller has last seen, and gives whether it was made.
    """

    def consumer_states(self, application: str | None) -> list[ConsumerState]:
        """All consumers that were ever registered, by application and name."""
        ...

    def pause_consumer(self, application: str, name: str, paused_by: str, reason: str | None) -> bool:
        """Pause a consumer; False when it is paused already, or unknown."""
        ...

    def resume_consumer(self, application: str, name: str) -> bool:
        """End a pause and close the breaker; False when there is neither."""
        ...

    def open_breaker(self, consumer: int, epoch: int, reason: str, pause_ms: int) -> bool:
        """Open the breaker, or open it again after a trial that failed."""
        ...

    def begin_trial(self, executor: int, consumer: int, epoch: int, trial_ms: int) -> bool:
        """Have the executor let one event in, if the pause is over; at most `trial_ms` until another may."""
        ...

    def note_trial(self, consumer: int, epoch: int, workflow_id: str) -> bool:
        """Say which event was let in."""
        ...

    def close_breaker(self, consumer: int, epoch: int) -> bool:
        """Close the breaker after a trial that ended well."""
        ...


class Proofs(Protocol):
    """Proof of delivery: what became of each offset. Slow readers, which hold up nobody."""

    def trace_event(
        self, topic: str, partition: int, offset: int, application: str | None, consumer: str | None
    ) -> list[TracedEvent]:
        """What became of an offset, for each consumer and each incarnation that knows the partition."""
        ...

    def waiting_versions(self, application: str, version: str) -> dict[str, int]:
        """Versions that no live process has, with how many started workflows wait for one, at least."""
        ...

    def unhandled_work(self, application: str | None) -> list[Unhandled]:
        """Functions of waiting work that no live process has, of applications of which a process lives."""
        ...

    def known_topics(self, application: str | None) -> dict[str, list[int]]:
        """Topics with a watermark, and which partitions have one."""
        ...

    def find_gaps(self, question: GapQuestion) -> list[Gap]:
        """Offsets below watermarks without a workflow: those without a reason first."""
        ...


class Orphans(Protocol):
    """Partitions that nobody holds and that have something ready to run (protocol 10)."""

    def orphaned_partitions(
        self, application: str, handlers: Sequence[str], grace_ms: int, executor: int = 0
    ) -> list[Orphan]:
        """Those of the named handlers whose holder has been dead for `grace_ms`."""
        ...

    def take_orphan(self, executor: int, orphan: Orphan) -> Position | None:
        """Become holder under a new epoch; None when somebody was assigned the partition meanwhile."""
        ...

    def orphans_still_held(
        self, executor: int, epochs: Sequence[tuple[tuple[int, int, int], int]]
    ) -> set[tuple[int, int, int]]:
        """Those (consumer, incarnation, partition) that the executor holds under the epoch given for each."""
        ...

    def release_orphan(self, executor: int, key: tuple[int, int, int], epoch: int) -> None:
        """Be holder no more, unless an assignment has taken over already."""
        ...


class Doubts(Protocol):
    """Takings of which it is not known whether they were done (protocol 2)."""

    def lost_takings(self, executor: int, known: Collection[str]) -> list[TakenWorkflow]:
        """What the executor has adopted, claimed or woken, but for the ids that it knows of."""
        ...

    def owned_work(self, executor: int) -> dict[str, int]:
        """The take of each workflow that the executor owns by the database, however it came to own it."""
        ...

    def give_back(self, executor: int, takes: Sequence[tuple[str, int]]) -> list[str]:
        """Own these (id, take) no more, without having run them: they wait as before; gives the ids that were changed.

        What the executor wrote of them before is in their history for whoever takes them next.
        """
        ...


class Quotas(Protocol):
    """Bounded counts of what waits (protocol 10)."""

    def count_held(self, consumer: int, incarnation: int, lane_prefix: str, limit: int) -> int:
        """How many events are held, at most `limit`: in the lane, and in those below it (`3` and `3/key`).

        An empty prefix is all lanes of the incarnation.
        """
        ...
