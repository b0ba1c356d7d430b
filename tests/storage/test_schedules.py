"""Rule 21 in the database: ten thousand schedules are found by what is due, and one of them stops no other."""

from dataclasses import replace

import pytest

from dbos_events.engine.schedules import begin_of
from dbos_events.errors import DBOSException
from dbos_events.model.schedule import ScheduleSpec
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.schedulerows import Server
from dbos_events.testing import ManualClock
from tests.storage.building import APP, change, register
from tests.storage.conftest import SCHEMA
from tests.storage.test_plans import looked_up, plan

SPEC = ScheduleSpec("daily", "work", "0 0 * * *")
FILL = f"""
INSERT INTO {SCHEMA}.schedules
    (application, name, schedule_id, source, revision, latest, position, repeat, reached, due_at, next_at, created_at,
     updated_at)
SELECT '{APP}', 's' || n, 'id', 'api', 1, 1, '2030-01-01T00:00:00', 0, 0, 4000000000000 + n, 4000000000000 + n, 0, 0
FROM generate_series(1, 10000) AS n
"""
FILL_SPECS = f"""
INSERT INTO {SCHEMA}.schedule_specs
    (application, name, revision, valid_from, paused, workflow_name, expression, dst, catch_up, catch_up_window_ms, overlap,
     jitter_ms, second, changed_by)
SELECT '{APP}', 's' || n, 1, 0, false, 'work', '0 0 * * *', 'once', 'last', 0, 'allow', 0, 'context', 'a test'
FROM generate_series(1, 10000) AS n
"""
ASKED = {"application": APP, "version": "v1", "names": ["work"], "declared": [], "but": []}


@pytest.mark.parametrize("analyzed", [False, True], ids=["without statistics", "with statistics"])
def test_what_is_due_is_found_by_an_index_among_ten_thousand(
    postgres_storage: SqlStorage, clock: ManualClock, analyzed: bool
) -> None:
    for table in ("schedules", "schedule_specs"):
        change(postgres_storage, f"ALTER TABLE {SCHEMA}.{table} SET (autovacuum_enabled = false)")
    change(postgres_storage, FILL)
    change(postgres_storage, FILL_SPECS)
    if analyzed:
        change(postgres_storage, f"ANALYZE {SCHEMA}.schedules, {SCHEMA}.schedule_specs")
    now = {"clock_now": clock.now_ms()}
    for name, more in (
        ("next_schedule", {"horizon_ms": 1000}),
        ("due_schedules", {"only": None, "count": 100}),
    ):
        text = plan(postgres_storage, name, **ASKED, **more, **now)
        found = looked_up(text, "schedules") | looked_up(text, "schedule_specs")
        assert "Seq Scan" not in found, text
        assert "schedules_due" in text, text


def test_a_process_is_told_when_something_of_its_own_is_due(storage: SqlStorage, clock: ManualClock) -> None:
    executor = register(storage)
    server = Server(executor, APP, "v1", ["work"], [])
    assert storage.schedules.next_due(server, 2**50) == (None, 0)
    begin = begin_of(APP, SPEC, clock.now_ms())
    assert storage.schedules.create(APP, SPEC, begin, by="a test")
    assert not storage.schedules.create(APP, SPEC, begin, by="a test")
    assert storage.schedules.next_due(server, 2**50) == (86_400_000, 0)
    assert storage.schedules.next_due(server, 1000) == (None, 0), "not within the next second"
    for other in (
        replace(server, names=["another function"]),
        replace(server, application="another application"),
        replace(server, but=["daily"]),
    ):
        assert storage.schedules.next_due(other, 2**50) == (None, 0)


def test_what_is_declared_in_code_is_served_by_whoever_declares_it(
    storage: SqlStorage, clock: ManualClock
) -> None:
    server = Server(register(storage), APP, "v1", ["work"], [])
    begin = begin_of(APP, SPEC, clock.now_ms())
    assert storage.schedules.declare(APP, "v1", SPEC, begin, by="a test")
    assert storage.schedules.next_due(server, 2**50) == (None, 0)
    assert storage.schedules.next_due(replace(server, declared=["daily"]), 2**50) == (86_400_000, 0)
    with pytest.raises(DBOSException, match="declared in code"):
        storage.schedules.apply(APP, [(replace(SPEC, expression="0 1 * * *"), begin)], by="a test")


def test_a_schedule_of_another_application_may_have_the_same_name(
    storage: SqlStorage, clock: ManualClock
) -> None:
    begin = begin_of(APP, SPEC, clock.now_ms())
    for application in (APP, "other"):
        assert storage.schedules.create(application, SPEC, begin, by="a test")
    assert [row.application for row in storage.schedules.find(None)] == ["other", APP]
    assert storage.schedules.delete(APP, "daily")
    assert not storage.schedules.delete(APP, "daily")
    assert [row.application for row in storage.schedules.find(None)] == ["other"]
