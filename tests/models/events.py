"""The model of the storage, rules 6, 7, 10 and 11: what becomes of events. See `tests/models/protocol.py`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from dbos_events.errors import BadWrite
from dbos_events.model.quarantine import Redrive
from dbos_events.storage.subjects.intakerows import IntakeBatch, IntakeResult, NewEvent
from dbos_events.storage.subjects.lanes import LanePlace, LaneTaken
from dbos_events.storage.subjects.orphans import Orphan
from dbos_events.storage.subjects.positions import AssignedPosition
from dbos_events.storage.subjects.quarantine import OperatorDecision
from dbos_events.storage.writes import CANCELLED_CALL
from tests.models.endings import Endings
from tests.models.protocol import crashed_too_often
from tests.models.state import PUT_ASIDE, Lane, Watermark, Workflow

Place = tuple[int, int, int]
"""Consumer, incarnation, partition."""


class Intakes(Endings):
    """Rule 7: watermarks never go back, and move under their epoch together with the events."""

    def assign(
        self, executor: int, consumer: int, incarnation: int, partitions: Sequence[int]
    ) -> list[AssignedPosition]:
        self.fence(executor)
        found = []
        for partition in sorted(partitions):
            mark = self.watermarks[consumer, incarnation, partition]
            mark.epoch, mark.holder = mark.epoch + 1, executor
            found.append(_position(partition, mark))
        return found

    def intake(self, batch: IntakeBatch) -> IntakeResult:
        for _, expected, target, _ in batch.moves.values():
            if target < expected:
                raise BadWrite("a watermark never goes back")
        self.fence(batch.executor)
        stale, repeated = self._compare(batch)
        conflicts = self._conflicts(batch, stale | repeated)
        if conflicts:
            batch = _before(batch, conflicts)
            repeated &= set(batch.moves)
        moved = [one for one in sorted(batch.moves) if one not in stale | repeated]
        if not moved:
            return IntakeResult(frozenset(stale), conflicts=conflicts, repeated=frozenset(repeated))
        for partition in moved:
            self._move(batch, partition)
        behind = frozenset(
            lane for lane in batch.unknown if self.entries((batch.consumer, batch.incarnation, lane))
        )
        events = [one for one in batch.events if one.partition in moved]
        known = frozenset(one.workflow_id for one in events if one.workflow_id in self.fingerprints)
        first = self._advance_lane(batch, len(events))
        for number, event in enumerate(events):
            if event.workflow_id not in known:
                self._insert(batch, event, first + number, behind)
        return IntakeResult(frozenset(stale), known, conflicts, behind, frozenset(repeated))

    def _compare(self, batch: IntakeBatch) -> tuple[set[int], set[int]]:
        """The partitions of another assignment, and those that an own lost commit has moved already."""
        stale: set[int] = set()
        repeated: set[int] = set()
        for partition, (epoch, expected, target, _) in batch.moves.items():
            mark = self.watermarks.get((batch.consumer, batch.incarnation, partition))
            if mark is not None and (mark.epoch, mark.next_offset) == (epoch, expected):
                continue
            mine = mark is not None and (mark.epoch, mark.next_offset) == (epoch, target)
            (repeated if mine else stale).add(partition)
        return stale, repeated

    def _conflicts(self, batch: IntakeBatch, left_out: Collection[int]) -> frozenset[str]:
        """Ids that are known with another record."""
        events = [one for one in batch.events if one.partition not in left_out]
        return frozenset(
            one.workflow_id
            for one in events
            if self.fingerprints.get(one.workflow_id, one.fingerprint) != one.fingerprint
        )

    def _move(self, batch: IntakeBatch, partition: int) -> None:
        mark = self.watermarks[batch.consumer, batch.incarnation, partition]
        mark.next_offset = batch.moves[partition][2]
        missing = [one for one in batch.gaps if one[0] == partition]
        self.gaps += [(*one, "missing", None) for one in missing]
        filtered = [one for one in batch.filtered if one[0] == partition]
        self.gaps += [(*place, "filtered", records) for *place, records in filtered]  # type: ignore[misc]

    def _advance_lane(self, batch: IntakeBatch, count: int) -> int:
        """Where these events begin in the one lane of all partitions, if there is one."""
        if batch.shared_lane is None:
            return 0
        lane = self.lanes.setdefault((batch.consumer, batch.incarnation, batch.shared_lane), Lane())
        lane.next_sequence += count
        return lane.next_sequence - count

    def _insert(self, batch: IntakeBatch, event: NewEvent, number: int, behind: Collection[str]) -> None:
        owned = batch.queue is None and event.kept and event.lane not in behind
        ordered = event.lane is not None
        sequence = number if batch.shared_lane is not None else event.offset
        self.fingerprints[event.workflow_id] = event.fingerprint
        self.workflows[event.workflow_id] = Workflow(
            event.workflow_id, batch.application, batch.name, "PENDING" if batch.queue is None else "ENQUEUED",
            event.offset, batch.version, self.now(), owner=batch.executor if owned else None, take=int(owned),
            queue=batch.queue, consumer=batch.consumer, incarnation=batch.incarnation, partition=event.partition,
            position=event.offset, lane=event.lane, lane_sequence=sequence if ordered else None,
            lane_open=ordered or None, held=not owned if ordered else None,
        )  # fmt: skip

    def skip(self, executor: int, place: Place, epoch: int, offsets: tuple[int, int], _alarm: str) -> bool:
        self.fence(executor)
        mark = self.watermarks[place]
        if (mark.epoch, mark.next_offset) != (epoch, offsets[0]):
            return (mark.epoch, mark.next_offset) == (epoch, offsets[1])
        mark.next_offset = offsets[1]
        self.gaps.append((place[2], *offsets, "retention", None))
        return True

    def take_orphan(self, executor: int, orphan: Orphan) -> AssignedPosition | None:
        self.fence(executor)
        mark = self.watermarks[orphan.consumer, orphan.incarnation, orphan.partition]
        if mark.epoch != orphan.epoch or (self.is_alive(mark.holder) and mark.holder != executor):
            return None
        mark.epoch, mark.holder = mark.epoch + 1, executor
        return _position(orphan.partition, mark)

    def release_orphan(self, executor: int, key: Place, epoch: int) -> None:
        mark = self.watermarks[key]
        if (mark.epoch, mark.holder) == (epoch, executor):
            mark.holder = None


class Lanes(Intakes):
    """Rule 10: of a lane only the head runs, and only its holder takes it."""

    def take_lanes(
        self,
        executor: int,
        place: LanePlace,
        lanes: Sequence[str],
        count: int,
        limits: Mapping[str, int | None],
    ) -> dict[str, LaneTaken] | None:
        self.fence(executor)
        held: Watermark | Lane | None = (
            self.lanes.get((place.consumer, place.incarnation, place.lane))
            if place.partition is None
            else self.watermarks.get((place.consumer, place.incarnation, place.partition))
        )
        if held is None or (held.holder, held.epoch) != (executor, place.epoch):
            return None
        return {
            lane: self._take_lane(executor, (place.consumer, place.incarnation, lane), count, limits)
            for lane in lanes
        }

    def _take_lane(
        self, executor: int, lane: tuple[int, int, str], count: int, limits: Mapping[str, int | None]
    ) -> LaneTaken:
        entries = self.entries(lane)
        if not entries:
            return LaneTaken(empty=True)
        head, seen = entries[0], entries[:count]
        able = [one.ready and one.name in limits for one in seen]
        ready = seen[: able.index(False)] if False in able else seen
        if ready and crashed_too_often(head, limits):
            self.end_crashed([head])
            ready = []
        if not ready:
            for one in entries[1:]:
                one.held = True if one.ready else one.held
            return LaneTaken(owner=head.owner if head.status == "PENDING" else None, head=head.id)
        for one in ready:
            one.owner, one.take, one.held = executor, one.take + 1, False
        return LaneTaken(tuple(one.taken() for one in ready), len(ready) < len(seen) or len(seen) == count)

    def free_lanes_of_dead(self, application: str) -> int:
        rows = [
            row
            for row in self.workflows.values()
            if (row.status, row.application) == ("PENDING", application)
            and row.lane_open
            and row.owner is not None
            and not self.is_alive(row.owner)
        ]
        for row in rows:
            is_head = self.entries(row.in_its_lane)[0] is row
            row.owner, row.held, row.crashes = None, not is_head, row.crashes + is_head
        return len(rows)

    def release_unstarted(self, executor: int, workflow_ids: Sequence[str]) -> None:
        for row in map(self.workflows.__getitem__, workflow_ids):
            if (row.owner, row.status) == (executor, "PENDING"):
                row.owner, row.held = None, True

    def hold_lane(self, executor: int, consumer: int, incarnation: int, lane: str) -> int | None:
        self.fence(executor)
        row = self.lanes.setdefault((consumer, incarnation, lane), Lane())
        if self.is_alive(row.holder):
            return row.epoch if row.holder == executor else None
        row.holder, row.epoch = executor, row.epoch + 1
        return row.epoch

    def leave_lane(self, executor: int, consumer: int, incarnation: int, lane: str) -> None:
        row = self.lanes.get((consumer, incarnation, lane))
        if row is not None and row.holder == executor:
            row.holder = None

    # -- reading ------------------------------------------------------------------------------

    def ready_lanes(self, executor: int, consumer: int, _count: int) -> list[tuple[int, int, str]]:
        found = {
            (row.incarnation or 0, row.partition or 0, row.lane or "")
            for row in self.workflows.values()
            if row.lane_open and row.ready and not row.held and row.consumer == consumer
            if self._mark_of(row).holder == executor
        }
        return sorted(found)

    def _mark_of(self, row: Workflow) -> Watermark:
        assert row.consumer is not None
        assert row.incarnation is not None
        assert row.partition is not None
        return self.watermarks[row.consumer, row.incarnation, row.partition]

    def lanes_after(
        self, consumer: int, incarnation: int, after: str, before: str, count: int
    ) -> list[tuple[str, bool]]:
        rows = self.workflows.values()
        names = {row.lane or "" for row in rows if row.lane_open and after < (row.lane or "") < before}
        heads = {name: self.entries((consumer, incarnation, name))[0] for name in sorted(names)[:count]}
        return [(name, head.status == "PENDING" and not head.waits) for name, head in heads.items()]

    def owned_entries(
        self, executor: int, consumer: int, incarnation: int, lanes: Sequence[str]
    ) -> list[tuple[str, str]]:
        entries = [row for lane in lanes for row in self.entries((consumer, incarnation, lane))]
        mine = [row for row in entries if (row.owner, row.status) == (executor, "PENDING")]
        return sorted((row.id, row.lane or "") for row in mine)

    def count_open(self, consumer: int, incarnation: int, lane: str, limit: int) -> int:
        return min(limit, len(self.entries((consumer, incarnation, lane))))

    def count_held(self, consumer: int, incarnation: int, lane: str, limit: int) -> int:
        rows = [row for row in self.workflows.values() if row.lane_open and row.held]
        below = [
            row for row in rows if not lane or row.lane == lane or (row.lane or "").startswith(f"{lane}/")
        ]
        return min(limit, len(below))

    def partitions(self, consumer: int, incarnation: int) -> dict[int, tuple[int, int, int, int]]:
        """What the status counts in each partition: in flight, held, put aside, filtered."""
        counts = {}
        for place in self.watermarks:
            rows = [
                row
                for row in self.workflows.values()
                if (row.consumer, row.incarnation, row.partition) == place
            ]
            unfinished = [row for row in rows if row.status in ("PENDING", "ENQUEUED")]
            held = [row for row in unfinished if self._waits_its_turn(row)]
            asides = [self.quarantine[row.id] for row in rows if row.id in self.quarantine]
            aside = [one for one in asides if one.released_as is None]
            filtered = [one[4] or 0 for one in self.gaps if (one[0], one[3]) == (place[2], "filtered")]
            counts[place[2]] = (len(unfinished) - len(held), len(held), len(aside), sum(filtered))
        return counts

    def _waits_its_turn(self, row: Workflow) -> bool:
        if row.status == "ENQUEUED" or not row.lane_open:
            return row.status == "ENQUEUED"
        return bool(row.held) if row.owner is None else self.entries(row.in_its_lane)[0] is not row


class Model(Lanes):
    """Rules 6 and 11: what operators decide about events that were put aside."""

    def waiting(self, workflow_ids: Collection[str]) -> Iterator[Workflow]:
        for workflow_id in sorted(workflow_ids):
            aside = self.quarantine.get(workflow_id)
            row = self.workflows[workflow_id]
            if aside is not None and aside.released_as is None and row.status in PUT_ASIDE:
                yield row

    def redrive(self, workflow_ids: Sequence[str], order: Redrive, _decision: OperatorDecision) -> list[str]:
        found = list(self.waiting(workflow_ids))
        for row in found:
            aside, ended = self.quarantine[row.id], row.generation
            row.status = "PENDING" if row.lane_open else "ENQUEUED"
            row.owner, row.take, row.generation, row.version = None, row.take + 1, ended + 1, None
            row.attempt, row.crashes, row.wake_at, row.awaits = 0, 0, None, frozenset()
            row.held = False if row.lane_open else row.held
            row.deadline = row.start_by = row.end_reason = None
            if not order.fresh:
                self.keep_but(row.id, ended, self._left_behind(row.id, ended, order.from_step))
            edited = order.value is not None
            self.ended(row.id, ended, (aside.attempts, "redrive", aside.reason), 0, edited=edited)
            self.results.pop(row.id, None)
            if order.value is not None:
                self.edited[row.id, row.generation] = order.value
            self.release(row.id, "redriven")
            self.decisions.append((row.id, ended, "redrive"))
        return [row.id for row in found]

    def _left_behind(self, workflow_id: str, generation: int, from_step: int | None) -> set[int]:
        """What failed, and all from the given step on."""
        noted = self.quarantine[workflow_id].failed_steps
        history = self.history(workflow_id, generation)
        failed = {
            step for step, one in history.items() if one.error is not None or one.codec == CANCELLED_CALL
        }
        behind = failed if noted is None else set(noted)
        return behind | {step for step in history if from_step is not None and abs(step) >= from_step}

    def discard(self, workflow_ids: Sequence[str], _decision: OperatorDecision) -> list[str]:
        found = list(self.waiting(workflow_ids))
        for row in found:
            row.lane_open, row.held, row.take = None, None, row.take + 1
            self.release(row.id, "discarded")
            self.decisions.append((row.id, row.generation, "discard"))
        for row in found:
            first = next(iter(self.entries(row.in_its_lane)), None)
            if first is not None and first.held and first.status == "PENDING" and first.owner is None:
                first.held = False
        return [row.id for row in found]


def _position(partition: int, mark: Watermark) -> AssignedPosition:
    return AssignedPosition(partition, mark.epoch, mark.next_offset, None, "")


def _before(batch: IntakeBatch, conflicts: Collection[str]) -> IntakeBatch:
    """The watermark stops at the first conflict; a partition of which nothing lies before it does not move."""
    ends = {partition: target for partition, (_, _, target, _) in batch.moves.items()}
    for event in batch.events:
        if event.workflow_id in conflicts:
            ends[event.partition] = min(ends[event.partition], event.offset)
    events = tuple(one for one in batch.events if one.offset < ends[one.partition])
    filtered = tuple(one for one in batch.filtered if one[1] < ends[one[0]])
    left = {one.partition for one in events} | {one[0] for one in filtered}
    moves = {
        partition: (epoch, expected, ends[partition], leader)
        for partition, (epoch, expected, _, leader) in batch.moves.items()
        if partition in left
    }
    gaps = tuple(one for one in batch.gaps if one[0] in moves and one[2] <= ends[one[0]])
    return replace(batch, moves=moves, events=events, filtered=filtered, gaps=gaps)
