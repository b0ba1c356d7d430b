"""Many workflows that wait for messages: as rows when memory is full, and woken together."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from dbos_events import App, SetWorkflowID
from dbos_events.testing.plugin import MakeTestApp

MANY = 25


@pytest.fixture
def app() -> App:
    return App()


def receivers(app: App, received: Counter[int], *, topic: str | None = "t") -> tuple[Any, Any]:
    @app.workflow()
    def receive() -> None:
        received[app.recv(topic, timeout_seconds=3600)] += 1

    @app.workflow()
    async def receive_async() -> None:
        received[await app.recv_async(topic, timeout_seconds=3600)] += 1

    return receive, receive_async


def start(app: App, workflow: Any, *, is_async: bool) -> list[str]:
    ids = [f"w{number}" for number in range(MANY)]

    async def all_of_them() -> None:
        for id_ in ids:
            with SetWorkflowID(id_):
                await app.start_workflow_async(workflow)

    if is_async:
        asyncio.run(all_of_them())
        return ids
    for id_ in ids:
        with SetWorkflowID(id_):
            app.start_workflow(workflow)
    return ids


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_all_that_is_due_is_woken_batch_by_batch_and_receives_once(
    app: App, dbos_test_app: MakeTestApp, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    monkeypatch.setattr("dbos_events.runtime.timers.BATCH", 4)
    received: Counter[int] = Counter()
    workflow = receivers(app, received)[is_async]
    dbos = dbos_test_app(app, park_after_seconds=0.0)
    ids = start(app, workflow, is_async=is_async)
    dbos.run_until_idle()
    assert dbos.core.runner.active == {}
    for number, id_ in enumerate(ids):
        app.send(id_, number, topic="t")
    dbos.run_until_idle()
    assert received == Counter(range(MANY))


def test_who_is_woken_by_a_message_does_not_look_for_it_alone(
    app: App, dbos_test_app: MakeTestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: Counter[int] = Counter()
    workflow, _ = receivers(app, received)
    dbos = dbos_test_app(app, park_after_seconds=0.0)
    ids = start(app, workflow, is_async=False)
    dbos.run_until_idle()
    for id_ in ids:
        app.send(id_, -1, topic="another")  # the oldest message of these is one that nobody waits for
        break
    for number, id_ in enumerate(ids):
        app.send(id_, number, topic="t")
    looked: list[str] = []
    look = dbos.core.storage.messages.look

    def counted(workflow_id: str, *args: Any) -> Any:
        looked.append(workflow_id)
        return look(workflow_id, *args)

    monkeypatch.setattr(dbos.core.storage.messages, "look", counted)
    dbos.run_until_idle()
    assert received == Counter(range(MANY))
    assert set(looked) <= {ids[0]}


def test_what_waits_in_a_process_with_many_runs_becomes_a_row_at_once(
    app: App, dbos_test_app: MakeTestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbos_events.engine.runner.MOST_IN_MEMORY", 5)
    received: Counter[int] = Counter()
    _, workflow = receivers(app, received)
    dbos = dbos_test_app(app, park_after_seconds=3600.0)
    ids = start(app, workflow, is_async=True)
    dbos.run_until_idle()
    assert len(dbos.core.runner.active) <= 6
    for number, id_ in enumerate(ids):
        app.send(id_, number, topic="t")
    dbos.run_until_idle()
    assert received == Counter(range(MANY))
