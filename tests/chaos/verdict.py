"""All that must hold of what a run has left behind: its effects, its rows, and what the database has seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.audit import Audit
from tests.chaos.check import Checker, Executors, by_partition
from tests.chaos.events import Events
from tests.chaos.findings import LOST, Findings
from tests.chaos.marks import read_marks, sort_by_partition
from tests.chaos.plan import Plan
from tests.chaos.standing import look_at_rows, read_rows
from tests.faults.rows import Rows


def reach_verdict(
    plan: Plan,
    folder: Path,
    audit: Audit,
    events: Sequence[Events],
    executors: Executors,
    ends: Mapping[int, int],
    findings: Findings,
) -> Checker:
    """Add what is wrong to the findings; `ends` are those of the topic's log."""
    checker = Checker(plan.ordering, executors, findings)
    paths = sort_by_partition(sorted((folder / "marks").iterdir()), folder / "by_partition", plan.partitions)
    rows = by_partition(read_rows(audit.rows.url), plan.partitions)
    for number, (path, asked, those) in enumerate(zip(paths, events, rows, strict=True)):
        checker.partition(number, asked, read_marks(path), those)
    checker.end()
    look_at_rows(Rows(audit.rows.url), ends, findings)
    for number, end in ends.items():
        if end != len(events[number]):
            findings.add(LOST, f"the log of {number} ends at {end}, not at {len(events[number])}")
    audit.look(findings)
    return checker
