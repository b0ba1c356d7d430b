"""The model of the storage, rules 1 to 6: an executable specification of `dbos_events/storage/protocol.py`.

Each method has the name, the arguments and the answer of the protocol's. It says what a transaction does to plain
values in memory, one after the other; how a database does it to many at once is what it is compared with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dbos_events.model.queue import QueueLimits
from dbos_events.storage.subjects.taking import TakenWorkflow
from dbos_events.storage.writes import (
    WRITTEN,
    Checkpoint,
    Existing,
    Fenced,
    NewWorkflow,
    NextAttempt,
    Outcome,
    Park,
    Result,
    Write,
    result_key,
)
from tests.models.state import OPEN, Executor, Kept, Quarantined, State, Workflow

UNRELATED_POLL_MS = 5000
Run = tuple[str, int]
"""A workflow and the take that it runs under."""


class Executors(State):
    """Rule 1: from alive to dead, and never back."""

    def registered(self, executor: int, application: str, version: str, lease_ms: int) -> None:
        self.executors[executor] = Executor(application, version, self.now() + lease_ms)

    def renew_lease(self, executor: int, lease_ms: int) -> bool:
        if self.is_alive(executor):
            self.executors[executor].heartbeat += 1
            self.executors[executor].lease_until = self.now() + lease_ms
        return self.is_alive(executor)

    def declare_dead(self, executor: int, heartbeat: int, _reason: str) -> bool:
        if self.is_alive(executor) and self.executors[executor].heartbeat == heartbeat:
            self.release_executor(executor)
        return not self.is_alive(executor)

    def release_executor(self, executor: int) -> None:
        if self.is_alive(executor):
            self.executors[executor].alive = False
            self.executors[executor].ended_at = self.now()


class Batches(Executors):
    """Rules 2, 5 and 6: what a run writes, under its token or not at all."""

    def write_batch(self, executor: int, writes: Sequence[Write]) -> list[Result]:
        self.fence(executor)
        self._refused: set[tuple[str, int, bool]] = set()
        answers: list[Result] = [WRITTEN] * len(writes)
        for part, kind in (
            (Checkpoint, self._plain_checkpoint),
            (Checkpoint, self._shielded_checkpoint),
            (NewWorkflow, self._start),
            (Outcome, self._end),
            (NextAttempt, self._retry),
            (Park, self._park),
        ):
            # A kind of write is one statement: what is refused counts, and is told, when it is done.
            before, refused = set(self._refused), []
            for number, write in enumerate(writes):
                if not isinstance(write.checkpoint if part is Checkpoint else write.change, part):
                    continue
                if part is Checkpoint and write.shielded != (kind == self._shielded_checkpoint):
                    continue
                if (write.workflow_id, write.take, write.shielded) in before:
                    if answers[number] == WRITTEN:
                        answers[number] = Fenced(None)
                    continue
                answer = kind(executor, write)
                if isinstance(answer, Fenced):
                    refused.append(number)
                elif answer != WRITTEN:
                    answers[number] = answer
            for number in refused:
                row = self.workflows.get(writes[number].workflow_id)
                answers[number] = Fenced(None if row is None else row.status)
        return answers

    def runs(self, executor: int, write: Write) -> bool:
        """The fence: this executor, this take, and the workflow has not ended."""
        row = self.workflows.get(write.workflow_id)
        return row is not None and (row.owner, row.take, row.status) == (executor, write.take, "PENDING")

    def _refuse(self, write: Write) -> Result:
        self._refused.add((write.workflow_id, write.take, write.shielded))
        return Fenced(None)

    def _plain_checkpoint(self, executor: int, write: Write) -> Result:
        return self._checkpoint(executor, write, runs=self.runs(executor, write))

    def _shielded_checkpoint(self, executor: int, write: Write) -> Result:
        """Rule 20: its token is the same after a cancel, and that is all it takes."""
        row = self.workflows.get(write.workflow_id)
        runs = row is not None and (row.owner, row.take) == (executor, write.take)
        return self._checkpoint(
            executor, write, runs=runs and row is not None and row.status in ("PENDING", "CANCELLED")
        )

    def _checkpoint(self, executor: int, write: Write, *, runs: bool) -> Result:
        entry = write.checkpoint
        assert entry is not None
        key = (write.workflow_id, write.generation, entry.step)
        if write.reset_crashes and self.runs(executor, write):
            self.workflows[write.workflow_id].crashes = 0
        if runs and key not in self.checkpoints:
            self.checkpoints[key] = Kept(
                entry.completion_order,
                entry.output,
                entry.error,
                entry.codec,
                entry.child_id,
                executor,
                entry.write_id,
            )
            return WRITTEN
        own = (executor, entry.write_id)
        there = [
            (kept.writer, kept.write_id) == own
            for (workflow_id, generation, step), kept in self.checkpoints.items()
            if (workflow_id, step) == (key[0], key[2]) and generation >= write.generation
        ]
        return WRITTEN if any(there) else self._refuse(write)

    def _start(self, executor: int, write: Write) -> Result:
        new = write.change
        assert isinstance(new, NewWorkflow)
        row = self.workflows.get(new.id)
        if row is None:
            here = new.status == "PENDING"
            self.workflows[new.id] = Workflow(
                new.id, new.application, new.name, new.status, new.start_id, new.version, self.now(),
                owner=executor if here else None, take=1 if here else 0, queue=new.queue, priority=new.priority,
                parent_id=new.parent_id, timeout_ms=new.timeout_ms, deadline=new.deadline, start_by=new.start_by,
            )  # fmt: skip
        elif row.start_id != new.start_id:
            return Existing(row.id, row.name, row.status, row.queue, None)
        return WRITTEN

    def _end(self, executor: int, write: Write) -> Result:
        outcome = write.change
        assert isinstance(outcome, Outcome)
        row = self.workflows.get(write.workflow_id)
        if row is not None and self.runs(executor, write):
            row.status = outcome.status
            row.lane_open = None if outcome.frees_lane else row.lane_open
        elif row is None or (row.owner, row.take, row.status) != (executor, write.take, outcome.status):
            return Fenced(None)
        if outcome.output is not None or outcome.error is not None:
            self.results[row.id] = (outcome.output, outcome.error)
        note = outcome.quarantine
        if note is not None:
            steps = None if note.failure is None else note.failure.steps
            self.quarantine[row.id] = Quarantined(
                note.consumer, note.reason, note.attempts, steps, self.now()
            )
        parent = self.workflows.get(outcome.parent_id or "")
        if parent is not None and result_key(row.id).text in parent.awaits and parent.status == "PENDING":
            parent.wake_at, parent.awaits = self.now(), frozenset()
        return WRITTEN

    def _retry(self, executor: int, write: Write) -> Result:
        again = write.change
        assert isinstance(again, NextAttempt)
        row = self.workflows.get(write.workflow_id)
        if row is not None and self.runs(executor, write) and row.generation == write.generation:
            row.owner, row.wake_at, row.awaits = None, self.now() + again.delay_ms, frozenset()
            row.generation, row.attempt, row.crashes = row.generation + 1, again.attempt, 0
            self.keep_but(row.id, write.generation, again.failure.steps)
            self.ended(row.id, write.generation, (again.attempt, "retry", again.reason), again.delay_ms)
            return WRITTEN
        mine = (None, write.take, write.generation + 1)
        if row is not None and (row.owner, row.take, row.generation) == mine:
            return WRITTEN
        return self._refuse(write)

    def keep_but(self, workflow_id: str, generation: int, steps: Collection[int]) -> None:
        """Hand a generation's checkpoints on; these stay, and with the result of a child its start."""
        history = self.history(workflow_id, generation)
        children = {history[step].child_id for step in steps if step in history} - {None}
        for step, kept in history.items():
            kept.recorded_in = generation if kept.recorded_in is None else kept.recorded_in
            if step not in steps and kept.child_id not in children:
                del self.checkpoints[workflow_id, generation, step]
                self.checkpoints[workflow_id, generation + 1, step] = kept

    def ended(
        self,
        workflow_id: str,
        generation: int,
        how: tuple[int, str, str],
        delay_ms: int,
        *,
        edited: bool = False,
    ) -> None:
        left = [kept.order for kept in self.history(workflow_id, generation).values()]
        diverged = 0 if edited else min(left, default=None)
        self.generations[workflow_id, generation] = (*how, diverged, self.now() + delay_ms)

    def _park(self, executor: int, write: Write) -> Result:
        park = write.change
        assert isinstance(park, Park)
        row = self.workflows.get(write.workflow_id)
        if row is None or not self.runs(executor, write):
            parked = row is not None and (row.owner, row.take, row.status) == (None, write.take, "PENDING")
            return WRITTEN if parked else self._refuse(write)
        row.owner, row.wake_at, row.awaits = None, park.wake_at, frozenset(key.text for key in park.keys)
        poll = self.now() + UNRELATED_POLL_MS
        if not park.keys and park.wake_at is None:
            row.wake_at = poll
        awaited = [self.workflows.get(key.subject) for key in park.keys]
        if any(other is None or other.status not in OPEN for other in awaited):
            row.wake_at, row.awaits = self.now(), frozenset()
        elif any(other is not None and other.parent_id != row.id for other in awaited):
            row.wake_at = min(park.wake_at or poll, poll)
        return WRITTEN


class Taking(Batches):
    """Rules 2, 5 and 12: how ownership goes from one to another."""

    def take(self, executor: int, version: str, rows: Iterable[Workflow]) -> list[TakenWorkflow]:
        """The rows are this executor's from now on, under a new take."""
        mine = list(rows)
        for row in mine:
            row.status, row.owner, row.take, row.version = "PENDING", executor, row.take + 1, version
            row.wake_at, row.awaits = None, frozenset()
        return [row.taken() for row in sorted(mine, key=Workflow.started_before)]

    def may_run(self, row: Workflow, version: str, *, waits: bool, started: bool) -> bool:
        """Rule 12: what has not started runs on any code, what has prefers a live process of its version."""
        return (
            not started
            or row.version in (version, None)
            or (not waits and row.version not in self.live_versions(row.application))
        )

    def adopt_from_dead(
        self,
        executor: int,
        application: str,
        version: str,
        limits: Mapping[str, int | None],
        count: int,
        waits: bool = False,
    ) -> list[TakenWorkflow]:
        self.fence(executor)
        found = [
            row
            for row in self.workflows.values()
            if (row.status, row.application) == ("PENDING", application)
            and row.owner is not None
            and not self.is_alive(row.owner)
            and row.name in limits
            and not row.lane_open
            and self.may_run(row, version, waits=waits, started=bool(self.history(row.id, row.generation)))
        ]
        found = sorted(found, key=lambda row: (row.created_at, row.id))[:count]
        for row in found:
            row.crashes += 1
        taken = self.take(executor, version, found)
        crashed = [row for row in found if crashed_too_often(row, limits)]
        self.end_crashed(crashed)
        return [one for one in taken if one.id not in {row.id for row in crashed}]

    def end_crashed(self, rows: Iterable[Workflow]) -> None:
        for row in rows:
            row.status = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
            self._end_from_outside(row, "max-recovery-attempts-exceeded")

    def _end_from_outside(self, row: Workflow, reason: str) -> None:
        """An event is put aside with all its checkpoints, and whoever waits for the workflow goes on."""
        if row.consumer is not None:
            self.quarantine[row.id] = Quarantined(row.consumer, reason, row.attempt + 1, (), self.now())
        for other in self.workflows.values():
            if result_key(row.id).text in other.awaits:
                other.wake_at, other.awaits = self.now(), frozenset()

    def take_due(
        self,
        executor: int,
        application: str,
        version: str,
        names: Sequence[str],
        count: int,
        waits: bool = False,
    ) -> list[TakenWorkflow]:
        self.fence(executor)
        due = [
            row
            for row in self.workflows.values()
            if (row.status, row.application) == ("PENDING", application)
            and row.wake_at is not None
            and row.wake_at <= self.now()
            and not self.is_late(row)
        ]
        found = [
            row
            for row in due
            if row.queue is None
            and not row.lane_open
            and row.name in names
            and self.may_run(row, version, waits=waits, started=True)
        ]
        for row in due:
            if row.lane_open:
                row.held, row.wake_at, row.awaits = False, None, frozenset()
            elif row.queue is not None:
                row.status, row.owner, row.wake_at, row.awaits = "ENQUEUED", None, None, frozenset()
        return self.take(executor, version, sorted(found, key=lambda row: row.wake_at or 0)[:count])

    def next_wake(self, application: str) -> int | None:
        rows = self.workflows.values()
        wakes = [row.wake_at for row in rows if row.application == application and row.wake_at is not None]
        return min(wakes) - self.now() if wakes else None

    def claim(
        self,
        executor: int,
        application: str,
        version: str,
        queue: str | None,
        limits: QueueLimits,
        names: Sequence[str],
        count: int,
        waits: bool = False,
    ) -> list[TakenWorkflow]:
        self.fence(executor)
        rows = [
            row for row in self.workflows.values() if (row.queue, row.application) == (queue, application)
        ]
        room, starts = count, self.starts
        if limits.concurrency is not None:
            running = [row for row in rows if row.status == "PENDING" and row.owner is not None]
            room = min(room, limits.concurrency - len(running))
        if limits.limiter is not None:
            since = self.now() - round(limits.limiter["period"] * 1000)
            starts = [one for one in self.starts if one[0] != queue or one[1] > since]
            room = min(room, limits.limiter["limit"] - len([one for one in starts if one[0] == queue]))
        found = [
            row
            for row in rows
            if row.status == "ENQUEUED"
            and not row.lane_open
            and not self.is_late(row)
            and row.name in names
            and self.may_run(row, version, waits=waits, started=row.take > 0)
        ]
        found = sorted(found, key=Workflow.started_before)[: max(0, room)]
        if limits.limiter is not None and found:  # who finds nothing changes nothing
            self.starts = [*starts, *[(queue or "", self.now())] * len(found)]
        for row in found:
            row.start_by = None
            if row.timeout_ms is not None:
                row.deadline = min(row.deadline or self.now() + row.timeout_ms, self.now() + row.timeout_ms)
        return self.take(executor, version, found)

    def is_late(self, row: Workflow) -> bool:
        """Rule 20: nobody takes what has passed its deadline, or should have been claimed by now."""
        bounds = (row.deadline, row.start_by if row.status == "ENQUEUED" else None)
        return any(bound is not None and bound <= self.now() for bound in bounds)

    def claim_resumed(
        self,
        executor: int,
        application: str,
        version: str,
        names: Sequence[str],
        count: int,
        waits: bool = False,
    ) -> list[TakenWorkflow]:
        return self.claim(executor, application, version, None, QueueLimits(), names, count, waits)

    def cancel(self, workflow_ids: Sequence[str]) -> list[str]:
        rows = [self.workflows[one] for one in workflow_ids if one in self.workflows]
        found = [row for row in rows if row.status in (*OPEN, "MAX_RECOVERY_ATTEMPTS_EXCEEDED")]
        for row in found:
            row.status, row.wake_at, row.awaits, row.end_reason = "CANCELLED", None, frozenset(), "cancelled"
        for row in found:
            self._end_from_outside(row, "cancelled")
        return [row.id for row in found]

    def resume(self, workflow_ids: Sequence[str]) -> list[str]:
        rows = [self.workflows[one] for one in workflow_ids if one in self.workflows]
        found = [row for row in rows if row.status not in ("SUCCESS", "ERROR")]
        for row in found:
            row.status = "PENDING" if row.lane_open else "ENQUEUED"
            row.queue, row.owner, row.held, row.take, row.crashes = None, None, False, row.take + 1, 0
            row.wake_at, row.awaits = None, frozenset()
            row.deadline = row.start_by = row.end_reason = None
            self.release(row.id, "resumed")
        return [row.id for row in found]

    def release(self, workflow_id: str, decision: str) -> None:
        """Somebody decided what becomes of it, if it was put aside."""
        aside = self.quarantine.get(workflow_id)
        if aside is not None and aside.released_as is None:
            aside.released_as = decision

    # -- reading ------------------------------------------------------------------------------

    def stopped_among(self, executor: int, workflow_ids: Sequence[str]) -> dict[str, str]:
        rows = [self.workflows[one] for one in workflow_ids if one in self.workflows]
        return {row.id: row.status for row in rows if (row.status, row.owner) != ("PENDING", executor)}

    def read_divergences(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for (workflow_id, generation), (*_, diverged, _) in self.generations.items():
            if workflow_id in workflow_ids and diverged is not None:
                found.setdefault(workflow_id, {})[generation] = diverged
        return found

    def view(self, workflow_id: str) -> dict[int, Any]:
        """What a run of the current generation reads of its history."""
        row = self.workflows[workflow_id]
        return {
            step: (kept.output, kept.error, kept.write_id, kept.recorded_in)
            for step, kept in self.history(workflow_id, row.generation).items()
        }


def crashed_too_often(row: Workflow, limits: Mapping[str, int | None]) -> bool:
    limit = limits[row.name]
    return limit is not None and row.crashes > limit
