"""The storage protocol on SQL: the families put together over one database."""

from __future__ import annotations

from dbos_events.storage.database import Database
from dbos_events.storage.families.batches import BatchTable
from dbos_events.storage.families.consumers import ConsumerTable
from dbos_events.storage.families.decisions import DecisionTable
from dbos_events.storage.families.executors import ExecutorTable
from dbos_events.storage.families.generations import GenerationTable
from dbos_events.storage.families.intake import IntakeTable
from dbos_events.storage.families.lanes import LaneTable
from dbos_events.storage.families.lives import LifeTable
from dbos_events.storage.families.orphans import OrphanTable
from dbos_events.storage.families.positions import PositionTable
from dbos_events.storage.families.proofs import ProofTable
from dbos_events.storage.families.quarantine import QuarantineTable
from dbos_events.storage.families.quotas import QuotaTable
from dbos_events.storage.families.sources import SourceTable
from dbos_events.storage.families.standing import StandingTable
from dbos_events.storage.families.taking import TakingTable
from dbos_events.storage.families.unhandled import UnhandledTable
from dbos_events.storage.families.workflows import WorkflowTable
from dbos_events.storage.subjects.attributes import Attributes, AttributeTable
from dbos_events.storage.subjects.callbacks import Callbacks, CallbackTable
from dbos_events.storage.subjects.debounces import Debounces, DebounceTable
from dbos_events.storage.subjects.endings import EndingTable
from dbos_events.storage.subjects.inbox import InboxTable
from dbos_events.storage.subjects.messages import Messages, MessageTable
from dbos_events.storage.subjects.outside import Outside, OutsideTable
from dbos_events.storage.subjects.parking import Parking, ParkingTable
from dbos_events.storage.subjects.processes import Processes, ProcessesTable
from dbos_events.storage.subjects.publications import Publications, PublicationTable
from dbos_events.storage.subjects.queues import Queues, QueueTable
from dbos_events.storage.subjects.schedules import ScheduleTable
from dbos_events.storage.subjects.streams import Streams, StreamTable
from dbos_events.storage.subjects.values import PublishedValues, PublishedValueTable


class SqlStorage(
    ExecutorTable,
    BatchTable,
    TakingTable,
    WorkflowTable,
    ConsumerTable,
    PositionTable,
    SourceTable,
    IntakeTable,
    LaneTable,
    StandingTable,
    ProofTable,
    OrphanTable,
    QuotaTable,
    UnhandledTable,
    GenerationTable,
    QuarantineTable,
    LifeTable,
    DecisionTable,
):
    """Everything that is the same on PostgreSQL and SQLite."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.database = database
        self.processes: Processes = ProcessesTable(database)
        self.queues: Queues = QueueTable(database)
        self.attributes: Attributes = AttributeTable(database)
        self.debounces: Debounces = DebounceTable(database)
        self.values: PublishedValues = PublishedValueTable(database)
        self.streams: Streams = StreamTable(database)
        self.messages: Messages = MessageTable(database)
        self.publications: Publications = PublicationTable(database)
        self.parking: Parking = ParkingTable(database)
        self.callbacks: Callbacks = CallbackTable(database)
        self.inbox = InboxTable(database)
        self.schedules = ScheduleTable(database)
        self.endings = EndingTable(database)
        self.outside: Outside = OutsideTable(database)

    @property
    def name(self) -> str:
        return self.database.dialect.name

    def close(self) -> None:
        self.database.close()
