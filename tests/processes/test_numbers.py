"""Numbers of executors and starts: none is too large, and none is mistaken for another's that is the same."""

from typing import Any

import pytest
import sqlalchemy as sa

from dbos_events import App, SetWorkflowID
from dbos_events.clock import SystemClock
from dbos_events.errors import ExecutorFenced
from dbos_events.model.workflow import PENDING
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.taking import Taker
from tests.faults.rows import Rows
from tests.storage.building import begin, register, start, step, workflow, write


@pytest.fixture
def two(database_url: str) -> Any:
    """Two processes' views of one migrated database."""
    storages = [open_storage(database_url, schema="dbos_events", clock=SystemClock()) for _ in range(2)]
    migrate(storages[0])
    yield storages
    for storage in storages:
        storage.close()


def lose_the_starts(storage: SqlStorage) -> None:
    """As a fail-over to a server that had not heard of them: the rows are gone, and the numbers begin anew."""
    database = storage.database
    with database.engine.begin() as connection:
        if database.dialect.is_postgres:
            connection.execute(sa.text("TRUNCATE dbos_events.executors RESTART IDENTITY"))
        else:
            connection.execute(sa.text("DELETE FROM executors"))


def test_rule_1_who_has_a_number_that_was_given_out_again_is_fenced(two: list[SqlStorage]) -> None:
    first, second = two
    old = register(first)
    lose_the_starts(first)
    new = register(second)
    assert new == old, "the number came again"
    begin(second, new, "w")

    for writes in ([step("w")], [step("w"), start("other")], [start("another")]):
        with pytest.raises(ExecutorFenced):
            write(first, old, *writes)
    with pytest.raises(ExecutorFenced):
        first.taking.wake_due(Taker(old, "app", "v1", ["work"]), 9)
    assert not first.executors.renew(old, 1000)
    first.executors.release(old)

    assert second.executors.renew(new, 1000), "the stop of the old one has not ended the new one"
    write(second, new, step("w"))
    assert workflow(second, "w").status == PENDING
    assert len(second.workflows.list_steps("w")) == 1


def test_a_process_whose_number_was_given_out_again_goes_on_as_another_executor(database_url: str) -> None:
    app = App({"name": "jobs", "system_database_url": database_url, "lease_seconds": 1.0})

    @app.workflow()
    def job() -> int:
        return 7

    with app:
        before = app.core.executor
        other = open_storage(database_url, schema="dbos_events", clock=SystemClock())
        other.now_ms()  # connected: the App itself must not be the first one that starts again
        lose_the_starts(app.launched.storage)
        assert register(other) == before
        other.close()

        assert app.start_workflow(job).get_result() == 7
        assert app.core.executor != before
    assert Rows(database_url).query("SELECT COUNT(*) FROM {t}workflows WHERE owner = " + str(before)) == [
        (0,)
    ]


def test_after_nine_million_starts_of_processes_workflows_still_start(database_url: str) -> None:
    storage = open_storage(database_url, schema="dbos_events", clock=SystemClock())
    migrate(storage)
    many = 9_000_000
    on_postgres = storage.database.dialect.is_postgres
    before = register(storage)
    skip = (
        f"ALTER TABLE dbos_events.executors ALTER id RESTART WITH {many}"
        if on_postgres
        else f"UPDATE executors SET id = {many}, alive = false WHERE id = {before}"
    )
    with storage.database.engine.begin() as connection:
        connection.execute(sa.text(skip))
    storage.close()

    app = App({"name": "jobs", "system_database_url": database_url})

    @app.workflow()
    def parent() -> int:
        return child()

    @app.workflow()
    def child() -> int:
        return 7

    with app:
        assert app.core.executor >= many
        with SetWorkflowID("p"):
            assert app.start_workflow(parent).get_result() == 7


def test_start_ids_of_a_process_grow_and_fit_whatever_its_number(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.randbits", lambda bits: 2**bits - 1)  # the largest that chance may give
    with App({"name": "jobs", "system_database_url": database_url}) as app:
        app.core.executor = 2**32 - 1
        ids = [app.core.next_start_id() for _ in range(3)]
        assert ids == sorted(set(ids))
        assert ids[-1] + 10**12 < 2**63
        app.core.executor = 0
