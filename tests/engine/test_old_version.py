"""`on_old_version="wait"`: started work waits for a process of its version, and is told."""

from typing import Any

import pytest

from dbos_events import App
from dbos_events.testing import ManualClock, TestApp
from dbos_events.testing.plugin import MakeTestApp

DAY = 86_400.0


def shop() -> App:
    app = App({"name": "shop"})
    app.queue("work")

    @app.workflow(name="handler")
    def handler(seconds: float) -> str:
        app.sleep(seconds)
        return "done"

    return app


def alarms(app: App) -> list[str]:
    return [text for text in app.health().problems if text.startswith("old-version: ")]


@pytest.mark.parametrize("queued", [False, True])
def test_started_work_waits_for_its_version_and_what_has_not_started_does_not(
    queued: bool, database_url: str
) -> None:
    clock = ManualClock()
    first = shop()
    handler = first.registry.workflows["handler"].wrapper
    with TestApp(first, database_url=database_url, clock=clock, application_version="1") as dbos:
        start = first.queue("work").enqueue if queued else first.start_workflow
        started = start(handler, DAY).workflow_id
        dbos.run_until_idle()
        unstarted = first.queue("work").enqueue(handler, 0.0).workflow_id

    second = shop()
    options: dict[str, Any] = {"database_url": database_url, "clock": clock, "on_old_version": "wait"}
    with TestApp(second, application_version="2", **options) as dbos:
        dbos.advance(days=2)
        assert second.get_workflow_status(unstarted).status == "SUCCESS"  # type: ignore[union-attr]
        assert second.get_workflow_status(started).status in ("PENDING", "ENQUEUED")  # type: ignore[union-attr]
        dbos.advance(seconds=31)
        [alarm] = alarms(second)
        assert "at least 1 started workflows wait for a process of version '1'" in alarm

    third = shop()
    with TestApp(third, application_version="1", **options) as dbos:
        dbos.run_until_idle()
        assert third.get_workflow_status(started).status == "SUCCESS"  # type: ignore[union-attr]
        dbos.advance(seconds=31)
        assert alarms(third) == []


def test_by_default_current_code_takes_it(dbos_test_app: MakeTestApp) -> None:
    app = shop()
    dbos = dbos_test_app(app, application_version="1")
    handle = app.start_workflow(app.registry.workflows["handler"].wrapper, DAY)
    dbos.run_until_idle()
    dbos.crash(application_version="2")
    dbos.advance(days=2)
    assert handle.get_result() == "done"
    assert alarms(app) == []
