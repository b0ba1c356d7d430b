"""The triggers and the queries of a chaos run see each kind of violation in rows that were made up."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from tests.chaos.audit import FILLABLE, NEVER_DELETED
from tests.chaos.check import EventRow
from tests.chaos.crew import DEATH_SLACK_NS, Attendance, Crew, Harm
from tests.chaos.events import IN_CHILD, ONE, RAISE
from tests.chaos.findings import CHURN, KINDS, LOST, ORPHAN, REWRITTEN, STRANGE, TWICE, WENT_BACK, Findings
from tests.chaos.made_rows import Made
from tests.chaos.standing import LEFT_OVER, MOST_TAKINGS, WITHOUT_WORKFLOW, read_rows
from tests.chaos.worker import WorkerOptions
from tests.faults.workers import Worker

pytestmark = pytest.mark.postgres

# ------------------------------------------------------------------ what the triggers see


@pytest.mark.parametrize("column", ["next_offset", "epoch"])
def test_a_watermark_that_goes_back_is_seen_and_one_that_goes_on_is_not(made: Made, column: str) -> None:
    made.add("watermarks", consumer=1, **{column: 10})
    made.do(f"UPDATE {{t}}watermarks SET {column} = 11")
    assert made.watched() == {}
    made.do(f"UPDATE {{t}}watermarks SET {column} = 10")
    made.do(f"UPDATE {{t}}watermarks SET {column} = 11")
    assert made.watched() == {WENT_BACK: 1}


@pytest.mark.parametrize("table", NEVER_DELETED)
def test_a_row_that_is_deleted_is_seen(made: Made, table: str) -> None:
    made.add(table)
    made.do(f"DELETE FROM {{t}}{table}")
    assert made.watched() == {REWRITTEN: 1}


def test_an_executor_that_comes_back_to_life_is_seen(made: Made) -> None:
    made.add("executors", alive=True)
    made.do("UPDATE {t}executors SET alive = false")
    assert made.watched() == {}
    made.do("UPDATE {t}executors SET alive = true")
    assert made.watched() == {WENT_BACK: 1}


@pytest.mark.parametrize("column", ["take", "generation"])
def test_a_workflow_whose_numbers_go_back_is_seen(made: Made, column: str) -> None:
    made.event(**{column: 2})
    made.do(f"UPDATE {{t}}workflows SET {column} = 1")
    assert made.watched() == {WENT_BACK: 1}


def test_checkpoints_in_the_row_come_once_and_stay(made: Made) -> None:
    made.event()
    made.do("UPDATE {t}workflows SET own_checkpoints = '[]'")
    assert made.watched() == {}
    made.do("UPDATE {t}workflows SET own_checkpoints = NULL")
    assert made.watched() == {WENT_BACK: 1}


def test_an_outcome_is_written_once_in_each_generation(made: Made) -> None:
    made.event(status="PENDING")
    made.do("UPDATE {t}workflows SET status = 'ERROR'")
    made.do("UPDATE {t}workflows SET status = 'PENDING', generation = 1")
    made.do("UPDATE {t}workflows SET status = 'SUCCESS'")
    assert made.watched() == {}


def test_a_second_outcome_in_one_generation_is_seen(made: Made) -> None:
    made.event(status="PENDING")
    made.do("UPDATE {t}workflows SET status = 'SUCCESS'")
    made.do("UPDATE {t}workflows SET status = 'ERROR'")
    assert made.watched() == {TWICE: 1, REWRITTEN: 1}


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("checkpoints", "writer", 2),
        ("checkpoints", "output", "other"),
        ("results", "output", "other"),
        ("events", "value", b"other"),
        ("payloads", "input", "other"),
        ("messages", "value", "other"),
        ("messages", "sender", "other"),
        ("publications", "value", "other"),
        ("publications", "seen", -1),
        ("stream_entries", "value", "other"),
        ("ticks", "outcome", "missed"),
    ],
)
def test_what_was_recorded_and_is_changed_is_seen(made: Made, table: str, column: str, value: object) -> None:
    made.add(table)
    made.do(f"UPDATE {{t}}{table} SET {column} = ?", value)
    assert made.watched() == {REWRITTEN: 1}


def test_a_checkpoint_may_move_to_the_next_generation(made: Made) -> None:
    made.add("checkpoints")
    made.do("UPDATE {t}checkpoints SET generation = 1, recorded_in = 0")
    assert made.watched() == {}


@pytest.mark.parametrize("table", FILLABLE)
def test_a_full_disk_fails_every_write_to_a_table_until_there_is_room_again(made: Made, table: str) -> None:
    made.audit.fill_disk((table,))
    with pytest.raises(psycopg.errors.DiskFull):
        made.add(table)
    made.add("gaps")
    made.audit.fill_disk(())
    made.add(table)


# ------------------------------------------------------------------ what is left when all has ended


def test_rows_in_which_all_is_well_pass(made: Made) -> None:
    made.add("watermarks", consumer=1, incarnation=1, next_offset=2)
    made.add("incarnations", id=1)
    for offset in range(2):
        made.add("checkpoints", workflow_id=made.event(offset))
    assert made.stands({0: 2}) == {}


@pytest.mark.parametrize("table", WITHOUT_WORKFLOW)
def test_a_row_whose_workflow_is_not_there_is_an_orphan(made: Made, table: str) -> None:
    released = {"released_at": 1, "reason": "poison"} if table == "quarantine" else {}
    made.add(table, workflow_id="nobody", **released)
    assert made.stands() == {ORPHAN: 1}


def test_each_thing_that_may_be_left_over_is_found(made: Made) -> None:
    """Each in its turn, and nothing else with it."""

    def held() -> dict[str, int]:
        made.event(held=True, status="PENDING")
        return {ORPHAN: 1, LOST: 1}

    def orphan(table: str, **values: Any) -> dict[str, int]:
        if table == "checkpoints":
            made.event()
        made.add(table, **values)
        return {ORPHAN: 1}

    def ended(**values: Any) -> dict[str, int]:
        made.event(**values)
        return {ORPHAN: 1}

    cases: dict[str, Callable[[], dict[str, int]]] = {
        "workflow that came from Kafka and has no event": lambda: orphan(
            "workflows", id="w", consumer=1, status="SUCCESS"
        ),
        "event that has finished and still holds its lane": lambda: ended(lane_open=True),
        "event that is still held": held,
        "finished workflow that still waits for something": lambda: ended(wake_at=1),
        "finished workflow that still waits for a publication": lambda: orphan(
            "waits", workflow_id=made.event()
        ),
        "finished workflow that still waits for one of several keys": lambda: orphan(
            "parked_keys", workflow_id=made.event()
        ),
        "message to a workflow that is not there": lambda: orphan("messages", destination="nobody"),
        "child without a parent": lambda: orphan("workflows", id="c", parent_id="p", status="SUCCESS"),
        "checkpoint of a generation that never was": lambda: orphan(
            "checkpoints", workflow_id="kafka/chaos/0", generation=1
        ),
        "executor that lives after its process": lambda: orphan("executors", alive=True),
    }
    assert cases.keys() == LEFT_OVER.keys()
    for what, make in cases.items():
        made.empty()
        expected = make()
        assert made.stands() == expected, what


def test_what_has_not_ended_or_was_put_aside_is_found(made: Made) -> None:
    name = made.event(status="ERROR")
    made.add("quarantine", workflow_id=name, reason="handler-failed")
    assert made.stands() == {LOST: 2, STRANGE: 1}


@pytest.mark.parametrize(("value", "reason"), [(b"6 0", "handler-failed"), (b"1 0", "poison")])
def test_events_that_were_to_raise_may_be_put_aside_for_any_reason_and_others_may_not(
    made: Made, value: bytes, reason: str
) -> None:
    assert value != b"6 0" or RAISE == 6
    for offset, asked in enumerate((value, b"1 1", b"66 2")):
        name = made.event(offset)
        made.do("UPDATE {t}events SET value = ? WHERE workflow_id = ?", asked, name)
    made.add("quarantine", workflow_id="kafka/chaos/0", reason=reason, released_at=1)
    assert made.stands() == {}
    for offset in (1, 2):
        made.add("quarantine", workflow_id=f"kafka/chaos/{offset}", reason="handler-failed", released_at=1)
    assert made.stands() == {STRANGE: 2}


def test_an_event_that_is_taken_again_and_again_is_found(made: Made) -> None:
    made.event(take=MOST_TAKINGS)
    assert made.stands() == {}
    made.do("UPDATE {t}workflows SET take = take + 1")
    assert made.stands() == {CHURN: 1}


@pytest.mark.parametrize(("at", "end"), [(1, 2), (2, 1)])
def test_a_watermark_that_is_not_at_the_end_of_its_log_is_found(made: Made, at: int, end: int) -> None:
    made.add("incarnations", id=1)
    made.add("watermarks", consumer=1, incarnation=1, next_offset=at)
    for offset in range(at):
        made.event(offset)
    assert made.stands({0: end}) == {LOST: 1}


def test_an_offset_below_the_watermark_without_a_workflow_is_found(made: Made) -> None:
    made.add("incarnations", id=1)
    made.add("watermarks", consumer=1, incarnation=1, next_offset=2)
    made.event(1)
    assert made.stands({0: 2}) == {LOST: 1}
    made.add("gaps", consumer=1, incarnation=1, first_offset=0, next_offset=1, reason="missing")
    assert made.stands({0: 2}) == {LOST: 1}, "nothing was deleted from the log, so a gap is none"


def test_the_rows_of_events_come_with_who_wrote_their_checkpoints(made: Made) -> None:
    made.event(1, generation=1, lane_sequence=7)
    name = made.event(0)
    for values in ({"name": "one", "writer": 5}, {"name": "flaky", "error": "x", "step": 1}):
        made.add("checkpoints", workflow_id=name, **values)
    made.add("workflows", id="child", parent_id=name, status="SUCCESS")
    made.add("checkpoints", workflow_id="child", name="in_child", writer=6)
    made.add("checkpoints", workflow_id="kafka/chaos/1", name="one", writer=4)  # of the generation before
    assert list(read_rows(made.url)) == [
        (0, EventRow(0, "SUCCESS", 0, 0, ((ONE, 5), (IN_CHILD, 6)))),
        (0, EventRow(1, "SUCCESS", 1, 7, ())),
    ]


# ------------------------------------------------------------------ what became of executors


def test_harmed_are_executors_that_a_fault_met_and_those_that_died_without_one(
    made: Made, tmp_path: Path
) -> None:
    options = WorkerOptions("", "", "", "", {}, "async", "none")
    crew = Crew(options, tmp_path, Findings())
    now = time.time_ns() // 1_000_000
    for label, started, ended, reason in [
        ("struck", now - 50, now - 10, "no heartbeat"),
        ("struck", now - 5, None, None),  # what it became when it woke up
        ("fell by itself", now - 50, now - 10, "no heartbeat"),
        ("stopped at the end", now - 50, now - 10, "stopped"),
        ("lives", now - 50, None, None),
    ]:
        made.add("executors", label=label, started_at=started, ended_at=ended, end_reason=reason)
    crew.harms.append(Harm("struck", now - 20))
    thawed = time.monotonic_ns() + 10**10
    crew.thaws.append(("struck", thawed))
    executors, unexplained = crew.executors(made.rows)
    struck, _, fallen, stopped, _ = (
        row[0] for row in made.rows.query("SELECT id FROM {t}executors ORDER BY id")
    )
    assert executors.harmed == {struck, fallen}
    assert unexplained == 1
    assert executors.last_begin.keys() == {struck, fallen, stopped}
    assert executors.last_begin[struck] == thawed + DEATH_SLACK_NS
    assert executors.last_begin[fallen] < thawed


def test_findings_are_told_by_kind_and_nothing_is_none() -> None:
    findings = Findings()
    assert not findings
    for kind in KINDS:
        findings.add(kind, "this one", 3)
    assert findings
    assert str(findings).count("this one") == len(KINDS)


def test_the_time_is_counted_in_which_nobody_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    attendance = Attendance()
    first, second = (cast("Worker", object()) for _ in range(2))
    for at, does, worker in [
        (0.0, attendance.comes, first),
        (1.0, attendance.comes, second),
        (2.0, attendance.goes, first),
        (3.0, attendance.goes, first),  # it was told to stop, and then killed
        (4.0, attendance.goes, second),
        (9.0, attendance.comes, first),
        (11.0, attendance.goes, first),
        (12.0, attendance.comes, second),
    ]:
        monkeypatch.setattr(time, "monotonic", lambda at=at: at)
        does(worker)
    assert attendance.nobody_seconds == 6.0
