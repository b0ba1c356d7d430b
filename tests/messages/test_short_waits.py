"""A receipt that waits for milliseconds only, which notes nothing of its end, waits as long as it says."""

from time import monotonic
from typing import Any

import pytest

from dbos_events import App
from dbos_events.testing.plugin import MakeTestApp

SHORT = 0.2


@pytest.fixture
def app() -> App:
    return App()


def test_in_virtual_time_it_waits_for_what_others_send_meanwhile(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    @app.workflow()
    def waits() -> Any:
        return app.recv("t", timeout_seconds=SHORT)

    dbos = dbos_test_app(app)
    handle, vain = app.start_workflow(waits), app.start_workflow(waits)
    dbos.run_until_idle()
    assert handle.get_status().status == "PENDING"
    app.send(handle.workflow_id, "in time", "t")
    dbos.run_until_idle()
    assert handle.get_result() == "in time"
    assert vain.get_status().status == "PENDING"
    dbos.advance(seconds=SHORT)
    assert vain.get_status().status == "SUCCESS"


def test_where_memory_is_full_it_waits_no_shorter(
    app: App, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[float] = []
    monkeypatch.setattr("dbos_events.engine.runner.MOST_IN_MEMORY", 0)

    @app.workflow()
    async def waits() -> Any:
        began.append(monotonic())
        await app.recv_async("t", timeout_seconds=SHORT)
        return monotonic() - began[0]  # also where it was a row meanwhile

    app.configure({"name": "short", "system_database_url": database_url, "application_version": "1"})
    app.launch()
    try:
        assert app.start_workflow(waits).get_result() >= SHORT - 0.002
    finally:
        app.destroy()
