"""Limits of a queue hold to the number under eight processes of which some are killed (protocol, rule 22)."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbos_events import App
from dbos_events.model.workflow import WorkflowStatus

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("queuer.py")
PROCESSES = 8
KILLED = 4
BACKLOG = 40
OTHERS = 4
EACH = 8
CONCURRENCY, OF_PARTITION, RATE, PERIOD_MS = 6, 2, 12, 1000


@pytest.fixture
def crew(database_url: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that serve the queue."""
    found: list[subprocess.Popen[str]] = []
    found.append(_worker(database_url))  # the first one makes the schema
    _await_ready(found[0])
    found += [_worker(database_url) for _ in range(PROCESSES - 1)]
    for process in found[1:]:
        _await_ready(process)
    yield found
    for process in found:
        process.kill()
        process.communicate()


def _worker(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def enqueue(app: App, partition: str, count: int) -> None:
    for number in range(count):
        app.enqueue_workflow_with_options(
            {"workflow_name": "job", "queue_name": "q", "queue_partition_key": partition}, number
        )


@pytest.mark.timeout(240)
def test_limits_hold_to_the_number_while_processes_are_killed(
    crew: list[subprocess.Popen[str]], database_url: str
) -> None:
    app = App({"name": "jobs", "system_database_url": database_url, "application_version": "1"})
    with app:
        enqueue(app, "backlog", BACKLOG)
        for number in range(OTHERS):
            enqueue(app, f"p{number}", EACH)
        rows = _await_all(app, crew)
    assert {row.status for row in rows} == {"SUCCESS"}
    assert len(rows) == BACKLOG + OTHERS * EACH
    spans = [(row.started_at or 0, row.completed_at or 0, row.queue_partition_key) for row in rows]
    assert most_at_once([(begin, end) for begin, end, _ in spans]) <= CONCURRENCY
    for partition in {key for _, _, key in spans}:
        assert most_at_once([(begin, end) for begin, end, key in spans if key == partition]) <= OF_PARTITION
    assert most_in_a_window([begin for begin, _, _ in spans]) <= RATE
    ends = {key: max(end for _, end, one in spans if one == key) for _, _, key in spans}
    assert max(ends, key=lambda key: ends[key]) == "backlog", (
        "nobody waits behind the backlog of another partition"
    )


def _await_all(app: App, crew: list[subprocess.Popen[str]]) -> list[WorkflowStatus]:
    """Kill a process each time that some more have ended, and give all rows in the end."""
    alive = list(crew)
    total = BACKLOG + OTHERS * EACH
    while True:
        rows = app.list_workflows(load_input=False, load_output=False)
        counts = Counter(row.status for row in rows)
        done = counts["SUCCESS"]
        if done == total:
            return rows
        if len(crew) - len(alive) < KILLED and done >= (len(crew) - len(alive) + 1) * total // (KILLED + 2):
            alive.pop().kill()
        time.sleep(0.02)


def most_at_once(spans: list[tuple[int, int]]) -> int:
    """How many of the spans cover one moment, at most; where one ends, another may begin."""
    edges = sorted([(end, -1) for _, end in spans] + [(begin, 1) for begin, _ in spans])
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def most_in_a_window(starts: list[int]) -> int:
    """How many starts lie within one period, at most."""
    ordered = sorted(starts)
    return max(sum(1 for one in ordered if first <= one < first + PERIOD_MS) for first in ordered)
