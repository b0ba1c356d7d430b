"""The core's side of one consumer: positions, intake, and the places that its runs take up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress
from typing import NamedTuple

from dbos_events.connect.connector import Connector
from dbos_events.connect.source import PartitionReport, Position, Record, TakenIn
from dbos_events.engine.core import Core
from dbos_events.engine.registry import Registered
from dbos_events.engine.run import Run
from dbos_events.engine.runvalues import EventOrigin
from dbos_events.errors import DBOSException
from dbos_events.model.event import ConsumerOptions
from dbos_events.model.naming import log_prefix
from dbos_events.runtime.intake.batch import Assignment, Formed, Intaking, NamedRecord, batch_of, form
from dbos_events.runtime.intake.filters import judged
from dbos_events.runtime.intake.gate import Gate
from dbos_events.runtime.intake.holdups import HoldUps
from dbos_events.runtime.intake.keeper import LaneService
from dbos_events.runtime.intake.lanes import LaneGroup
from dbos_events.runtime.intake.naming import lane_naming
from dbos_events.runtime.intake.places import HEAVY_BYTES, Places
from dbos_events.runtime.intake.placing import placed
from dbos_events.runtime.intake.planning import LanePlan, sort_out
from dbos_events.runtime.intake.positioning import Positioning
from dbos_events.runtime.intake.publishing import published, tell_of
from dbos_events.runtime.intake.refusals import answered, take_in_apart
from dbos_events.runtime.intake.shared import SharedLane
from dbos_events.runtime.intake.standing import ConsumerService
from dbos_events.runtime.taken import Taken
from dbos_events.storage.subjects.intakerows import IntakeResult, PlacedEvent
from dbos_events.storage.subjects.lanes import LanePlace
from dbos_events.telemetry.log import logger


class _Conflict(NamedTuple):
    """A record that is not the one which was taken in under its id, or whose id is no event's of this consumer."""

    workflow_id: str
    offset: int
    foreign: bool
    connector: str

    @property
    def reason(self) -> str:
        if self.foreign:
            return (
                f"offset {self.offset} would be the workflow {self.workflow_id}, and that one exists and was not "
                "started by this consumer: the id was given to another workflow. The record was not run; "
                f"`dbos-events {self.connector} resolve-truncation` reads on from it with ids of its own"
            )
        return (
            f"offset {self.offset} holds another record than the one that was taken in as {self.workflow_id}: "
            "the topic was truncated or replaced, or the database restored"
        )


class ConsumerIntake(Positioning):
    """Takes in what one source receives. All methods but `left` and `room` belong to its intake thread."""

    def __init__(
        self,
        core: Core,
        taken: Taken,
        function: Registered,
        options: ConsumerOptions,
        lanes: LaneService,
        consumers: ConsumerService,
        connector: Connector,
    ) -> None:
        super().__init__()
        self._core = core
        self._taken = taken
        self._function = function
        self._lanes = lanes
        self._prefix = ""
        self._connector = connector.name
        self._number = 0
        self._assignments: dict[tuple[int, int], Assignment] = {}
        self._shared: dict[int, SharedLane] = {}
        self._message = connector.messages.of
        self._lane_of = lane_naming(options, self._message, taken.new_context)
        self.places = Places(options.max_in_flight, lanes.freed)
        self.holdups = HoldUps(core, options.name, core.quotas)
        self._consumers = consumers
        self.gate = Gate()
        self.options = options

    # -- the consumer and its positions -------------------------------------------------------

    @property
    def default_group(self) -> str:
        return f"{self._core.application}.{self.options.name}"

    @property
    def session(self) -> int:
        return self._core.registrations

    def open(self, group: str, topics: Sequence[str], settings: Mapping[str, str]) -> None:
        self._number = self._ask(
            lambda: self._core.storage.consumers.save(
                self._core.application,
                self.options.name,
                self._function.name,
                group,
                topics,
                json.dumps(dict(settings), sort_keys=True),
                self._connector,
            )
        )
        self._core.retries[self._number] = self.options.retries
        id_group = self._ask(lambda: self._core.storage.consumers.id_group(self._number))
        self._prefix = log_prefix(self._connector, id_group)
        self._taken.quarantines[self._number] = self.options.on_failure == "quarantine"
        left = f"Its events stay in {self._connector.capitalize()}."
        self._ask(lambda: self._consumers.watch(self._number, self.options, self.gate, left))

    def assign(self, incarnation: int, topic: str, partitions: Collection[int]) -> list[Position]:
        executor = self._core.executor
        found = self._ask(
            lambda: self._core.storage.positions.assign(
                executor, self._number, incarnation, sorted(partitions)
            )
        )
        for position in found:
            self._forget(incarnation, position.partition)
            lanes, leftovers = self._open_lanes(
                LanePlace(self._number, incarnation, position.partition, position.epoch)
            )
            self.holdups.assigned((incarnation, position.partition), position.gate)
            self._assignments[incarnation, position.partition] = Assignment(
                self._prefix,
                topic,
                incarnation,
                position.partition,
                position.epoch,
                position.next_offset,
                lanes,
                leftovers,
            )
        if self.options.ordering == "topic" or self._lanes.left_of_topic(self._number, incarnation):
            self._shared[incarnation] = self._lanes.share(self._number, incarnation, self.places)
        witnesses = self._witness(topic, incarnation, found)
        return [
            Position(
                row.partition,
                row.next_offset,
                row.leader_epoch,
                row.reason,
                row.halted,
                row.regression,
                witnesses.get(row.partition),
            )
            for row in found
        ]

    def _open_lanes(self, place: LanePlace) -> tuple[LaneGroup | None, LaneGroup | None]:
        """The lanes of a partition, and those that another ordering has left in it."""
        ordering = self.options.ordering
        lanes = None
        if self._lane_of is not None:
            lanes = self._lanes.open(place, self.places, by_key=ordering == "key")
            lanes.dropped = self.places.given_back
        if ordering == "key":
            return lanes, None
        own = None if lanes is None else lanes.pinned
        return lanes, self._ask(lambda: self._lanes.open_leftovers(place, self.places, own))

    def revoke(self, incarnation: int, partitions: Collection[int]) -> None:
        for partition in partitions:
            assignment = self._assignments.pop((incarnation, partition), None)
            for lanes in () if assignment is None else (assignment.lanes, assignment.leftovers):
                if lanes is not None:
                    self._release([run.id for run in self._lanes.close(lanes)])
        if incarnation in self._shared and all(number != incarnation for number, _ in self._assignments):
            self._lanes.unshare(self._shared.pop(incarnation))

    def lose(self, incarnation: int, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._forget(incarnation, partition)

    def fenced(self, incarnation: int) -> frozenset[int]:
        found = ((key, one.lanes) for key, one in self._assignments.items() if key[0] == incarnation)
        return frozenset(partition for (_, partition), lanes in found if lanes is not None and lanes.stale)

    def report(self, incarnation: int, reports: Sequence[PartitionReport]) -> None:
        self.holdups.look(self._number, {key: one.epoch for key, one in self._assignments.items()})
        rows = []
        for row in reports:
            reason = self.holdups.shown(incarnation, row.partition)
            told = (row.state, row.detail) if reason is None else ("waiting", reason)
            rows.append((incarnation, row.partition, row.end_offset, *told, row.reached))
        self._core.storage.positions.report(self._core.executor, self._number, rows)

    def report_source(self, state: str, detail: str | None) -> None:
        self._core.storage.sources.report(self._core.executor, self._number, state, detail)

    def _forget(self, incarnation: int, partition: int) -> None:
        """Drop an assignment without writing: what was not started, the next holder takes up.

        Rows that we own but never started are released as well; that is a fenced write of our own
        rows and harms nobody.
        """
        self.revoke(incarnation, [partition])

    def _release(self, workflow_ids: list[str]) -> None:
        if workflow_ids:
            executor = self._core.executor
            self._ask(lambda: self._core.storage.lanes.release_unstarted(executor, workflow_ids))

    # -- places -------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        if self.options.queue_name is not None:
            return self.gate.admits(self.options.batch_size)
        if self.places.heavy and self.options.ordering != "partition":
            return 0  # with "partition", each has its share
        return self.gate.admits(self.places.free)

    def room(self, incarnation: int, partition: int) -> int:
        assignment = self._assignments.get((incarnation, partition))
        if self.holdups.reason(incarnation, partition) is not None:
            return 0
        if self.options.ordering == "topic" and incarnation in self._shared:
            return self.places.capacity - self._shared[incarnation].open
        if assignment is None or assignment.lanes is None:
            return self.free
        if not assignment.lanes.flowing:
            return 0
        if assignment.lanes.pinned is None:
            return 0 if self.places.crowded else self.free
        share = max(1, self.places.capacity // max(1, len(self._assignments)))
        size = assignment.lanes.size
        fits = size <= share // 2 and not self.places.heavy_in(partition, len(self._assignments))
        return share - size if fits else 0

    def wait_for_room(self, seconds: float) -> None:
        if self.gate.wait(seconds):
            return
        if self.options.ordering in ("partition", "topic") or self.places.crowded:
            self.places.wait_for_cache(seconds)
        elif self.options.ordering == "key":
            self.places.wait_for_lanes(seconds)
        else:
            self.places.wait_for_places(seconds)

    # -- intake -------------------------------------------------------------------------------

    def take_in(self, incarnation: int, records: Sequence[Record]) -> TakenIn:
        take, rest = partial(self._take_in, incarnation), partial(self.holdups.refused, incarnation)
        return take_in_apart(records, take, rest)

    def _take_in(self, incarnation: int, records: Sequence[Record]) -> TakenIn:
        common = Intaking(
            self._core.executor,
            self._number,
            incarnation,
            self._core.application,
            self._function.name,
            self._core.version,
            self.options.queue_name,
            self._lane_of,
            shared=self.options.ordering == "topic",
        )
        contradicted = self._contradicted(incarnation, records)
        if contradicted:
            records = [record for record in records if record.partition not in contradicted]
        formed = self._published(
            incarnation, self._judged(incarnation, form(common, self._assignments, records))
        )
        if not formed.moves:
            return TakenIn({}, halted=contradicted or None)
        formed, where = self._placed(incarnation, formed)
        with self._taken.takings.under_way():
            plan = LanePlan(self._groups(incarnation, formed), formed.records, shared=common.shared)
            try:
                batch = replace(batch_of(common, formed, plan.kept, plan.unknown), placed=where)
                result = answered(lambda: self._core.storage.intake.take_in(batch), self._ask)
                tell_of(self._core, formed.publications)
                taken_in = self._taken_in(incarnation, formed, plan, result)
            except BaseException:
                plan.give_up()  # what is taken in all the same, the watch over this process's work gives back
                raise
        return replace(taken_in, halted={**(taken_in.halted or {}), **contradicted} or None)

    def _judged(self, incarnation: int, formed: Formed) -> Formed:
        """Without the records that the consumer's `when` says no to, and with the reasons why some must not run."""
        binding = self._function.binding
        when = None if binding is None else binding.when
        unasked = when is None and not any(one.record.unreadable for one in formed.records)
        if unasked or not formed.records:
            return formed
        topic = self._assignments[incarnation, formed.records[0].record.partition].topic
        codec, new_context = self._core.codecs.default, self._taken.new_context
        return judged(formed, when, lambda record: self._message(topic, record), codec, new_context)

    def _placed(self, incarnation: int, formed: Formed) -> tuple[Formed, tuple[PlacedEvent, ...]]:
        """With where on the queue each event waits, if the consumer says it."""
        if self.options.placing is None or not formed.records:
            return formed, ()
        topic = self._assignments[incarnation, formed.records[0].record.partition].topic
        codec, new_context = self._core.codecs.default, self._taken.new_context
        placing = self.options.placing
        return placed(formed, placing, lambda record: self._message(topic, record), codec, new_context)

    def _published(self, incarnation: int, formed: Formed) -> Formed:
        """With what is published of the records."""
        if self.options.publishes is None or not formed.records:
            return formed
        topic = self._assignments[incarnation, formed.records[0].record.partition].topic
        return published(
            self._core,
            self.options,
            formed,
            lambda record: self._message(topic, record),
            self._taken.new_context,
        )

    def _groups(self, incarnation: int, formed: Formed) -> dict[int, LaneGroup]:
        found = {partition: self._assignments[incarnation, partition].lanes for partition in formed.moves}
        return {partition: lanes for partition, lanes in found.items() if lanes is not None}

    def _taken_in(self, incarnation: int, formed: Formed, plan: LanePlan, result: IntakeResult) -> TakenIn:
        halted = self._conflicts(formed.records, result)
        following: dict[int, int] = {}
        for partition, (_, _, target, _) in formed.moves.items():
            if partition not in result.stale:
                following[partition] = halted[partition].offset if partition in halted else target
                self._assignments[incarnation, partition].next_offset = following[partition]

        fresh = [
            one.record.offset < following.get(one.record.partition, 0)
            and one.workflow_id not in result.duplicates
            for one in formed.records
        ]
        runs, spilled, returned = sort_out(plan, formed.records, fresh, result.behind, result.repeated)
        if self.gate.admitted(one.workflow_id for one in compress(formed.records, fresh)):
            self._consumers.wake()
        if returned:
            self._lanes.release(self._core.executor, returned)
        self.holdups.spilled(incarnation, spilled)
        self._start(incarnation, runs, plan, spilled, formed.refused)
        for partition in result.stale:
            extra = {"consumer": self.options.name, "partition": partition}
            logger.info("%s: partition %d was assigned elsewhere.", self.options.name, partition, extra=extra)
            self._forget(incarnation, partition)
        if self.options.ordering == "topic" and incarnation in self._shared:
            self._shared[incarnation].taken_in(sum(fresh))
        reasons = {partition: conflict.reason for partition, conflict in halted.items()}
        return TakenIn(following, result.stale, reasons or None)

    def _conflicts(self, records: Sequence[NamedRecord], result: IntakeResult) -> dict[int, _Conflict]:
        """The first conflict of each partition: nothing was taken in from there on."""
        halted: dict[int, _Conflict] = {}
        for workflow_id, record, _ in records:
            if workflow_id in result.conflicts and record.partition not in halted:
                halted[record.partition] = _Conflict(
                    workflow_id, record.offset, workflow_id in result.foreign, self._connector
                )
        return halted

    def _start(
        self,
        incarnation: int,
        events: Sequence[NamedRecord],
        plan: LanePlan,
        spilled: Mapping[int, Counter[str]],
        refused: Mapping[str, DBOSException],
    ) -> None:
        """Run what is to run here, at once or in its lane."""
        if self.options.queue_name is not None:
            self._core.hub.signal("queues")
            return
        quarantines = self.options.on_failure == "quarantine"
        origins = {lane: EventOrigin(self._number, quarantines, holds_lane=lane) for lane in (False, True)}
        unordered: list[Run] = []
        ordered: dict[str, list[Run]] = {}
        for workflow_id, record, lane in events:
            message = self._message(self._assignments[incarnation, record.partition].topic, record)
            run = Run(self._core, workflow_id, self._function, (message,), {})
            run.origin = origins[lane is not None]
            run.verdict = refused.get(workflow_id)
            if record.size >= HEAVY_BYTES:
                self.places.weigh(run, record.partition, record.size)
            if lane is None:
                run.host = self.places
                unordered.append(run)
            else:
                ordered.setdefault(lane, []).append(run)
        self.places.occupy(len(unordered))
        self._core.runner.submit(unordered)
        plan.carry_out(ordered, spilled)
