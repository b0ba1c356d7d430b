"""The contract between a source of events and the core.

A **source** receives records, in order within each partition, from where the core tells it to
start. The core's **intake** makes them durable and starts their workflows. The source
acknowledges to the outside (commits an offset) only what `take_in` has returned for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from dbos_events.model.dataclass import dataclass
from dbos_events.model.event import ConsumerOptions
from dbos_events.model.topic import TopicHistory


class Record(NamedTuple):
    """One record as it was received; bytes are kept as they are.

    `unreadable` says which fields the source could not read, and why; they are None, or 0, then. Such a record is taken
    in, and its handler is not called. `size` is the sum of the bytes of key, value and headers, as far as the source
    has counted them.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | None
    timestamp_type: int
    timestamp: int
    leader_epoch: int | None
    latency: float | None
    unreadable: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading of a partition begins, and why there.

    A `halted` one is not read until an operator has decided. `witness` is the offset of the last record that
    was taken in: read from there, so that the intake sees whether the log is still the same one.
    `regression` is the committed offset that was found ahead of the watermark before.
    """

    partition: int
    next_offset: int
    leader_epoch: int | None
    reason: str
    halted: str | None = None
    regression: int | None = None
    witness: int | None = None


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of a batch: durable up to `next_offsets`.

    `stale` partitions belong to another process by now: drop what is buffered of them, and prove
    by a synchronous commit that they are still yours before assigning them again. `halted`
    partitions must not be read on; the reason was logged and shows in the status. Of `refused` ones
    the database has not taken all, for a reason that may be one record's: position them anew, there is
    no room for them for a while.
    """

    next_offsets: Mapping[int, int]
    stale: frozenset[int] = frozenset()
    halted: Mapping[int, str] | None = None
    refused: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """What the status shows of a partition beyond its watermark.

    `reached` is how far the log was read, what is no record (the marker of a transaction) included.
    """

    partition: int
    end_offset: int | None
    state: str
    detail: str | None = None
    reached: int | None = None


class PositionBook(Protocol):
    """Where a consumer stands in its topics: the part of the intake that writes positions down."""

    def identify(self, cluster_id: str, topic: str, topic_id: str) -> int:
        """The number of this life of the topic (its incarnation).

        Raises:
            StaleTopic: The id belongs to a life that is over: ask again.
            ClusterChanged: The consumer has read another cluster, and nobody has decided about this one.
            RegistrationError: Another consumer of the group subscribes to the topic as well.
        """
        ...

    def branches(self, incarnation: int) -> Mapping[int, int]:
        """The partitions that have left this life for a branch of it, with the number of the branch."""
        ...

    def history(self, topic: str) -> TopicHistory:
        """What the consumer has to do with the topic already."""
        ...

    def registered(self) -> frozenset[str]:
        """The topics and patterns that the consumer has registered for."""
        ...

    def register(self, subscription: str) -> None:
        """All that exists of a topic or pattern has its positions; what comes later begins at its first record."""
        ...

    def known_partitions(self, incarnation: int) -> frozenset[int]:
        """The partitions that have a watermark already."""
        ...

    def begin(
        self,
        incarnation: int,
        positions: Mapping[int, tuple[int, str]],
        gate: Mapping[int, int] | None = None,
    ) -> None:
        """Write first positions (offset, reason), before the first fetch; existing ones stay.

        With a `gate`, the partitions wait until all below these offsets of other partitions has finished.
        """
        ...

    def assign(self, incarnation: int, topic: str, partitions: Collection[int]) -> list[Position]:
        """Become holder of these partitions; reading starts at the returned positions."""
        ...

    def skip(self, incarnation: int, partition: int, offset: int, alarm: str) -> bool:
        """Go on at `offset`, where the log begins; a gap is recorded. False when the assignment is fenced."""
        ...

    def halt(self, incarnation: int, partition: int, reason: str, divergence: int | None) -> None:
        """Read a partition no more, here and elsewhere, until an operator has decided."""
        ...

    def halted(self, incarnation: int) -> frozenset[int]:
        """The partitions that wait for a decision."""
        ...

    def alarm(self, incarnation: int, partition: int, text: str, regression: int | None = None) -> None:
        """Show something in the status until somebody has read it."""
        ...

    def unfinished(self, incarnation: int) -> Mapping[int, frozenset[int]]:
        """Lives and branches of the same topic that are over, with the partitions that hold ordered events still.

        Assign those too, without reading: whoever holds the topic's partitions finishes what was taken in.
        """
        ...


class Intake(PositionBook, Protocol):
    """The core's side for one consumer.

    All methods may block for as long as the database is down: call them from a thread that does
    not poll. They raise `ExecutorFenced` when this process lost its lease (it gets a new one;
    assign again) and `DBOSException` when the App stops.
    """

    @property
    def options(self) -> ConsumerOptions: ...

    @property
    def default_group(self) -> str:
        """A group id for a consumer that was given none; it depends on names alone, not on topics."""
        ...

    @property
    def session(self) -> int:
        """Changes when this process had to register anew: assign all partitions again."""
        ...

    def open(self, group: str, topics: Sequence[str], settings: Mapping[str, str]) -> None:
        """Register the consumer.

        Raises:
            RegistrationError: Its group changed, or another consumer reads the topic in the same group.
        """
        ...

    def revoke(self, incarnation: int, partitions: Collection[int]) -> None:
        """Give partitions up: what has not started is released, what runs goes on."""
        ...

    def lose(self, incarnation: int, partitions: Collection[int]) -> None:
        """Forget partitions that another member may have already; writes nothing."""
        ...

    @property
    def free(self) -> int:
        """How many more records may be taken in now, over all partitions."""
        ...

    def room(self, incarnation: int, partition: int) -> int:
        """How many of them one partition may take up; never blocks."""
        ...

    def wait_for_room(self, seconds: float) -> None:
        """Wait until a place may have become free, at most `seconds`."""
        ...

    def take_in(self, incarnation: int, records: Sequence[Record]) -> TakenIn:
        """Make records durable and start their workflows, exactly once each.

        Records below a partition's position are ignored; a jump is noted as a gap. So the source leaves nothing out:
        what it gives of a partition is all that the outside has handed out since the position where reading began.
        When it has dropped anything, it assigns the partition again, and reads on from there.
        """
        ...

    def fenced(self, incarnation: int) -> frozenset[int]:
        """Assigned partitions of which is known, without an intake, that they were assigned elsewhere."""
        ...

    def report(self, incarnation: int, reports: Sequence[PartitionReport]) -> None:
        """Store what the status shows."""
        ...

    def report_source(self, state: str, detail: str | None) -> None:
        """Store what the status shows of this process while it has no partition."""
        ...


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """How a source does.

    `live` is false when its own threads have stopped working; a server that is down does not make
    it so. `ready` says whether it has started reading; `detail` what it waits for.
    """

    live: bool
    ready: bool
    detail: str


class Source(Protocol):
    """An instance that receives for one consumer."""

    @property
    def name(self) -> str: ...

    def start(self) -> None:
        """Begin to receive, in threads of its own; never raises because a server is down."""
        ...

    def pause(self) -> None:
        """Receive no more, keep the membership; what was taken in goes on."""
        ...

    def stop(self, seconds: float) -> None:
        """Finish the intake under way, acknowledge it, leave; at most `seconds`."""
        ...

    def health(self) -> SourceHealth: ...
