"""What must hold of the effects, partition by partition. Pure: it reads no file and no database.

An execution **counts** when its executor wrote the step's checkpoint. An executor is **harmed** when something was
done to it after which its work goes on elsewhere; one that nothing was done to may not run a step that does not
count, and no step twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.events import (
    FLAKY,
    ONE,
    POISON,
    RAISE,
    RAISED,
    RETRY,
    SLEEP,
    SLEEP_SECONDS,
    STEPS,
    TWO,
    Events,
    failures_of,
)
from tests.chaos.findings import AFTER_DEATH, ASLEEP, DISORDER, LOST, STRANGE, TWICE, UNHEARD, Findings
from tests.chaos.marks import Mark

NEVER = 1 << 62

EARLY_NS = 50_000_000
"""How much too early a sleep may seem to end: the database's clock may be corrected while it goes on."""

LATE_SECONDS = 90.0
"""How late a sleep may end: servers are down for seconds. The time in which no process was at work comes on top."""


class EventRow(NamedTuple):
    """What the database says of one event at the end; `writers` are (step, executor) of its checkpoints."""

    offset: int
    status: str
    generation: int
    sequence: int
    writers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Executors:
    """What happened to the executors: who was harmed, and after when who was dead could begin nothing."""

    harmed: frozenset[int] = frozenset()
    last_begin: Mapping[int, int] = field(default_factory=dict)
    nobody_seconds: float = 0.0
    """How long none of them was at work: a busy machine takes long to start one, and faults go on meanwhile."""


class Span(NamedTuple):
    """From when to when an event was worked on, and its place in its lane."""

    place: int
    begun: int
    done: int
    offset: int


class Checker:
    """Takes the partitions one after the other; `end` looks at what lies across them."""

    def __init__(self, ordering: str, executors: Executors, findings: Findings) -> None:
        self.findings = findings
        self.executions = 0
        self.repeats = 0
        """Executions that a fault explains, beyond the one that counts."""
        self.late = 0
        """Those of them that a dead executor ended when its event had gone on elsewhere, or could have."""
        self._ordering = ordering
        self._executors = executors
        self._topic: list[tuple[Span, int]] = []

    def partition(self, number: int, events: Events, marks: Iterable[Mark], rows: Iterable[EventRow]) -> None:
        """Compare what was asked for with the effects and the rows of one partition; rows come by offset."""
        effects: dict[int, list[Mark]] = defaultdict(list)
        for mark in marks:
            effects[mark.offset].append(mark)
        lanes: dict[int, Span] = {}
        found = self._rows(number, events, rows)
        for offset, row in found.items():
            where = f"{number}/{offset}"
            span = self._event(where, events, row, effects.pop(offset, []))
            if span is not None:
                self._place(where, number, events.keys[offset], span, lanes)
        for offset, those in effects.items():
            if offset >= len(events):
                self.findings.add(STRANGE, f"{number}/{offset}: effects of an event that never was: {those}")

    def end(self) -> None:
        """With one lane for the topic, look at it as a whole."""
        last: Span | None = None
        for span, partition in sorted(self._topic):
            self._follow(f"{partition}/{span.offset}", span, last)
            last = span if last is None or span.done > last.done else last

    # -- rows ---------------------------------------------------------------------------------

    def _rows(self, number: int, events: Events, rows: Iterable[EventRow]) -> dict[int, EventRow]:
        found: dict[int, EventRow] = {}
        sequence = -1
        for row in rows:
            where = f"{number}/{row.offset}"
            if row.offset in found:
                self.findings.add(TWICE, f"{where} has two workflows")
            elif row.offset >= len(events):
                self.findings.add(STRANGE, f"{where} has a workflow and was never produced")
            else:
                found[row.offset] = row
                if self._ordering == "topic" and row.sequence <= sequence:
                    self.findings.add(
                        DISORDER, f"{where} has place {row.sequence} in the lane, behind {sequence}"
                    )
                sequence = row.sequence
        for offset in range(len(events)):
            if offset not in found:
                self.findings.add(LOST, f"{number}/{offset} has no workflow")
        return found

    # -- one event ----------------------------------------------------------------------------

    def _event(self, where: str, events: Events, row: EventRow, marks: list[Mark]) -> Span | None:
        kind, key = events.kinds[row.offset], events.keys[row.offset]
        if row.status != "SUCCESS":
            self.findings.add(LOST, f"{where} has not succeeded: {row.status}")
        if row.generation and kind not in (RETRY, POISON, RAISE):
            self.findings.add(STRANGE, f"{where} was tried again, and nobody asked for it: {row}")
        if kind == RAISE:
            marks = self._without_raised(where, row, marks)
        if kind == SLEEP:
            self._look_at_sleep(where, marks)
        by_step: dict[int, list[Mark]] = {step: [] for step in STEPS[kind]}
        for mark in marks:
            if mark.step not in by_step or mark.key != key:
                self.findings.add(STRANGE, f"{where} did not ask for {mark}")
            else:
                by_step[mark.step].append(mark)
        writers = dict(row.writers)
        if len(writers) < len(row.writers):
            self.findings.add(TWICE, f"{where} has two checkpoints of one step: {row.writers}")
        counted: list[Mark] = []
        for step, done in by_step.items():
            counted += self._step(f"{where} step {step}", done, writers.get(step), self._limit(row, step))
        if not counted:
            return None
        others = [mark for mark in marks if mark not in counted]
        self._look_at_others(where, others)
        standing = [mark for mark in others if mark.executor not in self._executors.last_begin]
        return Span(
            row.sequence if self._ordering == "topic" else row.offset,
            min(mark.begun for mark in marks),
            max(mark.done for mark in counted + standing),
            row.offset,
        )

    def _without_raised(self, where: str, row: EventRow, marks: list[Mark]) -> list[Mark]:
        """What its handler raised has ended a try, unless the try was an executor's to which something was done."""
        raised = [mark for mark in marks if mark.step == RAISED]
        if not row.generation and any(mark.executor not in self._executors.harmed for mark in raised):
            self.findings.add(UNHEARD, f"{where} raised, and that ended no try of it: {row}, {raised}")
        return [mark for mark in marks if mark.step != RAISED]

    def _look_at_sleep(self, where: str, marks: list[Mark]) -> None:
        """Between its two steps it slept as long as it asked for, by whosever clock."""
        before = [mark.done for mark in marks if mark.step == ONE]
        after = [mark.begun for mark in marks if mark.step == TWO]
        if not before or not after:
            return
        slept = min(after) - min(before)
        wanted = int(SLEEP_SECONDS * 1e9)
        latest = wanted + int((LATE_SECONDS + self._executors.nobody_seconds) * 1e9)
        if slept < wanted - EARLY_NS or slept > latest:
            self.findings.add(ASLEEP, f"{where} asked for {SLEEP_SECONDS:g} s and slept {slept / 1e9:.3f} s")

    def _limit(self, row: EventRow, step: int) -> int:
        """How often a step may run where nothing is done to its executor."""
        return 1 + failures_of(row.offset) if step == FLAKY else 1

    def _step(self, what: str, done: list[Mark], writer: int | None, limit: int) -> list[Mark]:
        """Gives the executions that count: for a step that fails at first, those that failed as well."""
        self.executions += len(done)
        if writer is None:
            self.findings.add(LOST, f"{what} has no checkpoint")
        if not done:
            self.findings.add(LOST, f"{what} has left no effect")
            return []
        sound = [mark for mark in done if mark.executor not in self._executors.harmed]
        if len(sound) > limit:
            self.findings.add(TWICE, f"{what} ran {len(sound)} times without a fault: {done}")
        own = [mark for mark in done if mark.executor == writer]
        if writer is not None and not own:
            self.findings.add(LOST, f"{what} was recorded by {writer} and left no effect there: {done}")
        if limit == 1:
            self.repeats += max(0, len(done) - 1)
            for mark in sound:
                if mark.executor != writer:
                    self.findings.add(
                        TWICE, f"{what} ran where nothing was done to it and did not count: {done}"
                    )
            return own[-1:]
        self.repeats += max(0, len(done) - limit)
        return [mark for mark in done if mark in own or mark.executor not in self._executors.last_begin]

    def _look_at_others(self, where: str, others: list[Mark]) -> None:
        """What does not count began before its executor could know that it was dead."""
        for mark in others:
            if mark.begun > self._executors.last_begin.get(mark.executor, NEVER):
                self.findings.add(AFTER_DEATH, f"{where}: {mark} began when its executor was dead")

    # -- order --------------------------------------------------------------------------------

    def _place(self, where: str, partition: int, key: int, span: Span, lanes: dict[int, Span]) -> None:
        if self._ordering == "none":
            return
        if self._ordering == "topic":
            self._topic.append((span, partition))
            return
        lane = key if self._ordering == "key" else 0
        last = lanes.get(lane)
        self._follow(where, span, last)
        if last is None or span.done > last.done:
            lanes[lane] = span

    def _follow(self, where: str, span: Span, last: Span | None) -> None:
        if last is not None and span.begun < last.done:
            self.findings.add(
                DISORDER,
                f"{where} began {(last.done - span.begun) / 1e6:.3f} ms before {last.offset}, ahead of it in "
                f"its lane, was done: {span}, {last}",
            )


def by_partition(rows: Iterator[tuple[int, EventRow]], partitions: int) -> Iterator[list[EventRow]]:
    """The rows of partition 0, 1, 2 and so on, of rows that come in this order; empty where there are none."""
    waiting = next(rows, None)
    for number in range(partitions):
        found = []
        while waiting is not None and waiting[0] == number:
            found.append(waiting[1])
            waiting = next(rows, None)
        yield found
