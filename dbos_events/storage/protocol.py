"""What the engine and the services ask of a database.

Every method is one transaction. Each raises `StorageUnavailable` when the server does not answer
or asked to try again (the caller repeats), and `StorageError` for all else. What becomes of a
transaction whose commit answer was lost is said where it matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dbos_events.model.consumer import PartitionState, SourceRow
from dbos_events.model.quarantine import QuarantineCount, QuarantinedEvent, QuarantineFilter, Redrive
from dbos_events.storage.lives import Lives
from dbos_events.storage.operating import Doubts, Orphans, Proofs, Quotas, Standing
from dbos_events.storage.owning import Executors, Workflows
from dbos_events.storage.quarantined import Decided, StoredQuarantine
from dbos_events.storage.rows import (
    IntakeBatch,
    IntakeResult,
    LanePlace,
    LaneTaken,
    Position,
    StoredEvent,
)
from dbos_events.storage.subjects.attributes import Attributes
from dbos_events.storage.subjects.callbacks import Callbacks
from dbos_events.storage.subjects.debounces import Debounces
from dbos_events.storage.subjects.endings import Endings
from dbos_events.storage.subjects.inbox import Inboxes
from dbos_events.storage.subjects.messages import Messages
from dbos_events.storage.subjects.outside import Outside
from dbos_events.storage.subjects.parking import Parking
from dbos_events.storage.subjects.processes import Processes
from dbos_events.storage.subjects.publications import Publications
from dbos_events.storage.subjects.queues import Queues
from dbos_events.storage.subjects.schedules import Schedules
from dbos_events.storage.subjects.streams import Streams
from dbos_events.storage.subjects.values import PublishedValues
from dbos_events.storage.writes.contract import Batches


class Consumers(Protocol):
    """Consumers as they are known (protocol 9)."""

    def save_consumer(
        self,
        application: str,
        name: str,
        handler: str,
        group: str,
        topics: Sequence[str],
        settings: str,
        connector: str | None = None,
    ) -> int:
        """Register a consumer of a log; gives its number. The ids of its events begin with the connector's name.

        Raises `RegistrationError` when its group changed, or another consumer of the application
        reads one of the topics in the same group.
        """
        ...

    def consumer_numbers(self, application: str) -> dict[str, int]:
        """The consumers of an application, by name."""
        ...


class Positions(Protocol):
    """Incarnations, watermarks and their holders (protocol 7 and 8)."""

    def save_incarnation(self, cluster_id: str, topic: str, topic_id: str) -> int:
        """The number of this life of a topic, new if need be."""
        ...

    def known_partitions(self, consumer: int, incarnation: int) -> frozenset[int]:
        """The partitions of the incarnation that have a watermark."""
        ...

    def create_watermarks(
        self,
        consumer: int,
        incarnation: int,
        positions: Mapping[int, tuple[int, str]],
        gate: Mapping[int, int] | None = None,
    ) -> None:
        """Write first positions (offset, reason); what is there already stays.

        Behind a `gate` (offsets of other partitions) nothing is taken in before what lies below it has freed its lane.
        """
        ...

    def gate_holds(self, consumer: int, incarnation: int, gate: Mapping[int, int]) -> bool:
        """Whether something below the gate was not taken in yet, or holds its lane."""
        ...

    def open_gate(self, consumer: int, incarnation: int, partition: int, epoch: int) -> None:
        """Nothing is before the partition any more."""
        ...

    def assign(
        self, executor: int, consumer: int, incarnation: int, partitions: Sequence[int]
    ) -> list[Position]:
        """Become holder of the partitions under a new epoch each."""
        ...

    def report_partitions(self, executor: int, consumer: int, reports: Sequence[tuple[Any, ...]]) -> None:
        """Store (incarnation, partition, end offset, state, detail) for the status.

        A sixth value says how far the log was read, what is no record included.
        """
        ...

    def list_partitions(self, application: str | None) -> list[PartitionState]:
        """Every partition that a consumer has a watermark for."""
        ...


class Sources(Protocol):
    """What each process says of its consumers."""

    def report_source(self, executor: int, consumer: int, state: str, detail: str | None) -> None:
        """Store it for the status, in place of what this executor said before."""
        ...

    def consumer_settings(self, application: str | None) -> dict[tuple[str, str], dict[str, str]]:
        """What each consumer, by application and name, was last launched with; secrets are masked."""
        ...

    def list_idle_sources(self, application: str | None) -> list[SourceRow]:
        """Of processes that are alive and hold no partition of the consumer.

        A consumer that never read anything and that no live process has is one row, without a process.
        """
        ...


class Intakes(Protocol):
    """Events and the workflows they start (protocol 7)."""

    def intake(self, batch: IntakeBatch) -> IntakeResult:
        """Move watermarks and insert the events' workflows in one transaction (promise P1).

        Safe to repeat after a lost commit answer. Raises `ExecutorFenced` when the executor is dead.
        """
        ...

    def read_events(self, workflow_ids: Sequence[str]) -> dict[str, StoredEvent]:
        """The stored events of these workflows."""
        ...


class Lanes(Protocol):
    """Events that must run in order (protocol 10)."""

    def take_lanes(
        self,
        executor: int,
        place: LanePlace,
        lanes: Sequence[str],
        count: int,
        limits: Mapping[str, int | None],
    ) -> dict[str, LaneTaken] | None:
        """Take up to `count` events of each lane, from its head on, as far as nobody runs them and none sleeps.

        None when another process has become the holder. `limits` names the functions that may be taken; a
        head that crashed more often than its limit is ended and put aside instead.
        """
        ...

    def ready_lanes(
        self, executor: int, consumer: int, count: int, after: tuple[int, str] = (0, "")
    ) -> list[tuple[int, int, str]]:
        """Lanes (incarnation, partition, name), held by this executor, in which an event became ready.

        The first `count` after (incarnation, name), in this order. Whoever asks goes on where it stopped: what
        becomes ready before that place again and again keeps nothing waiting that lies behind it.
        """
        ...

    def lanes_after(
        self, consumer: int, incarnation: int, after: str, before: str, count: int
    ) -> list[tuple[str, bool]]:
        """The next `count` lanes, by name, between two names, that an event still holds.

        With each, whether its head may go on; else it is put aside, or sleeps.
        """
        ...

    def owned_entries(
        self, executor: int, consumer: int, incarnation: int, lanes: Sequence[str]
    ) -> list[tuple[str, str]]:
        """What this executor owns in these lanes: id and lane of each."""
        ...

    def release_unstarted(self, executor: int, workflow_ids: Sequence[str]) -> None:
        """Give ordered events back that were never started here."""
        ...

    def hold_lane(self, executor: int, consumer: int, incarnation: int, lane: str) -> int | None:
        """Become the holder of a lane over several partitions; gives its epoch, None while another holds it."""
        ...

    def leave_lane(self, executor: int, consumer: int, incarnation: int, lane: str) -> None:
        """Hold it no more."""
        ...

    def count_open(self, consumer: int, incarnation: int, lane: str, limit: int) -> int:
        """How many events still hold a lane, counted up to `limit`."""
        ...


class Quarantines(Protocol):
    """Events that were put aside, and what is decided about them (protocol 6 and 11)."""

    def list_quarantined(self, criteria: QuarantineFilter) -> list[QuarantinedEvent]:
        """Those that fit, in the order in which they were put aside."""
        ...

    def count_quarantined(self, criteria: QuarantineFilter) -> list[QuarantineCount]:
        """How many events fit by consumer, reason and class of the error, the most first; the limit does not count."""
        ...

    def read_quarantined(self, workflow_id: str) -> StoredQuarantine | None:
        """All that is known of one event that was put aside; None when it never was."""
        ...

    def redrive(self, workflow_ids: Sequence[str], order: Redrive, decision: Decided) -> list[str]:
        """Begin a new generation of events in quarantine; gives the ids that were changed.

        What a process runs under an older token, alive or not, is taken from it before the history is read.
        """
        ...

    def discard(self, workflow_ids: Sequence[str], decision: Decided) -> list[str]:
        """Give events in quarantine up, and let their lanes go on; gives the ids that were changed."""
        ...


class Storage(
    Executors,
    Batches,
    Workflows,
    Consumers,
    Positions,
    Sources,
    Intakes,
    Lanes,
    Quarantines,
    Lives,
    Standing,
    Proofs,
    Orphans,
    Doubts,
    Quotas,
    Protocol,
):
    """A database with our schema in it; newer subjects are attributes of it."""

    messages: Messages
    publications: Publications
    parking: Parking
    callbacks: Callbacks
    values: PublishedValues
    streams: Streams
    processes: Processes
    queues: Queues
    attributes: Attributes
    debounces: Debounces
    outside: Outside

    @property
    def inbox(self) -> Inboxes:
        """Events that are pushed."""
        ...

    @property
    def schedules(self) -> Schedules:
        """Schedules, and what became of their ticks."""
        ...

    @property
    def name(self) -> str:
        """`postgres` or `sqlite`."""
        ...

    def now_ms(self) -> int:
        """The database's clock."""
        ...

    def listen(self, on_signal: Callable[[str], object]) -> Callable[[], None] | None:
        """Have `on_signal` called with a channel when another process notified it.

        Gives a function that ends it, or None where the database cannot (then polls are enough).
        """
        ...

    def notify(self, channels: Sequence[str]) -> None:
        """Wake those who listen in other processes; never on the path of a write."""
        ...

    def notify_within(self, connection: Any, channels: Sequence[str]) -> None:
        """As `notify`, when the transaction of this SQLAlchemy connection commits."""
        ...

    @property
    def endings(self) -> Endings:
        """Deadlines, and trees that are cancelled."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
