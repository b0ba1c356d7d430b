"""What the engine and the services ask of a database: `storage.<subject>.<method>(...)`.

Each subject is a file of `dbos_events/storage/subjects/`, with its contract, its row types and its implementation.
Every method is one transaction. Each raises `StorageUnavailable` when the server does not answer
or asked to try again (the caller repeats), and `StorageError` for all else. What becomes of a
transaction whose commit answer was lost is said where it matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dbos_events.storage.apart import Apart
from dbos_events.storage.subjects.attributes import Attributes
from dbos_events.storage.subjects.breakers import Breakers
from dbos_events.storage.subjects.callbacks import Callbacks
from dbos_events.storage.subjects.consumers import Consumers
from dbos_events.storage.subjects.debounces import Debounces
from dbos_events.storage.subjects.decisions import Decisions
from dbos_events.storage.subjects.endings import Endings
from dbos_events.storage.subjects.executors import Executors
from dbos_events.storage.subjects.generations import Generations
from dbos_events.storage.subjects.inbox import Inboxes
from dbos_events.storage.subjects.intake import Intakes
from dbos_events.storage.subjects.lanes import Lanes
from dbos_events.storage.subjects.lives import Lives
from dbos_events.storage.subjects.messages import Messages
from dbos_events.storage.subjects.orphans import Orphans
from dbos_events.storage.subjects.outside import Outside
from dbos_events.storage.subjects.parking import Parking
from dbos_events.storage.subjects.positions import Positions
from dbos_events.storage.subjects.processes import Processes
from dbos_events.storage.subjects.proofs import Proofs
from dbos_events.storage.subjects.publications import Publications
from dbos_events.storage.subjects.quarantine import Quarantines
from dbos_events.storage.subjects.queues import Queues
from dbos_events.storage.subjects.schedules import Schedules
from dbos_events.storage.subjects.sources import Sources
from dbos_events.storage.subjects.streams import Streams
from dbos_events.storage.subjects.subscriptions import Subscriptions
from dbos_events.storage.subjects.taking import Takings
from dbos_events.storage.subjects.unhandled import UnhandledWork
from dbos_events.storage.subjects.values import PublishedValues
from dbos_events.storage.subjects.workflows import Workflows
from dbos_events.storage.writes.contract import Batches


class Storage(Batches, Protocol):
    """A database with our schema in it: its subjects, the batches of the committer, and what concerns it as a whole.

    `apart` are the workflows that cannot be taken up now, whatever their reason is.
    """

    apart: Apart
    executors: Executors
    workflows: Workflows
    generations: Generations
    taking: Takings
    consumers: Consumers
    subscriptions: Subscriptions
    sources: Sources
    breakers: Breakers
    lives: Lives
    positions: Positions
    decisions: Decisions
    intake: Intakes
    lanes: Lanes
    orphans: Orphans
    quarantine: Quarantines
    proofs: Proofs
    unhandled: UnhandledWork
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
    inbox: Inboxes
    schedules: Schedules
    endings: Endings
    outside: Outside

    @property
    def name(self) -> str:
        """`postgres` or `sqlite`."""
        ...

    def now_ms(self, looks: int = 1) -> int:
        """The database's clock, after so many looks at it within one transaction: the quickest answer says most."""
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

    def close(self) -> None:
        """Close all connections."""
        ...
