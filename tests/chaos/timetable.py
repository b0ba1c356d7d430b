"""What must hold of queues and of the schedule: no limit is exceeded, every second has one outcome."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tests.chaos.conversations import NARROW_LIMIT, PACED_LIMIT, PACED_SECONDS, SCHEDULE
from tests.chaos.findings import LIMIT, LOST, STRANGE, TWICE, Findings
from tests.faults.rows import Rows

SECOND = timedelta(seconds=1)
OUTCOMES = {"ran": True, "paused": False}
"""Those that there may be where ticks are all caught up with, and whether they start a workflow."""


class Move(NamedTuple):
    """A workflow of a queue begins to use a slot (`runs`) or stops; or one with a deduplication id comes or goes."""

    workflow: str
    deduplication_id: str | None
    move: str


class Tick(NamedTuple):
    """What became of a nominal time, or of all until another one."""

    nominal: str
    until: int | None
    outcome: str
    workflow: str | None

    def seconds(self) -> list[datetime]:
        """The nominal times that it is the outcome of."""
        first = datetime.fromisoformat(self.nominal).replace(tzinfo=UTC)
        last = first if self.until is None else datetime.fromtimestamp(self.until / 1000, UTC)
        return [first + SECOND * number for number in range((last - first) // SECOND + 1)]


def look_at_slots(moves: Iterable[Move], findings: Findings) -> None:
    """In the queue with few slots, in the order of the commits, no more run at once than may."""
    running: set[str] = set()
    for workflow, _, move in moves:
        if move == "runs":
            running.add(workflow)
            if len(running) > NARROW_LIMIT:
                findings.add(LIMIT, f"{len(running)} run at once, {NARROW_LIMIT} may: {sorted(running)}")
        elif move == "stops":
            running.discard(workflow)
    for workflow in running:
        findings.add(LOST, f"{workflow} keeps its slot for ever")


def look_at_duplicates(moves: Iterable[Move], findings: Findings) -> None:
    """Of one deduplication id, one goes before the next one comes."""
    holders: dict[str | None, str] = {}
    for workflow, name, move in moves:
        if move == "comes":
            if name in holders:
                findings.add(TWICE, f"{workflow} and {holders[name]} are both there under {name}")
            holders[name] = workflow
        elif move == "goes" and holders.get(name) == workflow:
            del holders[name]


def look_at_pace(starts: Iterable[int], findings: Findings) -> None:
    """Within any time of the paced queue's length no more are started than may be."""
    times = sorted(starts)
    for first, last in zip(times, times[PACED_LIMIT:], strict=False):
        if last - first < PACED_SECONDS * 1000:
            findings.add(LIMIT, f"{PACED_LIMIT + 1} were started within {last - first} ms, from {first} on")


def look_at_ticks(ticks: Sequence[Tick], workflows: Mapping[str, str], findings: Findings) -> int:
    """Each second from the first to the last has one outcome; `workflows` are what was started, and how each ended.

    Gives how many ticks have run.
    """
    started = Counter(tick.workflow for tick in ticks if tick.workflow is not None)
    for tick in ticks:
        if (tick.workflow is not None) != OUTCOMES.get(tick.outcome):
            findings.add(STRANGE, f"no such outcome was asked for: {tick}")
        elif tick.workflow is not None and workflows.get(tick.workflow) != "SUCCESS":
            findings.add(LOST, f"{tick} has not run: {workflows.get(tick.workflow)}")
    for workflow, count in started.items():
        if count > 1:
            findings.add(TWICE, f"{workflow} was started by {count} ticks")
    for workflow in workflows.keys() - started.keys():
        findings.add(STRANGE, f"{workflow} was started by no tick")
    _look_at_seconds(Counter(second for tick in ticks for second in tick.seconds()), findings)
    return len(started)


def _look_at_seconds(outcomes: Mapping[datetime, int], findings: Findings) -> None:
    if not outcomes:
        findings.add(LOST, "no tick has an outcome")
        return
    at, last = min(outcomes), max(outcomes)
    while at <= last:
        if outcomes.get(at, 0) != 1:
            findings.add(
                TWICE if at in outcomes else LOST, f"the tick of {at} has {outcomes.get(at, 0)} outcomes"
            )
        at += SECOND


def read_moves(rows: Rows, queue: str) -> list[Move]:
    """In the order of the commits; at the same moment what stops comes first, for it was seen."""
    return [
        Move(*row)
        for row in rows.query(
            "SELECT workflow_id, deduplication_id, move FROM chaos.moves WHERE queue = ? "
            "ORDER BY pg_xact_commit_timestamp(xid::xid), move IN ('runs', 'comes')",
            (queue,),
        )
    ]


def read_starts(rows: Rows, queue: str) -> list[int]:
    return [at for (at,) in rows.query("SELECT started_at FROM chaos.starts WHERE queue = ?", (queue,))]


def read_ticks(rows: Rows) -> tuple[list[Tick], dict[str, str]]:
    ticks = rows.query(
        "SELECT nominal, until, outcome, workflow_id FROM {t}ticks WHERE schedule = ?", (SCHEDULE,)
    )
    workflows = rows.query("SELECT id, status FROM {t}workflows WHERE schedule_name = ?", (SCHEDULE,))
    return [Tick(*tick) for tick in ticks], {workflow: status for workflow, status in workflows}  # noqa: C416
