"""What each process believes: the runs that it has, and what it waits an answer for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dbos_events.model.workflow import SUCCESS
from dbos_events.storage.subjects.intakerows import IntakeBatch
from dbos_events.storage.subjects.taking import TakenWorkflow
from dbos_events.storage.writes import (
    Checkpoint,
    Failure,
    Fenced,
    NewWorkflow,
    NextAttempt,
    Outcome,
    Park,
    QuarantineNote,
    Result,
    Write,
    Written,
    result_key,
)

ENDS = ("succeed", "fail", "put aside", "retry", "park", "await")


@dataclass(eq=False)
class Run:
    """A run as its process sees it; the workflow may be another's by now."""

    id: str
    take: int
    generation: int = 0
    crashes: int = 0
    consumer: int | None = None
    parent_id: str | None = None
    attempt: int = 0
    steps: set[int] = field(default_factory=set)
    failed: list[int] = field(default_factory=list)
    started: bool = False
    over: bool = False

    @classmethod
    def of(cls, taken: TakenWorkflow, steps: Sequence[int]) -> Run:
        return cls(
            taken.id, taken.take, taken.generation, taken.crashes, taken.consumer, taken.parent_id, taken.attempt,
            set(steps),
        )  # fmt: skip

    # -- writes -------------------------------------------------------------------------------

    def write(self, **part: object) -> Write:
        self.started = True
        return Write(self.id, self.take, self.generation, **part)  # type: ignore[arg-type]

    def step(self, write_id: int, *, failed: bool = False, child: NewWorkflow | None = None) -> Write:
        number = next(one for one in itertools.count(1) if one not in self.steps)
        self.steps.add(number)
        if failed:
            self.failed.append(number)
        return self.checkpoint(number, write_id, failed=failed, child=child)

    def checkpoint(
        self, number: int, write_id: int, *, failed: bool = False, child: NewWorkflow | None = None
    ) -> Write:
        entry = Checkpoint(
            number, str(number), "step", write_id,
            codec="cancelled" if failed and write_id % 3 == 0 else None,
            output=None if failed else str(write_id),
            error="boom" if failed and write_id % 3 else None,
            child_id=None if child is None else child.id,
            write_id=write_id,
        )  # fmt: skip
        resets, self.crashes = self.crashes > 0, 0
        return self.write(checkpoint=entry, change=child, reset_crashes=resets)

    def end(self, how: str, now: int, delay_ms: int, awaited: Sequence[str], *, knows_more: bool) -> Write:
        """The last write of this run."""
        self.over = True
        failure = Failure("json", "boom", "ValueError", "boom", tuple(self.failed))
        if how == "succeed":
            return self.write(change=Outcome(SUCCESS, None, "done", parent_id=self.parent_id))
        if how == "retry":
            again = NextAttempt(delay_ms, self.attempt + 1, "handler-failed", failure)
            return self.write(change=again)
        if how == "park":
            return self.write(change=Park(now + delay_ms))
        if how == "await":
            return self.write(change=Park(None, tuple(map(result_key, awaited))))
        note = None
        if how == "put aside" and self.consumer is not None:
            known = failure if knows_more else None
            note = QuarantineNote(self.consumer, "attempts-exhausted", "boom", self.attempt + 1, known)
        outcome = Outcome("ERROR", None, None, "boom", self.parent_id, note, frees_lane=note is None)
        return self.write(change=outcome)


@dataclass
class Assigned:
    """A partition as a process has it: it may be another's by now."""

    epoch: int
    next_offset: int


@dataclass(eq=False)
class Process:
    """One executor. `unanswered` are its batch and its intake whose commit was made, or not, for all it knows."""

    executor: int
    application: str
    version: str
    runs: list[Run] = field(default_factory=list)
    partitions: dict[int, Assigned] = field(default_factory=dict)
    lane_epoch: int | None = None
    unanswered: list[Write] = field(default_factory=list)
    intaking: IntakeBatch | None = None
    write_ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def learn(self, writes: Sequence[Write], answers: Sequence[Result]) -> None:
        """What the committer tells the runs: who lost a write, and who has ended, writes no more."""
        gone = set()
        for write, answer in zip(writes, answers, strict=True):
            token = (write.workflow_id, write.take)
            if write.closes or isinstance(answer, Fenced):
                gone.add(token)
            start = write.change
            if isinstance(start, NewWorkflow) and start.status == "PENDING" and isinstance(answer, Written):
                self.runs.append(Run(start.id, 1, parent_id=start.parent_id))
        self.runs = [run for run in self.runs if (run.id, run.take) not in gone]

    def lose_everything(self) -> None:
        """It has learnt that it is dead."""
        self.runs, self.partitions, self.lane_epoch = [], {}, None
        self.unanswered, self.intaking = [], None
