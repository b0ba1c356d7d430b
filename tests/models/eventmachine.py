"""The machine of `tests/models/machine.py` with events: rules 6, 7, 10 and 11."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import hypothesis.strategies as st

from dbos_events.model.event import Ordering
from dbos_events.model.naming import log_prefix
from dbos_events.model.proof import GapQuestion
from dbos_events.model.quarantine import QuarantineFilter, Redrive
from dbos_events.runtime.encoding import id_prefix
from dbos_events.runtime.intake.shared import LANE
from dbos_events.storage.subjects.intakerows import IntakeBatch, IntakeResult, NewEvent
from dbos_events.storage.subjects.lanes import LanePlace, LaneTaken
from dbos_events.storage.subjects.orphans import Orphan
from dbos_events.storage.subjects.positions import AssignedPosition
from dbos_events.storage.subjects.quarantine import OperatorDecision
from tests.models.acting import act
from tests.models.machine import CRASHES, LOSES, SOME, WHICH, WorkflowMachine
from tests.models.processes import Assigned, Process, Run
from tests.models.state import Watermark
from tests.storage.building import APP, change

PARTITIONS = 2
FIRST = 1000
"""The partitions begin at different offsets, so that no two events of a queue are in the same place."""
FAR = 500
"""No watermark comes so far in an example."""
TOPIC, GROUP, CONSUMER = "orders", "group", "orders"
KEYS = st.sampled_from(["a", "b"])
# What lies before a record, whether the consumer wants it, its key, and whether the process runs it at once.
RECORDS = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 2]), st.sampled_from([True, True, False]), KEYS, st.booleans()),
    min_size=1,
    max_size=4,
)
MOVES = st.lists(RECORDS, min_size=PARTITIONS, max_size=PARTITIONS)
SPOILT = st.sampled_from(["", "", "", "epoch", "ahead", "back", "record"])
REDRIVES = st.sampled_from([Redrive(), Redrive(from_step=2), Redrive(fresh=True), Redrive(value=b"edited")])
DECIDED = OperatorDecision("operator")


class EventMachine(WorkflowMachine):
    """Processes with one consumer, of one way of ordering, on one topic."""

    ordering: ClassVar[Ordering]
    queue: ClassVar[str | None]

    def __init__(self) -> None:
        super().__init__()
        self.consumer = self.storage.consumers.save(APP, CONSUMER, "handle", GROUP, [TOPIC], "{}", "kafka")
        self.incarnation = self.storage.lives.save("cluster", TOPIC, "id-1")
        first = {partition: FIRST * partition for partition in range(PARTITIONS)}
        positions = {partition: (offset, "earliest") for partition, offset in first.items()}
        self.storage.positions.create(self.consumer, self.incarnation, positions)
        for partition, offset in first.items():
            self.model.watermarks[self.place(partition)] = Watermark(offset, offset)
        self.compare()
        for partition in range(PARTITIONS):
            self.assign(partition, [partition])
            self.take_in(
                partition,
                [[(0, True, "a", True), (0, True, "a", False)]] * PARTITIONS,
                "",
                looks=True,
                loses=False,
            )

    def place(self, partition: int) -> tuple[int, int, int]:
        return self.consumer, self.incarnation, partition

    def readers(self) -> list[Process]:
        """Processes that believe to have a partition."""
        return [process for process in self.processes if process.partitions]

    # -- rule 7 -------------------------------------------------------------------------------

    @act(2, which=WHICH, partitions=st.lists(st.integers(0, PARTITIONS - 1), min_size=1, unique=True))
    def assign(self, which: int, partitions: list[int]) -> None:
        """To another process, and whoever had them does not know."""
        process = self.process(which)
        if process.application != APP:
            return
        found = self.ask(
            "assign", process.executor, self.consumer, self.incarnation, partitions, form=_positions
        )
        for one in found or ():
            process.partitions[one.partition] = Assigned(one.epoch, one.next_offset)
        process.intaking = None

    @act(
        8,
        lambda self: self.readers(),
        which=WHICH,
        moves=MOVES,
        spoilt=SPOILT,
        looks=st.booleans(),
        loses=LOSES,
    )
    def take_in(self, which: int, moves: list[Any], spoilt: str, *, looks: bool, loses: bool) -> None:
        readers = self.readers()
        process = readers[which % len(readers)]
        batch = process.intaking or self.batch(process, moves, spoilt, looks=looks)
        result = self.ask("intake", batch)
        process.intaking = batch if loses else None
        if result is not None and not loses:
            self.follow(process, batch, result)

    def batch(self, process: Process, moves: list[Any], spoilt: str, *, looks: bool) -> IntakeBatch:
        """What a process that has these partitions would take in, or, spoilt, what it must not."""
        events: list[NewEvent] = []
        gaps: list[tuple[int, int, int]] = []
        filtered: list[tuple[int, int, int, int]] = []
        targets: dict[int, tuple[int, int, int, int | None]] = {}
        for partition, known in process.partitions.items():
            offset = known.next_offset
            for missing, wanted, key, kept in moves[partition]:
                if missing:
                    gaps.append((partition, offset, offset + missing))
                offset += missing
                if wanted:
                    events.append(self.event(partition, offset, key, kept=kept))
                else:
                    filtered.append((partition, offset, offset + 1, 1))
                offset += 1
            targets[partition] = (known.epoch, known.next_offset, offset, 7)
        if spoilt == "record":
            events = [event._replace(fingerprint=2) for event in events]
        lanes = {event.lane for event in events} - {None}
        return IntakeBatch(
            process.executor, self.consumer, self.incarnation, APP, "handle", process.version, self.queue,
            {partition: _spoil(move, spoilt) for partition, move in targets.items()}, tuple(gaps), tuple(events),
            frozenset(str(lane) for lane in lanes if looks), LANE if self.ordering == "topic" else None,
            tuple(filtered),
        )  # fmt: skip

    def event(self, partition: int, offset: int, key: str, *, kept: bool) -> NewEvent:
        lanes = {"none": None, "partition": str(partition), "key": f"{partition}/{key}", "topic": LANE}
        prefix = id_prefix(log_prefix("kafka", GROUP), TOPIC, self.incarnation, partition)
        lane = lanes[self.ordering]
        return NewEvent(
            f"{prefix}{offset}", partition, offset, key.encode(), b"v", None, 1, 0, 7, None, 1, lane, kept
        )

    def follow(self, process: Process, batch: IntakeBatch, result: IntakeResult) -> None:
        """What the process does with the answer: it reads on, or has lost the partition; and runs what it keeps."""
        for partition in result.stale:
            process.partitions.pop(partition, None)
        halted = {event.partition for event in batch.events if event.workflow_id in result.conflicts}
        for partition in {*batch.moves} - result.stale:
            if partition in halted:
                process.partitions.pop(partition, None)
            elif partition in process.partitions:
                process.partitions[partition].next_offset = batch.moves[partition][2]
        unknown = result.stale | result.repeated | halted
        for event in batch.events:
            fresh = event.partition not in unknown and event.workflow_id not in result.duplicates
            if fresh and self.queue is None and event.kept and event.lane not in result.behind:
                process.runs.append(Run(event.workflow_id, 1, consumer=self.consumer))

    @act(
        1,
        lambda self: self.readers(),
        which=WHICH,
        partition=st.integers(0, PARTITIONS - 1),
        ahead=st.integers(1, 3),
        off=st.booleans(),
    )
    def skip(self, which: int, partition: int, ahead: int, *, off: bool) -> None:
        """Over offsets that retention has taken."""
        readers = self.readers()
        process = readers[which % len(readers)]
        known = process.partitions.get(partition)
        if known is None:
            return
        offsets = (known.next_offset, known.next_offset + ahead)
        epoch = known.epoch - off
        done = self.ask("skip", process.executor, self.place(partition), epoch, offsets, "log start")
        if done:
            known.next_offset += ahead

    @act(1, partition=st.integers(0, PARTITIONS - 1), back=st.integers(1, 4))
    def restore(self, partition: int, back: int) -> None:
        """Somebody sets a watermark back by hand; what was taken in is known all the same."""
        mark = self.model.watermarks[self.place(partition)]
        mark.next_offset = max(mark.first_offset, mark.next_offset - back)
        change(
            self.storage,
            "UPDATE {schema}.watermarks SET next_offset = :offset WHERE partition = :partition",
            offset=mark.next_offset,
            partition=partition,
        )
        self.compare()

    # -- rule 10 ------------------------------------------------------------------------------

    @act(1, which=WHICH)
    def free_lanes(self, which: int) -> None:
        self.ask("free_lanes_of_dead", self.process(which).application)

    @act(
        6,
        lambda self: self.ordering != "none",
        which=WHICH,
        count=SOME,
        limit=CRASHES,
        late=st.sampled_from([False, False, False, True]),
    )
    def take_lanes(self, which: int, count: int, limit: int | None, *, late: bool) -> None:
        process = self.process(which)
        for place, lanes in self.lanes_of(process):
            asked = place._replace(epoch=place.epoch - late)
            taken = self.ask(
                "take_lanes", process.executor, asked, lanes, count, {"handle": limit}, form=_lanes
            )
            if taken is None and not self.model.is_alive(process.executor):
                process.lose_everything()
            for found in (taken or {}).values():
                self.begin(process, found.rows)

    def lanes_of(self, process: Process) -> list[tuple[LanePlace, list[str]]]:
        """The lanes that a process believes to hold."""
        if self.ordering == "topic":
            epoch = process.lane_epoch
            place = LanePlace(self.consumer, self.incarnation, None, epoch or 0, LANE)
            return [] if epoch is None else [(place, [LANE])]
        names = {"partition": ("{}",), "key": ("{}/a", "{}/b")}[self.ordering]
        return [
            (LanePlace(*self.place(partition), known.epoch), [name.format(partition) for name in names])
            for partition, known in process.partitions.items()
        ]

    @act(3, lambda self: self.ordering == "topic", which=WHICH, leaves=st.booleans())
    def hold_lane(self, which: int, *, leaves: bool) -> None:
        process = self.process(which)
        place = (process.executor, self.consumer, self.incarnation, LANE)
        if leaves:
            self.ask("leave_lane", *place)
        else:
            process.lane_epoch = self.ask("hold_lane", *place)

    @act(2, lambda self: self.readers() and self.ordering != "none", which=WHICH)
    def revoke(self, which: int) -> None:
        """Give back what was never started, and what it does not know to have."""
        readers = self.readers()
        process = readers[which % len(readers)]
        process.partitions = {}
        started = {run.id for run in process.runs if run.started}
        rows = self.model.workflows.values()
        ids = [
            row.id
            for row in rows
            if row.lane_open and row.owner == process.executor and row.id not in started
        ]
        process.runs = [run for run in process.runs if run.id not in ids]
        if ids:
            self.ask("release_unstarted", process.executor, ids)

    @act(
        1,
        which=WHICH,
        partition=st.integers(0, PARTITIONS - 1),
        behind=st.integers(0, 1),
        leaves=st.booleans(),
    )
    def sweep(self, which: int, partition: int, behind: int, *, leaves: bool) -> None:
        """A partition without a holder is taken; an assignment wins over it."""
        process = self.process(which)
        epoch = self.model.watermarks[self.place(partition)].epoch - behind
        if leaves:
            self.ask("release_orphan", process.executor, self.place(partition), epoch)
            return
        orphan = Orphan(self.consumer, CONSUMER, "handle", TOPIC, self.incarnation, partition, epoch)
        found = self.ask("take_orphan", process.executor, orphan, form=_standing)
        if found is not None:
            process.partitions[partition] = Assigned(found.epoch, found.next_offset)

    # -- rules 6 and 11 -----------------------------------------------------------------------

    @act(3, lambda self: self.model.quarantine, which=st.lists(WHICH, min_size=1, max_size=2), order=REDRIVES)
    def redrive(self, which: list[int], order: Redrive) -> None:
        self.ask("redrive", self.put_aside(which), order, DECIDED, form=sorted)

    @act(2, lambda self: self.model.quarantine, which=st.lists(WHICH, min_size=1, max_size=2))
    def discard(self, which: list[int]) -> None:
        self.ask("discard", self.put_aside(which), DECIDED, form=sorted)

    def put_aside(self, which: Sequence[int]) -> list[str]:
        """Events that wait for a decision, and now and then one that does not any more."""
        waiting = [row.id for row in self.model.waiting(self.model.quarantine)]
        known = waiting or list(self.model.quarantine)
        return sorted({known[one % len(known)] for one in which})

    # -- looking ------------------------------------------------------------------------------

    @act(2, which=WHICH, count=SOME)
    def look_at_events(self, which: int, count: int) -> None:
        process = self.process(which)
        here = (self.consumer, self.incarnation)
        names = [str(one) for one in range(PARTITIONS)] + ["0/a", "0/b", "1/a", "1/b", LANE]
        self.ask("ready_lanes", process.executor, self.consumer, 99, form=sorted)
        self.ask("lanes_after", *here, "", "~", count)
        self.ask("owned_entries", process.executor, *here, names, form=sorted)
        for name in names[:3]:
            self.ask("count_open", *here, name, count)
            self.ask("count_held", *here, name, count)
        listed = {one.partition: one for one in self.storage.positions.read(APP)}
        for partition, counts in self.model.partitions(*here).items():
            row = listed[partition]
            assert (row.in_flight, row.held, row.quarantined, row.filtered) == counts
        waiting = sorted(row.id for row in self.model.waiting(self.model.quarantine))
        aside = self.storage.quarantine.find(QuarantineFilter())
        assert waiting == sorted(one.workflow_id for one in aside), "put aside, and yet not to decide about"
        assert self.storage.proofs.find_gaps(GapQuestion(APP, TOPIC, stated=False)) == []


def _spoil(move: tuple[int, int, int, int | None], how: str) -> tuple[int, int, int, int | None]:
    epoch, expected, target, leader = move
    if how == "epoch":
        return epoch - 1, expected, target, leader
    if how == "ahead":
        return epoch, expected + FAR, target + FAR, leader
    return epoch, expected, expected - 1 if how == "back" else target, leader


def _positions(found: Sequence[AssignedPosition]) -> list[tuple[int, int, int]]:
    return [(one.partition, one.epoch, one.next_offset) for one in found]


def _standing(found: AssignedPosition | None) -> tuple[int, int] | None:
    return None if found is None else (found.epoch, found.next_offset)


def _lanes(found: dict[str, LaneTaken] | None) -> Any:
    return found
