"""What the database refuses of one workflow, for no reason that lies in a value, keeps no other workflow waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dbos_events import App
from dbos_events.engine import committer, later
from tests.engine.gates import PATIENCE

pytestmark = pytest.mark.postgres

TRIGGER = """
CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF {row} = 'bad' THEN RAISE EXCEPTION 'the auditor is away'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit BEFORE INSERT OR UPDATE ON dbos_events.{table}
FOR EACH ROW EXECUTE FUNCTION public.audit();
"""


@pytest.fixture
def app(migrated_postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setattr(committer, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(committer, "MAX_PAUSE", 0.01)
    monkeypatch.setattr(later, "PAUSE", 0.1)
    app = App({"name": "apart", "system_database_url": migrated_postgres})
    yield app
    app.destroy()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("table", "row"), [("checkpoints", "NEW.workflow_id"), ("results", "NEW.workflow_id")]
)
def test_a_trigger_of_others_that_refuses_one_workflow_holds_up_that_one_only(
    app: App, migrated_postgres: str, table: str, row: str, kind: str
) -> None:
    ran: list[str] = []
    lock = threading.Lock()

    def note(name: str) -> str:
        with lock:
            ran.append(name)
        return name

    if kind == "sync":

        @app.workflow(name="job")
        def job(name: str) -> str:
            return app.run_step(None, note, name) + app.run_step(None, note, name)
    else:

        async def note_async(name: str) -> str:
            return note(name)

        @app.workflow(name="job")
        async def job(name: str) -> str:  # type: ignore[misc]
            first = await app.run_step_async(None, note_async, name)
            return first + await app.run_step_async(None, note_async, name)

    app.launch()
    with psycopg.connect(migrated_postgres) as connection:
        connection.execute(TRIGGER.format(table=table, row=row))
    queue = app.queue("q")
    handles: dict[str, Any] = {}
    from dbos_events import SetWorkflowID

    for name in ("a", "bad", "b", "c"):
        with SetWorkflowID(name):
            handles[name] = queue.enqueue(job, name)
    for name in ("a", "b", "c"):
        assert handles[name].get_result() == name + name
    with SetWorkflowID("d"):
        assert queue.enqueue(job, "d").get_result() == "dd", "what comes later does not wait either"
    assert handles["bad"].get_status().status == "PENDING"
    end = time.monotonic() + PATIENCE
    while not any("auditor is away" in problem for problem in app.health().problems):
        assert time.monotonic() < end, app.health().problems
        time.sleep(0.01)
    with psycopg.connect(migrated_postgres) as connection:
        connection.execute(f"DROP TRIGGER audit ON dbos_events.{table}")
    assert handles["bad"].get_result() == "badbad"
    assert ran.count("bad") == 2, "each step ran once"
    while app.health().problems:
        assert time.monotonic() < end, app.health().problems
        time.sleep(0.01)
