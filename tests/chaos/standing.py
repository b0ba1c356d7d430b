"""What the rows of the database say when all has come to rest: nothing is left over, nothing is missing."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter

import psycopg

from tests.chaos.check import EventRow
from tests.chaos.events import RAISE, STEP_NAMES
from tests.chaos.findings import CHURN, LOST, ORPHAN, STRANGE, Findings
from tests.faults.rows import Rows

WITHOUT_WORKFLOW = (
    "checkpoints", "payloads", "results", "events", "quarantine", "generations", "decisions", "edited_values",
    "published_values", "stream_entries", "waits", "parked_keys",
)  # fmt: skip

LEFT_OVER = {
    "workflow that came from Kafka and has no event": (
        "SELECT id FROM {t}workflows w WHERE consumer IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM {t}events e WHERE e.workflow_id = w.id)"
    ),
    "event that has finished and still holds its lane": (
        "SELECT id FROM {t}workflows WHERE lane_open AND status IN ('SUCCESS')"
    ),
    "event that is still held": "SELECT id FROM {t}workflows WHERE held AND status = 'PENDING'",
    "finished workflow that still waits for something": (
        "SELECT id FROM {t}workflows WHERE status IN ('SUCCESS', 'CANCELLED') "
        "AND (wake_at IS NOT NULL OR awaits IS NOT NULL)"
    ),
    "finished workflow that still waits for a publication": (
        "SELECT w.id FROM {t}workflows w WHERE w.status = 'SUCCESS' "
        "AND EXISTS (SELECT 1 FROM {t}waits o WHERE o.workflow_id = w.id)"
    ),
    "finished workflow that still waits for one of several keys": (
        "SELECT w.id FROM {t}workflows w WHERE w.status = 'SUCCESS' "
        "AND EXISTS (SELECT 1 FROM {t}parked_keys o WHERE o.workflow_id = w.id)"
    ),
    "message to a workflow that is not there": (
        "SELECT m.message_id FROM {t}messages m "
        "WHERE NOT EXISTS (SELECT 1 FROM {t}workflows w WHERE w.id = m.destination)"
    ),
    "child without a parent": (
        "SELECT id FROM {t}workflows k WHERE parent_id IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM {t}workflows w WHERE w.id = k.parent_id)"
    ),
    "checkpoint of a generation that never was": (
        "SELECT c.workflow_id || ' ' || c.generation FROM {t}checkpoints c "
        "JOIN {t}workflows w ON w.id = c.workflow_id WHERE c.generation > w.generation"
    ),
    "executor that lives after its process": "SELECT id FROM {t}executors WHERE alive",
}
"""Each query gives what must not be there."""

NOT_ENDED = (
    "SELECT id || ' is ' || status || COALESCE(', owner ' || owner, '') || COALESCE(', lane ' || lane, '') "
    "FROM {t}workflows WHERE status <> 'SUCCESS' "
    "AND NOT (status = 'CANCELLED' AND end_reason = 'timeout' AND name IN ('late', 'late child', 'quick'))"
)
NOT_RELEASED = "SELECT workflow_id FROM {t}quarantine WHERE released_at IS NULL"
PUT_ASIDE_WRONGLY = (
    "SELECT q.workflow_id || ': ' || q.reason FROM {t}quarantine q WHERE q.reason <> 'poison' AND NOT EXISTS ("
    "SELECT 1 FROM {t}events e WHERE e.workflow_id = q.workflow_id AND substr(e.value, 1, 2) = "
    f"convert_to('{RAISE} ', 'UTF8'))"
)
MOST_TAKINGS = 300
"""How often an event may be taken: by lane, after each try and each sleep, and by whoever follows one that has died."""
TAKEN_TOO_OFTEN = (
    f"SELECT id || ' was taken ' || take || ' times' FROM {{t}}workflows WHERE take > {MOST_TAKINGS}"
)
TOLD = 10

ROWS = """
SELECT w.partition, w.position, w.status, w.generation, COALESCE(w.lane_sequence, 0), c.name, c.writer
FROM {t}workflows w
LEFT JOIN {t}steps c ON c.workflow_id = w.id AND c.generation = w.generation AND c.error IS NULL
  AND c.name IN ('one', 'two', 'flaky')
WHERE w.consumer IS NOT NULL
UNION ALL
SELECT w.partition, w.position, w.status, w.generation, COALESCE(w.lane_sequence, 0), c.name, c.writer
FROM {t}workflows k
JOIN {t}workflows w ON w.id = k.parent_id
JOIN {t}steps c ON c.workflow_id = k.id AND c.generation = k.generation AND c.error IS NULL AND c.name = 'in_child'
ORDER BY 1, 2
"""


def look_at_rows(rows: Rows, ends: Mapping[int, int], findings: Findings) -> None:
    """Everything has ended and nothing is left over; the watermarks are at the ends of the log."""
    for table in WITHOUT_WORKFLOW:
        question = (
            f"SELECT o.workflow_id FROM {{t}}{table} o "
            "WHERE NOT EXISTS (SELECT 1 FROM {t}workflows w WHERE w.id = o.workflow_id)"
        )
        _add(rows, findings, ORPHAN, f"row of {table} without a workflow", question)
    for what, question in LEFT_OVER.items():
        _add(rows, findings, ORPHAN, what, question)
    _add(rows, findings, LOST, "not ended", NOT_ENDED)
    _add(rows, findings, LOST, "still in quarantine", NOT_RELEASED)
    _add(rows, findings, STRANGE, "put aside, and nobody asked for it", PUT_ASIDE_WRONGLY)
    _add(rows, findings, CHURN, "more than any fault explains", TAKEN_TOO_OFTEN)
    for gap in rows.gaps():
        findings.add(LOST, f"passed over, by (partition, first offset, next offset): {gap}")
    for hole in rows.unexplained_holes():
        findings.add(LOST, f"(partition, watermark, workflows, skipped) do not add up: {hole}")
    watermarks = rows.watermarks()
    for partition, end in ends.items():
        if watermarks.get(partition) != end:
            findings.add(
                LOST, f"the watermark of {partition} is {watermarks.get(partition)}, its log ends at {end}"
            )


def read_rows(url: str, schema: str = "dbos_events") -> Iterator[tuple[int, EventRow]]:
    """(partition, row) of all events by place, a page at a time."""
    with psycopg.connect(url) as connection, connection.cursor("chaos_rows") as cursor:
        cursor.itersize = 20_000
        cursor.execute(ROWS.replace("{t}", f"{schema}.").encode())
        for (partition, offset), lines in groupby(cursor, itemgetter(0, 1)):
            found = list(lines)
            writers = tuple((STEP_NAMES[line[5]], line[6]) for line in found if line[5] is not None)
            status, generation, sequence = found[0][2:5]
            yield partition, EventRow(offset, status, generation, sequence, writers)


def _add(rows: Rows, findings: Findings, kind: str, what: str, question: str) -> None:
    found = rows.query(f"SELECT count(*) OVER (), found.* FROM ({question}) AS found LIMIT {TOLD}")
    for number, row in enumerate(found):
        findings.add(kind, f"{what}: {row[1]}", row[0] - len(found) + 1 if number == 0 else 1)
