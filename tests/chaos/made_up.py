"""Effects and rows of a run that never was, in which everything is well until a test changes something."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.check import Checker, EventRow, Executors
from tests.chaos.events import SLEEP, SLEEP_SECONDS, STEPS, TWO, Events
from tests.chaos.findings import Findings
from tests.chaos.marks import Mark

MS = 1_000_000
STEP_MS = 10
"""In a made-up run each step takes half of this, and the next one begins when it is over."""


@dataclass
class MadeUp:
    """Events of one partition, one after the other, each by executor 1."""

    kinds: Sequence[int]
    keys: Sequence[int]
    ordering: str = "partition"
    harmed: frozenset[int] = frozenset()
    last_begin: dict[int, int] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    rows: list[EventRow] = field(default_factory=list)
    slept_ms: int = 0
    nobody_seconds: float = 0.0

    def __post_init__(self) -> None:
        for offset, kind in enumerate(self.kinds):
            for step in STEPS[kind]:
                if (kind, step) == (SLEEP, TWO):
                    self.slept_ms += int(SLEEP_SECONDS * 1000)
                self.mark(offset, step)
            writers = tuple((step, 1) for step in STEPS[kind])
            self.rows.append(EventRow(offset, "SUCCESS", 0, offset, writers))

    def mark(self, offset: int, step: int, *, at: int | None = None, executor: int = 1) -> Mark:
        """One more execution, by default when all that are there have ended."""
        begun = at if at is not None else STEP_MS * len(self.marks) + self.slept_ms
        done = begun + STEP_MS // 2
        made = Mark(begun * MS, done * MS, offset, executor, self.keys[offset], 0, step)
        self.marks.append(made)
        return made

    def end_of(self, offset: int, step: int) -> int:
        """When this step of this event has ended, in milliseconds."""
        return max(mark.done for mark in self.marks if (mark.offset, mark.step) == (offset, step)) // MS

    def checked(self) -> tuple[dict[str, int], Checker]:
        """What the checker finds, by kind."""
        findings = Findings()
        checker = Checker(
            self.ordering, Executors(self.harmed, self.last_begin, self.nobody_seconds), findings
        )
        events = Events(bytes(self.kinds), array("I", self.keys))
        checker.partition(0, events, self.marks, self.rows)
        checker.end()
        return dict(findings.counts), checker

    def found(self) -> dict[str, int]:
        return self.checked()[0]
