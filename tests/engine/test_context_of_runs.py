"""Each run begins with context variables of its own: those of the launch, or of its caller."""

import asyncio
import contextvars
import json
from typing import Any

import pytest

from dbos_events import App, KafkaMessage, SetWorkflowID
from dbos_events.testing.plugin import MakeTestApp

tenant: contextvars.ContextVar[str | None] = contextvars.ContextVar("tenant", default=None)


class Noting:
    """Notes what was there before, and leaves something behind; a filter, key, codec and serializer in one."""

    def __init__(self) -> None:
        self.found: dict[str, list[str | None]] = {}

    def at(self, place: str) -> None:
        self.found.setdefault(place, []).append(tenant.get())
        tenant.set(f"left by {place}")

    def when(self, _message: KafkaMessage) -> bool:
        self.at("when")
        return True

    def ordering_key(self, _message: KafkaMessage) -> bytes:
        self.at("ordering_key")
        return b"k"

    def decode(self, message: KafkaMessage[bytes]) -> bytes:
        return message.value

    def name(self) -> str:
        return "noting"

    def serialize(self, data: Any) -> str:
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        self.at("deserialize")
        return json.loads(serialized_data)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_no_event_finds_what_another_one_has_left(
    dbos_test_app: MakeTestApp, database: str, request: pytest.FixtureRequest
) -> None:
    noting = Noting()
    app = App({"name": "shop", "serializer": noting, "max_executor_threads": 1})

    @app.kafka_consumer(
        topics=["sync"], when=noting.when, ordering="key", ordering_key=noting.ordering_key, codec=noting
    )
    def plain(_message: KafkaMessage[Any]) -> None:
        noting.at("sync")

    @app.kafka_consumer(topics=["async"])
    async def suspending(_message: KafkaMessage) -> None:
        noting.at("async")
        await asyncio.sleep(0)

    queue = app.queue("q")

    @app.workflow()
    def queued(number: int) -> None:
        noting.at("queued")

    token = tenant.set("of the launch")
    try:
        dbos = dbos_test_app(app, check_values=False, database_url=request.getfixturevalue(f"{database}_url"))
    finally:
        tenant.reset(token)
    token = tenant.set("of a caller that nobody asked")
    for number in range(5):
        dbos.deliver(plain, b"%d" % number)
        dbos.deliver(suspending, b"%d" % number)
        queue.enqueue(queued, number)
    dbos.run_until_idle()
    tenant.reset(token)
    assert noting.found.keys() == {"sync", "async", "queued", "when", "ordering_key", "deserialize"}
    assert {place: set(found) for place, found in noting.found.items()} == {
        place: {"of the launch"} for place in noting.found
    }
    assert all(len(found) == 5 for found in noting.found.values())


def test_a_workflow_begins_with_what_its_caller_has_set_and_leaves_its_caller_alone(
    dbos_test_app: MakeTestApp,
) -> None:
    app = App({"max_executor_threads": 1})
    found: list[str | None] = []

    @app.workflow()
    def child() -> None:
        found.append(tenant.get())
        tenant.set("of the child")

    @app.workflow()
    def called() -> None:
        found.append(tenant.get())
        tenant.set("of the workflow")
        child()
        app.start_workflow(child)
        found.append(tenant.get())

    dbos = dbos_test_app(app, park_after_seconds=60.0)
    token = tenant.set("of the caller")
    try:
        app.start_workflow(called).get_result()
        dbos.run_until_idle()
        assert found == ["of the caller", "of the workflow", "of the workflow", "of the workflow"]
        found.clear()
        called()
        assert found[0] == "of the caller"
        assert tenant.get() == "of the caller"
    finally:
        tenant.reset(token)


def test_an_async_workflow_begins_with_what_its_caller_has_set(dbos_test_app: MakeTestApp) -> None:
    app = App()
    found: list[str | None] = []

    @app.workflow()
    async def called() -> None:
        found.append(tenant.get())
        tenant.set("of the workflow")

    dbos_test_app(app)

    async def calls() -> None:
        tenant.set("of the caller")
        await called()
        handle = await app.start_workflow_async(called)
        await handle.get_result()
        found.append(tenant.get())

    asyncio.run(calls())
    assert found == ["of the caller"] * 3


def test_the_result_of_a_workflow_is_read_in_a_context_of_its_own(dbos_test_app: MakeTestApp) -> None:
    noting = Noting()
    app = App({"serializer": noting})

    @app.workflow()
    async def gives(number: int) -> int:
        return number

    dbos = dbos_test_app(app, check_values=False)
    ids = [app.start_workflow(gives, number).workflow_id for number in range(8)]
    dbos.run_until_idle()
    noting.found.clear()

    async def reads() -> None:
        for workflow_id in ids:
            await app.get_result_async(workflow_id)

    asyncio.run(reads())
    assert set(noting.found["deserialize"]) == {None}


@pytest.mark.parametrize("called", [False, True], ids=["started", "called"])
def test_a_run_inherits_no_workflow_id_from_the_block_of_its_caller(
    dbos_test_app: MakeTestApp, caplog: pytest.LogCaptureFixture, called: bool
) -> None:
    app = App()

    @app.workflow()
    def child() -> str:
        return "done"

    @app.workflow()
    def parent() -> str:
        return child()

    dbos_test_app(app)
    with SetWorkflowID("of the parent"):
        result = parent() if called else app.start_workflow(parent).get_result()
    assert result == "done"
    assert {one.workflow_id for one in app.list_workflows()} == {"of the parent", "of the parent-1"}
    assert "generated id" not in caplog.text
