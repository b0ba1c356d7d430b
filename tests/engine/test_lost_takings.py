"""Workflows that were taken by a commit whose answer was lost are run, once (protocol, rule 2)."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dbos_events import App
from dbos_events.errors import StorageUnavailable
from dbos_events.storage.families.taking import TakingTable
from dbos_events.testing.plugin import MakeTestApp
from tests.engine.gates import PATIENCE


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def lose_answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The next call of a storage's method that takes something is done, and its answer lost."""

    def lose(name: str) -> None:
        method: Callable[..., Any] = getattr(TakingTable, name)

        def take(*args: Any) -> Any:
            if method(*args):
                monkeypatch.undo()
                raise StorageUnavailable("the connection is lost")
            return []

        monkeypatch.setattr(TakingTable, name, take)

    return lose


@pytest.mark.parametrize("taking", ["claim", "claim_resumed", "take_due", "adopt_from_dead"])
def test_what_a_taking_without_an_answer_has_made_ours_is_run(
    app: App, dbos_test_app: MakeTestApp, lose_answer: Callable[[str], None], taking: str
) -> None:
    line = app.queue("line", concurrency=1)
    runs: list[int] = []

    @app.workflow()
    def job() -> str:
        runs.append(1)
        if taking == "adopt_from_dead" and len(runs) == 1:
            dbos.crash()
        if taking != "claim":
            app.sleep(60)
        return "done"

    dbos = dbos_test_app(app)
    handle = line.enqueue(job) if taking == "claim" else app.start_workflow(job)
    if taking == "claim_resumed":
        dbos.run_until_idle()
        app.cancel_workflow(handle.workflow_id)
        app.resume_workflow(handle.workflow_id)
    lose_answer(taking)
    with pytest.raises(StorageUnavailable):
        dbos.advance(seconds=61)
    dbos.advance(seconds=61)
    assert handle.get_status().status == "SUCCESS"


def test_what_runs_here_is_not_taken_for_lost(
    app: App, dbos_test_app: MakeTestApp, lose_answer: Callable[[str], None]
) -> None:
    line = app.queue("line")
    began, go_on = threading.Semaphore(0), threading.Event()
    runs: list[str] = []

    @app.workflow()
    def job(name: str) -> None:
        runs.append(name)
        began.release()
        assert go_on.wait(PATIENCE)

    dbos = dbos_test_app(app)
    launched = app.launched
    line.enqueue(job, "held")
    launched.queues.tick()
    assert began.acquire(timeout=PATIENCE)
    line.enqueue(job, "lost")
    lose_answer("claim")
    with pytest.raises(StorageUnavailable):
        launched.queues.tick()
    launched.recovery.tick()
    assert began.acquire(timeout=PATIENCE)
    assert runs == ["held", "lost"]
    go_on.set()
    dbos.run_until_idle()
    assert runs == ["held", "lost"]
    assert launched.core.storage.taken_by(launched.core.executor) == []
