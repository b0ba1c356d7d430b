"""An App that is being destroyed is there for what still runs."""

import threading

from dbos_events import App
from tests.engine.gates import PATIENCE
from tests.faults.rows import Rows


def test_what_runs_while_the_app_is_destroyed_may_start_children_and_ask_for_them(sqlite_url: str) -> None:
    app = App({"name": "destroying", "system_database_url": sqlite_url})
    runs, draining = threading.Event(), threading.Event()

    @app.workflow()
    def child() -> int:
        return 7

    @app.workflow()
    def parent() -> int:
        runs.set()
        assert draining.wait(PATIENCE)
        handle = app.start_workflow(child)
        assert handle.get_status().workflow_id == handle.workflow_id
        return handle.get_result()

    app.launch()
    drain = app.launched.drain

    def drain_and_tell() -> None:
        drain()
        draining.set()

    app.launched.drain = drain_and_tell  # type: ignore[method-assign]
    app.start_workflow(parent)
    assert runs.wait(PATIENCE)
    app.destroy(workflow_completion_timeout_sec=PATIENCE)

    assert Rows(sqlite_url).query("SELECT name, status FROM {t}workflows ORDER BY created_at") == [
        (parent.__qualname__, "SUCCESS"),
        (child.__qualname__, "SUCCESS"),
    ]
    assert not app.is_launched
