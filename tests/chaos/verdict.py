"""All that must hold of what a run has left behind: its effects, its rows, and what the database has seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.audit import Audit
from tests.chaos.check import Checker, Executors, by_partition
from tests.chaos.conversations import NARROW, PACED, Conversation
from tests.chaos.events import Events
from tests.chaos.findings import LOST, Findings
from tests.chaos.hearing import Listener
from tests.chaos.marks import read_marks, sort_by_partition
from tests.chaos.plan import Plan
from tests.chaos.said import read_said
from tests.chaos.standing import look_at_rows, read_rows
from tests.chaos.talking import read_heard
from tests.chaos.timetable import (
    look_at_duplicates,
    look_at_pace,
    look_at_slots,
    look_at_ticks,
    read_moves,
    read_starts,
    read_ticks,
)
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


def listen(
    folder: Path, audit: Audit, talks: Sequence[Conversation], executors: Executors, findings: Findings
) -> dict[str, int]:
    """Add what is wrong with what was said, with queues and with ticks; gives how much there was of them."""
    rows = audit.rows
    said = read_said(rows, read_heard(sorted((folder / "talk").iterdir())))
    Listener(said, findings, executors).listen(talks)
    moves, starts = read_moves(rows, NARROW), read_starts(rows, PACED)
    look_at_slots(moves, findings)
    look_at_duplicates(moves, findings)
    look_at_pace(starts, findings)
    return {
        "conversations": len(talks),
        "messages": len(said.messages),
        "publications": len(said.publications),
        "stream entries": len(said.entries),
        "ran on a narrow queue": sum(move.move == "runs" for move in moves),
        "started on a paced queue": len(starts),
        "ticks that ran": look_at_ticks(*read_ticks(rows), findings),
    }
