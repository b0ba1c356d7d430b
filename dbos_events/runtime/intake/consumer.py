"""The core's side of one consumer: positions, intake, and the places that its runs take up."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

from dbos_events.connect.source import PartitionReport, Position, Record, TakenIn
from dbos_events.engine.core import Core
from dbos_events.engine.registry import Registered
from dbos_events.engine.run import EventOrigin, Run
from dbos_events.model.event import ConsumerOptions, KafkaMessage
from dbos_events.runtime.intake.batch import Assignment, Intaking, form_batch
from dbos_events.runtime.intake.lanes import Lane, LaneService
from dbos_events.runtime.taken import Taken
from dbos_events.storage.rows import IntakeResult
from dbos_events.telemetry.log import logger

R = TypeVar("R")


class _Conflict(NamedTuple):
    """A record that is not the one which was taken in under its id."""

    workflow_id: str
    offset: int

    @property
    def reason(self) -> str:
        return (
            f"offset {self.offset} holds another record than the one that was taken in as {self.workflow_id}: "
            "the topic was truncated or replaced, or the database restored"
        )


class ConsumerIntake:
    """Takes in what one source receives. All methods but `left` and `room` belong to its intake thread."""

    def __init__(
        self, core: Core, taken: Taken, function: Registered, options: ConsumerOptions, lanes: LaneService
    ) -> None:
        self._core = core
        self._taken = taken
        self._function = function
        self._lanes = lanes
        self._group = ""
        self._number = 0
        self._assignments: dict[tuple[int, int], Assignment] = {}
        self._in_flight = 0
        self._places = threading.Condition()
        self.options = options

    # -- the consumer and its positions -------------------------------------------------------

    @property
    def default_group(self) -> str:
        return f"{self._core.application}.{self.options.name}"

    @property
    def session(self) -> int:
        return self._core.executor

    @property
    def in_flight(self) -> int:
        """Events that this process has taken in and not finished."""
        return self._in_flight

    @property
    def max_crashes(self) -> int | None:
        return self._function.max_recovery_attempts

    def open(self, group: str, topics: Sequence[str], settings: Mapping[str, str]) -> None:
        self._group = group
        self._number = self._ask(
            lambda: self._core.storage.save_consumer(
                self._core.application,
                self.options.name,
                self._function.name,
                group,
                topics,
                json.dumps(dict(settings), sort_keys=True),
            )
        )
        self._taken.quarantines[self._number] = self.options.on_failure == "quarantine"

    def identify(self, cluster_id: str, topic: str, topic_id: str) -> int:
        return self._ask(lambda: self._core.storage.save_incarnation(cluster_id, topic, topic_id))

    def known_partitions(self, incarnation: int) -> frozenset[int]:
        return self._ask(lambda: self._core.storage.known_partitions(self._number, incarnation))

    def begin(self, incarnation: int, positions: Mapping[int, tuple[int, str]]) -> None:
        self._ask(lambda: self._core.storage.create_watermarks(self._number, incarnation, positions))

    def assign(self, incarnation: int, topic: str, partitions: Collection[int]) -> list[Position]:
        executor = self._core.executor
        found = self._ask(
            lambda: self._core.storage.assign(executor, self._number, incarnation, sorted(partitions))
        )
        for position in found:
            self._forget(incarnation, position.partition)
            lane = None
            if self.options.ordering == "partition":
                lane = self._lanes.open(
                    self._number, incarnation, position.partition, position.next_offset, self
                )
            self._assignments[incarnation, position.partition] = Assignment(
                self._group,
                topic,
                incarnation,
                position.partition,
                position.epoch,
                position.next_offset,
                lane,
            )
        return [Position(row.partition, row.next_offset, row.leader_epoch, row.reason) for row in found]

    def revoke(self, incarnation: int, partitions: Collection[int]) -> None:
        for partition in partitions:
            assignment = self._assignments.pop((incarnation, partition), None)
            if assignment is not None and assignment.lane is not None:
                unstarted = assignment.lane.close()
                self.give_back(len(unstarted))
                self._release([run.id for run in unstarted])

    def lose(self, incarnation: int, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._forget(incarnation, partition)

    def report(self, incarnation: int, reports: Sequence[PartitionReport]) -> None:
        rows = [(incarnation, row.partition, row.end_offset, row.state, row.detail) for row in reports]
        self._core.storage.report_partitions(self._core.executor, self._number, rows)

    def report_source(self, state: str, detail: str | None) -> None:
        self._core.storage.report_source(self._core.executor, self._number, state, detail)

    def _forget(self, incarnation: int, partition: int) -> None:
        """Drop an assignment without writing: what was not started, the next holder takes up.

        Rows that we own but never started are released as well; that is a fenced write of our own
        rows and harms nobody.
        """
        self.revoke(incarnation, [partition])

    def _release(self, workflow_ids: list[str]) -> None:
        if workflow_ids:
            executor = self._core.executor
            self._ask(lambda: self._core.storage.release_unstarted(executor, workflow_ids))

    # -- places -------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        if self.options.queue_name is not None:
            return self.options.batch_size
        return self.options.max_in_flight - self._in_flight

    def room(self, incarnation: int, partition: int) -> int:
        assignment = self._assignments.get((incarnation, partition))
        if assignment is None or assignment.lane is None:
            return self.free
        share = max(1, self.options.max_in_flight // max(1, len(self._assignments)))
        return share - assignment.lane.size

    def wait_for_room(self, seconds: float) -> None:
        with self._places:
            ordered = self.options.ordering != "none"
            if ordered or self._in_flight > self.options.max_in_flight // 2:
                self._places.wait(seconds)

    def left(self, run: Run) -> None:
        """One of our runs has left this process; called on the committer's thread."""
        self.give_back(1)

    def occupy(self, count: int) -> None:
        with self._places:
            self._in_flight += count

    def give_back(self, count: int) -> None:
        with self._places:
            self._in_flight -= count
            if self._in_flight <= self.options.max_in_flight // 2:
                self._places.notify_all()

    # -- intake -------------------------------------------------------------------------------

    def take_in(self, incarnation: int, records: Sequence[Record]) -> TakenIn:
        intaking = Intaking(
            self._core.executor,
            self._number,
            incarnation,
            self._core.application,
            self._function.name,
            self._core.version,
            self.options.queue_name,
        )
        formed = form_batch(intaking, self._assignments, records)
        if not formed.batch.moves:
            return TakenIn({})
        result = self._ask(lambda: self._core.storage.intake(formed.batch))
        return self._taken_in(incarnation, formed.records, formed.batch.moves, result)

    def _taken_in(
        self,
        incarnation: int,
        records: Sequence[tuple[str, Record]],
        moves: Mapping[int, tuple[int, int, int, int | None]],
        result: IntakeResult,
    ) -> TakenIn:
        for partition in result.stale:
            logger.info("%s: partition %d was assigned elsewhere.", self.options.name, partition)
            self._forget(incarnation, partition)
        halted = self._conflicts(records, result)
        following = {}
        for partition, (_, _, target, _) in moves.items():
            if partition not in result.stale:
                following[partition] = halted[partition].offset if partition in halted else target
                self._assignments[incarnation, partition].next_offset = following[partition]
        fresh = [
            (workflow_id, record)
            for workflow_id, record in records
            if record.offset < following.get(record.partition, 0) and workflow_id not in result.duplicates
        ]
        if self.options.queue_name is None:
            self._dispatch(incarnation, fresh)
        else:
            self._core.hub.signal("queues")
        reasons = {partition: conflict.reason for partition, conflict in halted.items()}
        return TakenIn(following, result.stale, reasons or None)

    def _conflicts(self, records: Sequence[tuple[str, Record]], result: IntakeResult) -> dict[int, _Conflict]:
        """The first conflict of each partition: nothing was taken in from there on."""
        halted: dict[int, _Conflict] = {}
        for workflow_id, record in records:
            if workflow_id in result.conflicts and record.partition not in halted:
                conflict = _Conflict(workflow_id, record.offset)
                halted[record.partition] = conflict
                logger.error(
                    "%s: partition %d is halted: %s.", self.options.name, record.partition, conflict.reason
                )
        return halted

    def _dispatch(self, incarnation: int, records: Sequence[tuple[str, Record]]) -> None:
        runs: dict[Lane | None, list[Run]] = {}
        quarantines = self.options.on_failure == "quarantine"
        origins = {lane: EventOrigin(self._number, quarantines, holds_lane=lane) for lane in (False, True)}
        for workflow_id, record in records:
            assignment = self._assignments[incarnation, record.partition]
            run = Run(self._core, workflow_id, self._function, (_message(assignment.topic, record),), {})
            run.origin = origins[assignment.lane is not None]
            run.host = assignment.lane or self
            runs.setdefault(assignment.lane, []).append(run)
        self.occupy(len(records))
        for lane, lane_runs in runs.items():
            if lane is None:
                self._core.runner.submit(lane_runs)
            else:
                lane.extend(lane_runs)

    def _ask(self, work: Callable[[], R]) -> R:
        self._core.refuse_when_stopped()
        return self._core.ask(work)


def _message(topic: str, record: Record) -> KafkaMessage[bytes | None]:
    return KafkaMessage(
        None if record.headers is None else list(record.headers),
        record.key,
        record.latency,
        record.leader_epoch,
        record.offset,
        record.partition,
        (record.timestamp_type, record.timestamp),
        topic,
        record.value,
    )
