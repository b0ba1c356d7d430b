"""The storage protocol on SQL: its subjects put together over one database."""

from __future__ import annotations

from dbos_events.clock import elapsed_ns
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.subjects.attributes import Attributes, AttributeTable
from dbos_events.storage.subjects.batches import BatchTable
from dbos_events.storage.subjects.breakers import Breakers, BreakerTable
from dbos_events.storage.subjects.callbacks import Callbacks, CallbackTable
from dbos_events.storage.subjects.consumers import Consumers, ConsumerTable
from dbos_events.storage.subjects.debounces import Debounces, DebounceTable
from dbos_events.storage.subjects.decisions import Decisions, DecisionTable
from dbos_events.storage.subjects.endings import Endings, EndingTable
from dbos_events.storage.subjects.executors import Executors, ExecutorTable
from dbos_events.storage.subjects.generations import Generations, GenerationTable
from dbos_events.storage.subjects.inbox import Inboxes, InboxTable
from dbos_events.storage.subjects.intake import Intakes, IntakeTable
from dbos_events.storage.subjects.lanes import Lanes, LaneTable
from dbos_events.storage.subjects.lives import LifeTable, Lives
from dbos_events.storage.subjects.messages import Messages, MessageTable
from dbos_events.storage.subjects.orphans import Orphans, OrphanTable
from dbos_events.storage.subjects.outside import Outside, OutsideTable
from dbos_events.storage.subjects.parking import Parking, ParkingTable
from dbos_events.storage.subjects.positions import Positions, PositionTable
from dbos_events.storage.subjects.processes import Processes, ProcessesTable
from dbos_events.storage.subjects.proofs import Proofs, ProofTable
from dbos_events.storage.subjects.publications import Publications, PublicationTable
from dbos_events.storage.subjects.quarantine import Quarantines, QuarantineTable
from dbos_events.storage.subjects.queues import Queues, QueueTable
from dbos_events.storage.subjects.schedules import Schedules, ScheduleTable
from dbos_events.storage.subjects.sources import Sources, SourceTable
from dbos_events.storage.subjects.streams import Streams, StreamTable
from dbos_events.storage.subjects.subscriptions import Subscriptions, SubscriptionTable
from dbos_events.storage.subjects.taking import Takings, TakingTable
from dbos_events.storage.subjects.unhandled import UnhandledTable, UnhandledWork
from dbos_events.storage.subjects.values import PublishedValues, PublishedValueTable
from dbos_events.storage.subjects.workflows import Workflows, WorkflowTable


class SqlStorage(BatchTable):
    """Everything that is the same on PostgreSQL and SQLite."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.database = database
        self.apart = database.apart
        self.executors: Executors = ExecutorTable(database)
        self.workflows: Workflows = WorkflowTable(database)
        self.generations: Generations = GenerationTable(database)
        self.taking: Takings = TakingTable(database)
        self.consumers: Consumers = ConsumerTable(database)
        self.subscriptions: Subscriptions = SubscriptionTable(database)
        self.sources: Sources = SourceTable(database)
        self.breakers: Breakers = BreakerTable(database)
        self.lives: Lives = LifeTable(database)
        self.positions: Positions = PositionTable(database)
        self.decisions: Decisions = DecisionTable(database)
        self.intake: Intakes = IntakeTable(database)
        self.lanes: Lanes = LaneTable(database)
        self.orphans: Orphans = OrphanTable(database)
        self.quarantine: Quarantines = QuarantineTable(database)
        self.proofs: Proofs = ProofTable(database)
        self.unhandled: UnhandledWork = UnhandledTable(database)
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
        self.inbox: Inboxes = InboxTable(database)
        self.schedules: Schedules = ScheduleTable(database)
        self.endings: Endings = EndingTable(database)
        self.outside: Outside = OutsideTable(database)

    @property
    def name(self) -> str:
        return self.database.dialect.name

    def now_ms(self, looks: int = 1) -> int:
        def work(tx: Tx) -> int:
            now = 0
            for _ in range(looks):
                asked = elapsed_ns()
                now = int(tx.run("now")[0].now)
                self.database.told_time(now, asked)
            return now

        return self.database.transact(work)

    def close(self) -> None:
        self.database.close()
