"""DBOSClient: what a program asks of an application whose functions it does not have."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from dbos_events import App, DBOSClient, SendMessage, SetWorkflowID
from dbos_events.error import (
    ConfigurationError,
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSQueueDeduplicatedError,
    DBOSScheduleExistsError,
    DBOSWorkflowIDInUseError,
    MigrationRequired,
    RegistrationError,
    StorageUnavailable,
)
from tests.client.conftest import NAME, Shop

ADD: Any = {"workflow_name": "add", "queue_name": "orders"}


def options(name: str, **more: Any) -> Any:
    return {"workflow_name": name, "queue_name": "orders", **more}


# ------------------------------------------------------------------ enqueue


def test_a_workflow_is_enqueued_by_its_name_and_its_result_comes_back(client: DBOSClient) -> None:
    handle = client.enqueue(ADD, 1, 2, more=4)
    assert handle.get_result() == 7
    status = handle.get_status()
    assert (status.status, status.name, status.queue_name, status.application_name) == (
        "SUCCESS", "add", "orders", NAME,
    )  # fmt: skip


def test_what_the_workflow_raises_is_raised(client: DBOSClient) -> None:
    with pytest.raises(ValueError, match="no such order"):
        client.enqueue(options("fail")).get_result()


def test_the_same_id_is_the_same_workflow(client: DBOSClient, shop: Shop) -> None:
    first = client.enqueue(options("add", workflow_id="one"), 1)
    again = client.enqueue(options("add", workflow_id="one"), 2)
    assert (first.get_result(), again.get_result(), shop.ran) == (1, 1, [(1,)])
    with pytest.raises(DBOSWorkflowIDInUseError):
        client.enqueue(options("add", workflow_id="one", workflow_id_reuse_policy="reject"), 3)


def test_the_options_of_an_enqueue_count(client: DBOSClient) -> None:
    handle = client.enqueue(
        options(
            "add", delay_seconds=60, priority=7, deduplication_id="d", attributes={"tenant": 1},
            workflow_timeout=30, app_version="9", serialization_type=None, max_recovery_attempts=None,
        ),
        1,
    )  # fmt: skip
    status = handle.get_status()
    assert (status.status, status.priority, status.deduplication_id, status.attributes, status.app_version) == (
        "DELAYED", 7, "d", {"tenant": 1}, "9",
    )  # fmt: skip
    assert status.workflow_timeout_ms == 30_000
    with pytest.raises(DBOSQueueDeduplicatedError):
        client.enqueue(options("add", deduplication_id="d"), 1)
    attached = client.enqueue(options("add", deduplication_id="d", duplication_policy="return-existing"), 1)
    assert attached.workflow_id == handle.workflow_id


def test_a_wrong_option_is_told_before_anything_is_written(client: DBOSClient) -> None:
    wrong: list[tuple[Any, str]] = [
        ({"queue_name": "orders"}, "need workflow_name"),
        ({"workflow_name": "add"}, "need queue_name"),
        ({**ADD, "shard_key": 1}, "know no 'shard_key'"),
        ({**ADD, "priority": 0}, "priority must be"),
        ({**ADD, "application_name": " "}, "application_name must be"),
        (None, "are a mapping"),
    ]
    for one, message in wrong:
        with pytest.raises(DBOSException, match=message):
            client.enqueue(one, 1)
    assert client.list_workflows() == []


def test_a_value_that_cannot_be_stored_is_told(client: DBOSClient) -> None:
    with pytest.raises(DBOSException, match="add"):
        client.enqueue(ADD, threading.Lock())
    with pytest.raises(DBOSException):
        client.enqueue(options("add", workflow_id="\0"), 1)
    assert client.list_workflows() == []


def test_a_partition_is_that_of_the_options(client: DBOSClient) -> None:
    handles = [
        client.enqueue({"workflow_name": "add", "queue_name": "tenants", "queue_partition_key": key}, 1)
        for key in ("a", "b")
    ]
    assert [handle.get_result() for handle in handles] == [1, 1]
    assert handles[0].get_status().queue_partition_key == "a"


def test_a_function_and_a_queue_that_come_later_are_waited_for(client: DBOSClient, shop: Shop) -> None:
    handle = client.enqueue({"workflow_name": "later", "queue_name": "new"}, 5)
    assert handle.get_status().status == "ENQUEUED"

    @shop.app.workflow(name="later")
    def later(number: int) -> int:
        return number

    client.register_queue("new", polling_interval_sec=0.02)
    assert handle.get_result() == 5


# ------------------------------------------------------------------ talking


def test_a_client_talks_with_a_workflow(client: DBOSClient) -> None:
    handle = client.enqueue(options("talk"), 3)
    assert client.get_event(handle.workflow_id, "began") == {"messages": 3}
    client.send(handle.workflow_id, "a", "talk", idempotency_key="k")
    client.send(
        handle.workflow_id, "again", "talk", "k"
    )  # the key by its place, as the peer's client takes it
    client.send_bulk(
        [SendMessage(handle.workflow_id, "b", "talk"), SendMessage(handle.workflow_id, "c", "talk")]
    )
    assert list(client.read_stream(handle.workflow_id, "log")) == [0, 1, 2]
    assert client.read_stream_offset(handle.workflow_id, "log", 1) == 1
    assert handle.get_result() == ["a", "b", "c"]
    assert client.get_all_events(handle.workflow_id) == {"began": {"messages": 3}}


def test_a_message_to_nobody_is_an_error(client: DBOSClient) -> None:
    with pytest.raises(DBOSNonExistentWorkflowError):
        client.send("nobody", "hello")
    assert client.get_event("nobody", "key", timeout_seconds=0.05) is None


def test_a_publication_meets_its_waiter(client: DBOSClient) -> None:
    handle = client.enqueue(options("meet"))
    client.publish("payment", "1", {"amount": 5})
    assert handle.get_result() == {"amount": 5}


# ------------------------------------------------------------------ workflows


def test_workflows_are_looked_for_and_changed(client: DBOSClient) -> None:
    held = client.enqueue(options("hold", workflow_id="held"))
    done = client.enqueue(options("add", workflow_id="done"), 1)
    assert client.wait_first([held, done]) is done
    assert client.get_result("done") == 1
    assert [one.workflow_id for one in client.list_workflows(name="add")] == ["done"]
    assert [one.workflow_id for one in client.list_queued_workflows()] == ["held"]
    client.cancel_workflow("held")
    assert client.retrieve_workflow("held").get_status().status == "CANCELLED"
    again = client.resume_workflow("held")
    client.send("held", None, "go")
    assert again.get_result() == "went"
    assert [step.function_name for step in client.list_workflow_steps("held")] == ["DBOS.recv", "DBOS.sleep"]
    [first] = client.list_workflow_steps("held", load_output=False, limit=1)
    assert (first.function_id, first.function_name, first.output) == (1, "DBOS.recv", None)
    client.update_workflow_attributes("done", {"seen": True})
    assert client.get_workflow_status("done").attributes == {"seen": True}  # type: ignore[union-attr]
    with pytest.raises(DBOSNonExistentWorkflowError):
        client.retrieve_workflow("nobody")
    with pytest.raises(DBOSNonExistentWorkflowError):
        client.cancel_workflow("nobody")


def test_a_delay_is_moved(client: DBOSClient) -> None:
    handle = client.enqueue(options("add", delay_seconds=600), 1)
    assert client.set_workflow_delay(handle.workflow_id, delay_seconds=0) is True
    assert handle.get_result() == 1
    assert client.set_workflow_delay(handle.workflow_id, delay_seconds=5) is False


# ------------------------------------------------------------------ queues and schedules


def test_queues_are_made_and_changed(client: DBOSClient) -> None:
    queue = client.register_queue("slow", worker_concurrency=1)
    assert (queue.name, queue.worker_concurrency, queue.application_name) == ("slow", 1, NAME)
    client.register_queue("slow", worker_concurrency=3)
    assert queue.worker_concurrency == 3, "a client changes a queue that is there"
    queue.set_worker_concurrency(4)
    assert client.retrieve_queue("slow").worker_concurrency == 4  # type: ignore[union-attr]
    assert [one.name for one in client.list_queues()] == ["orders", "slow", "tenants"]
    client.delete_queue("slow")
    assert client.retrieve_queue("slow") is None


def test_schedules_are_made_of_workflows_by_name(client: DBOSClient, shop: Shop) -> None:
    daily: Any = {
        "schedule_name": "daily",
        "workflow_name": "tick",
        "schedule": "0 0 1 1 *",
        "context": {"a": 1},
    }
    client.create_schedule(**daily)
    with pytest.raises(DBOSScheduleExistsError):
        client.create_schedule(**daily)
    client.apply_schedules([{**daily, "context": {"a": 2}}, {**daily, "schedule_name": "other"}])
    assert [one.schedule_name for one in client.list_schedules()] == ["daily", "other"]
    assert client.trigger_schedule("daily").get_result() == {"a": 2}
    start = datetime(2024, 6, 1, tzinfo=UTC)
    filled = client.backfill_schedule("daily", start, start + timedelta(days=365))
    assert [handle.get_result() for handle in filled] == [{"a": 2}]
    client.pause_schedule("daily")
    assert client.get_schedule("daily")["status"] == "PAUSED"  # type: ignore[index]
    client.resume_schedule("daily")
    client.delete_schedule("daily")
    assert client.get_schedule("daily") is None
    assert shop.ran == [{"a": 2}, {"a": 2}]


def test_a_schedule_without_what_it_needs_is_refused(client: DBOSClient) -> None:
    given: Any = {"schedule_name": "s", "workflow_name": "tick", "schedule": "* * * * *"}
    for missing in given:
        with pytest.raises(RegistrationError, match=missing):
            client.apply_schedules([{**given, missing: None}])


# ------------------------------------------------------------------ on a loop


def test_every_verb_has_a_twin_for_loops(shop: Shop) -> None:
    async def use() -> None:
        async with DBOSClient(system_database_url=shop.url, lazy=True) as client:
            handle = await client.enqueue_async(options("talk"), 2)
            assert await client.get_event_async(handle.workflow_id, "began") == {"messages": 2}
            await client.send_async(handle.workflow_id, 1, "talk")
            await client.send_bulk_async([SendMessage(handle.workflow_id, 2, "talk")])
            values = [value async for value in client.read_stream_async(handle.workflow_id, "log")]
            assert (values, await handle.get_result()) == ([0, 1], [1, 2])
            handles = await asyncio.gather(*[client.enqueue_async(ADD, number) for number in range(20)])
            assert sorted([await one.get_result() for one in handles]) == list(range(20))
            first = await client.wait_first_async(handles)
            assert first in handles
            assert (await first.get_status()).status == "SUCCESS"
            queue = await client.register_queue_async("async", worker_concurrency=1)
            assert await queue.get_worker_concurrency_async() == 1
            await client.create_schedule_async(
                schedule_name="s", workflow_name="tick", schedule="0 0 1 1 *", context=3
            )
            assert await (await client.trigger_schedule_async("s")).get_result() == 3
            await client.check_connection_async()

    asyncio.run(use())


def test_a_verb_that_blocks_is_refused_on_a_loop(shop: Shop) -> None:
    async def use() -> None:
        client = await asyncio.to_thread(DBOSClient, shop.url)
        for call in (
            lambda: client.enqueue(ADD, 1),
            lambda: client.send("w", 1),
            lambda: next(client.read_stream("w", "s")),
        ):
            with pytest.raises(RuntimeError, match=r"await client\.\w+_async"):
                call()
        await client.destroy_async()

    asyncio.run(use())


def _verbs() -> list[str]:
    return [
        name
        for name, value in vars(DBOSClient).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]


def test_each_verb_says_what_it_does_and_has_a_twin_that_takes_the_same() -> None:
    alone = {
        "connected",
        "destroy",
        "enqueue_in_transaction",
        "send_in_transaction",
        "send_bulk_in_transaction",
    }
    for name in _verbs():
        verb = getattr(DBOSClient, name)
        assert (inspect.getdoc(verb) or "").strip(), name
        if name.endswith("_async") or name in alone:
            continue
        twin = getattr(DBOSClient, f"{name}_async")
        shapes = [
            [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()][1:]
            for function in (verb, twin)
        ]
        assert shapes[0] == shapes[1], name


# ------------------------------------------------------------------ within a workflow


def test_what_a_client_does_in_a_workflow_is_no_part_of_it(shop: Shop, client: DBOSClient) -> None:
    @shop.app.workflow(name="outer")
    def outer() -> Any:
        handle = client.enqueue(options("talk", workflow_id="inner"), 1)
        client.send("inner", "hello", "talk")
        return [
            list(client.read_stream("inner", "log")),
            handle.get_result(),
            client.get_event("inner", "began"),
        ]

    with SetWorkflowID("outer"):
        handle = shop.app.start_workflow(outer)
    assert handle.get_result() == [[0], ["hello"], {"messages": 1}]
    assert client.list_workflow_steps("outer") == []
    assert client.get_workflow_status("inner").parent_workflow_id is None  # type: ignore[union-attr]


def test_blocks_around_a_call_say_nothing_to_a_client(client: DBOSClient) -> None:
    with SetWorkflowID("mine"):
        handle = client.enqueue(ADD, 1)
    assert handle.workflow_id != "mine"


# ------------------------------------------------------------------ in the caller's transaction


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def test_an_enqueue_and_a_message_are_a_part_of_the_callers_transaction(
    client: DBOSClient, shop: Shop
) -> None:
    engine = _engine(shop.url)
    with DBOSClient(shop.url) as fresh, engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE readers (name TEXT)"))
        assert fresh.enqueue_in_transaction(connection, ADD, 1) is not None, (
            "it does not wait for the caller's locks"
        )
    talking = client.enqueue(options("talk"), 2)
    assert client.get_event(talking.workflow_id, "began") is not None
    with engine.begin() as connection:
        handle = client.enqueue_in_transaction(connection, ADD, 1, 2)
        client.send_in_transaction(connection, talking.workflow_id, "a", "talk")
        client.send_bulk_in_transaction(connection, [SendMessage(talking.workflow_id, "b", "talk")])
    assert (handle.get_result(), talking.get_result()) == (3, ["a", "b"])
    with Session(engine) as session, session.begin():
        handle = client.enqueue_in_transaction(session, ADD, 4)
    assert handle.get_result() == 4
    engine.dispose()


def test_what_is_rolled_back_never_was(client: DBOSClient, shop: Shop) -> None:
    engine = _engine(shop.url)
    with engine.connect() as connection:
        handle = client.enqueue_in_transaction(connection, ADD, 1)
        with pytest.raises(DBOSNonExistentWorkflowError):
            client.send_in_transaction(connection, "nobody", 1)
        connection.rollback()
    assert client.get_workflow_status(handle.workflow_id) is None
    engine.dispose()


def test_a_connection_to_something_else_is_refused(client: DBOSClient) -> None:
    for wrong in (object(), None):
        with pytest.raises(DBOSException, match="SQLAlchemy connection"):
            client.enqueue_in_transaction(wrong, ADD, 1)


# ------------------------------------------------------------------ which application


def test_of_several_applications_one_is_named(shop: Shop) -> None:
    other = App({"name": "other", "system_database_url": shop.url})

    @other.workflow(name="add")
    def add(number: int) -> int:
        return -number

    other.queue("orders", polling_interval_sec=0.02)
    with other, DBOSClient(shop.url) as client:
        with pytest.raises(DBOSException, match="it has other, shop"):
            client.enqueue(ADD, 1)
        assert client.enqueue({**ADD, "application_name": "other"}, 1).get_result() == -1
        handle = client.enqueue({**ADD, "application_name": NAME}, 1)
        assert client.retrieve_workflow(handle.workflow_id).get_result() == 1
        with DBOSClient(shop.url, application_name="other") as named:
            assert named.enqueue(ADD, 2).get_result() == -2
            assert [one.name for one in named.list_queues()] == ["orders"]


def test_an_application_that_comes_later_is_found(database_url: str) -> None:
    async def use() -> None:
        App({"name": "x", "system_database_url": database_url})
        app = App({"name": "late", "system_database_url": database_url})
        await app.launch_async()
        await app.destroy_async()
        async with DBOSClient(database_url) as client:
            handle = await client.enqueue_async(ADD, 1)
            assert (await handle.get_status()).application_name == "late"

    asyncio.run(use())


# ------------------------------------------------------------------ life


def test_a_client_that_was_destroyed_says_so(shop: Shop) -> None:
    client = DBOSClient(shop.url)
    client.destroy()
    client.destroy()
    with pytest.raises(DBOSException, match="destroyed"):
        client.list_workflows()


def test_who_waits_hears_that_the_client_is_destroyed(shop: Shop) -> None:
    client = DBOSClient(shop.url)
    handle = client.enqueue(options("hold"))
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            handle.get_result()
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert handle.get_status().status in ("ENQUEUED", "PENDING")
    client.destroy()
    thread.join(10)
    assert [type(error) for error in errors] == [DBOSException]


def test_a_client_makes_no_database_and_migrates_none(tmp_path: Any, postgres_url: str) -> None:
    missing = tmp_path / "missing.sqlite"
    with pytest.raises(ConfigurationError, match=r"missing\.sqlite"):
        DBOSClient(system_database_url=f"sqlite:///{missing}")
    assert not missing.exists()
    with pytest.raises(MigrationRequired):
        DBOSClient(system_database_url=postgres_url)
    lazy = DBOSClient(system_database_url=postgres_url, lazy=True)
    with pytest.raises(MigrationRequired):
        lazy.check_connection()


def test_a_client_that_does_not_wait_says_that_the_database_is_away() -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(StorageUnavailable):
        DBOSClient(system_database_url=url, retry_connection_errors=False)


def test_without_retries_an_outage_in_the_middle_is_told(postgres_server: Any) -> None:
    app = App({"name": NAME, "system_database_url": postgres_server.url})
    with app:
        pass
    client = DBOSClient(system_database_url=postgres_server.url, retry_connection_errors=False)
    client.list_workflows()
    postgres_server.stop()
    for call in (client.list_workflows, lambda: client.enqueue(ADD, 1), client.check_connection):
        with pytest.raises(StorageUnavailable):
            call()
    client.destroy()


def test_arguments_of_the_peer_without_effect_are_told_and_unknown_ones_refused(shop: Shop) -> None:
    with pytest.warns(UserWarning, match="application_database_url"):
        DBOSClient(shop.url, application_database_url="postgresql://x/y").destroy()
    with pytest.raises(TypeError, match="nonsense"):
        DBOSClient(shop.url, nonsense=1)


def test_an_engine_of_sqlalchemy_names_the_database(shop: Shop) -> None:
    engine = _engine(shop.url)
    with DBOSClient(system_database_engine=engine) as client:
        assert client.list_workflows() == []
    engine.dispose()


def test_without_signals_a_client_looks_now_and_then(shop: Shop) -> None:
    with DBOSClient(shop.url, use_listen_notify=False) as client:
        assert client.enqueue(ADD, 1).get_result() == 1


@pytest.mark.parametrize("inherited", [True, False])
def test_a_forked_process_says_that_the_client_is_its_parents(postgres_url: str, inherited: bool) -> None:
    app = App({"name": NAME, "system_database_url": postgres_url})
    with app:
        pass
    client = DBOSClient(postgres_url, lazy=not inherited)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            client.list_workflows()
            code = 0 if not inherited else 2
        except DBOSException as error:
            code = 0 if inherited and "forked" in str(error) else 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.list_workflows() == []
    client.destroy()


def test_a_result_is_found_soon_after_its_end(client: DBOSClient, shop: Shop) -> None:
    looks = _count_looks(client)
    assert client.enqueue(ADD, 1).get_result() == 1
    assert looks() <= 12, "the pauses between two looks grow"


def _count_looks(client: DBOSClient) -> Callable[[], int]:
    storage = client.connected().core.storage.workflows
    count, read = [0], storage.read_ending

    def counted(workflow_id: str) -> Any:
        count[0] += 1
        return read(workflow_id)

    storage.read_ending = counted  # type: ignore[method-assign]
    return lambda: count[0]
