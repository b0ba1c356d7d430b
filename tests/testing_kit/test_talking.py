"""Messages and publications in tests: time jumps to deadlines, and a wait that nothing can end is named."""

import asyncio
from typing import Any

import pytest

from dbos_events import App
from dbos_events.errors import DBOSException
from dbos_events.testing.plugin import MakeTestApp


@pytest.fixture
def app() -> App:
    return App()


def test_what_is_sent_and_published_in_a_test_is_worked_off_at_once(
    app: App, dbos_test_app: MakeTestApp
) -> None:
    got: list[Any] = []

    @app.workflow()
    def waits() -> None:
        got.append(app.recv("a", timeout_seconds=None))
        got.append(app.wait_for("b", "1", timeout_seconds=None))

    dbos = dbos_test_app(app)
    handle = app.start_workflow(waits)
    dbos.send(handle.workflow_id, 1, "a", idempotency_key="k")
    assert got == [1]
    dbos.publish("b", "1", 2, event_id="e")
    assert got[-1] == 2


def test_time_jumps_to_the_first_deadline_of_those_who_wait(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    async def waits() -> list[int]:
        times: list[int] = []

        async def until(seconds: float, wait: Any) -> None:
            assert await wait(seconds) is None
            times.append(dbos.clock.now_ms())

        await asyncio.gather(
            until(300, lambda seconds: app.recv_async(timeout_seconds=seconds)),
            until(200, lambda seconds: app.wait_for_async("a", "1", timeout_seconds=seconds)),
            until(100, lambda seconds: app.recv_async("t", timeout_seconds=seconds)),
        )
        return times

    dbos = dbos_test_app(app)
    began = dbos.clock.now_ms()

    async def start() -> str:
        return (await app.start_workflow_async(waits)).workflow_id

    workflow_id = asyncio.run(start())
    times = app.retrieve_workflow(workflow_id).get_result()
    assert times[-1] == began + 300_000


def test_a_wait_that_nothing_can_end_is_named(app: App, dbos_test_app: MakeTestApp) -> None:
    @app.workflow()
    def receives() -> Any:
        return app.recv("answer", timeout_seconds=None)

    @app.workflow()
    def waits() -> Any:
        return app.wait_for_any([("payment", "7"), ("cancel", "7")], timeout_seconds=None)

    dbos_test_app(app)
    with pytest.raises(DBOSException, match=r"waits for message/.*answer"):
        receives()
    with pytest.raises(DBOSException) as failure:
        waits()
    assert "the publication 'payment' under '7'" in str(failure.value)
    assert "the publication 'cancel' under '7'" in str(failure.value)
