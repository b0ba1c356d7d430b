"""How workflows are put on queues: options, priorities, delays, deduplication, partitions, by name, by settings."""

import asyncio
import threading
from typing import Any

import pytest

from dbos_events import App, Queue, SetEnqueueOptions, SetWorkflowAttributes, SetWorkflowID
from dbos_events.error import (
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSQueueDeduplicatedError,
    DBOSWorkflowIDInUseError,
    RegistrationError,
)
from dbos_events.testing import TestApp
from dbos_events.testing.plugin import MakeTestApp


class Shop:
    """An App with a queue that runs one workflow at a time, and notes in which order."""

    def __init__(self, make: MakeTestApp) -> None:
        self.app = app = App()
        self.ran: list[Any] = []
        self.queue = app.queue("orders", concurrency=1, priority_enabled=True)

        @app.workflow(name="job")
        def job(name: Any) -> Any:
            self.ran.append(name)
            return name

        @app.workflow(name="nap")
        def nap(name: Any) -> Any:
            app.sleep(60)
            self.ran.append(name)
            return name

        @app.workflow(name="parent")
        def parent(name: str, policy: str | None) -> str:
            with SetEnqueueOptions(deduplication_id="d", duplication_policy=policy):  # type: ignore[arg-type]
                handle = self.queue.enqueue(job, name)
            app.sleep(60)
            return handle.workflow_id

        self.job, self.nap, self.parent = job, nap, parent
        self.dbos: TestApp = make(app)

    def enqueue(self, name: Any, **options: Any) -> Any:
        with SetEnqueueOptions(**options):
            return self.queue.enqueue(self.job, name)

    def status(self, workflow_id: str) -> Any:
        found = self.app.get_workflow_status(workflow_id)
        assert found is not None
        return found


@pytest.fixture
def shop(dbos_test_app: MakeTestApp) -> Shop:
    return Shop(dbos_test_app)


def test_those_on_queues_are_those_that_wait_or_run_there(shop: Shop) -> None:
    with SetWorkflowID("done"):
        shop.enqueue("w").get_result()
    with SetWorkflowID("waits"):
        shop.enqueue("w", delay_seconds=5)
    with SetWorkflowID("elsewhere"):
        shop.app.start_workflow(shop.nap, "n")
    assert [one.workflow_id for one in shop.app.list_queued_workflows()] == ["waits"]
    assert [one.workflow_id for one in shop.app.list_queued_workflows(status="SUCCESS")] == ["done"]


# ------------------------------------------------------------------ priority


def test_lower_numbers_start_first_and_what_has_none_before_all(shop: Shop) -> None:
    for name, priority in (("five", 5), ("one", 1), ("none", None), ("two", 2)):
        shop.enqueue(name, priority=priority)
    shop.dbos.run_until_idle()
    assert shop.ran == ["none", "one", "two", "five"]


def test_the_status_tells_the_options(shop: Shop) -> None:
    handle = shop.enqueue("w", priority=3, deduplication_id="d", delay_seconds=5)
    status = handle.get_status()
    assert (status.status, status.priority, status.deduplication_id) == ("DELAYED", 3, "d")
    assert status.delay_until_epoch_ms == status.created_at + 5000


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 0},
        {"priority": 2**31},
        {"priority": True},
        {"priority": 1.5},
        {"delay_seconds": -1},
        {"delay_seconds": float("nan")},
        {"delay_seconds": float("inf")},
        {"delay_seconds": 1e12},
        {"delay_seconds": "5"},
        {"deduplication_id": ""},
        {"deduplication_id": "a\0b"},
        {"queue_partition_key": " "},
        {"app_version": 3},
        {"duplication_policy": "return-existing"},
        {"deduplication_id": "d", "duplication_policy": "replace"},
        {"deduplication_id": "d", "queue_partition_key": "p"},
    ],
    ids=str,
)
def test_options_that_cannot_be_kept_are_refused_before_anything_is_written(
    shop: Shop, options: dict[str, Any]
) -> None:
    with pytest.raises(DBOSException):
        shop.enqueue("w", **options)
    assert shop.app.list_workflows() == []


@pytest.mark.parametrize(
    "options",
    [{"priority": 1}, {"deduplication_id": "d"}, {"queue_partition_key": "p"}, {"delay_seconds": 1}],
)
def test_options_of_enqueues_are_refused_for_a_start_without_a_queue(
    shop: Shop, options: dict[str, Any]
) -> None:
    with SetEnqueueOptions(**options), pytest.raises(DBOSException, match="without a queue"):
        shop.app.start_workflow(shop.job, "w")
    with SetEnqueueOptions(**options), pytest.raises(DBOSException, match="without a queue"):
        shop.job("w")
    assert shop.ran == []


def test_a_block_is_used_once_at_a_time_and_nests(shop: Shop) -> None:
    block = SetEnqueueOptions(priority=1)
    with block:
        with pytest.raises(DBOSException, match="in use"):
            block.__enter__()
        with SetEnqueueOptions(priority=2):
            inner = shop.queue.enqueue(shop.job, "inner")
        outer = shop.queue.enqueue(shop.job, "outer")
    with block:
        again = shop.queue.enqueue(shop.job, "again")
    after = shop.queue.enqueue(shop.job, "after")
    assert [handle.get_status().priority for handle in (inner, outer, again, after)] == [2, 1, 1, 0]


def test_what_a_block_says_does_not_reach_into_the_workflows_that_it_starts(shop: Shop) -> None:
    @shop.app.workflow(name="caller")
    def caller() -> str:
        return shop.queue.enqueue(shop.job, "child").workflow_id

    with SetEnqueueOptions(priority=4), SetWorkflowAttributes({"a": 1}):
        handle = shop.queue.enqueue(caller)
    shop.dbos.run_until_idle()
    child = shop.status(handle.get_result())
    assert (child.priority, child.attributes) == (0, None)
    assert handle.get_status().attributes == {"a": 1}


# ------------------------------------------------------------------ delay


def test_a_delayed_workflow_starts_at_its_time(shop: Shop) -> None:
    handle = shop.enqueue("w", delay_seconds=30)
    shop.dbos.advance(seconds=29)
    assert (shop.ran, handle.get_status().status) == ([], "DELAYED")
    shop.dbos.advance(seconds=1)
    assert (shop.ran, handle.get_status().status) == (["w"], "SUCCESS")


def test_waiting_for_a_delayed_workflow_moves_the_time_of_a_test(shop: Shop) -> None:
    assert shop.enqueue("w", delay_seconds=3600).get_result() == "w"


def test_a_delay_can_be_moved_and_ended(shop: Shop) -> None:
    handle = shop.enqueue("w", delay_seconds=30)
    assert shop.app.set_workflow_delay(handle.workflow_id, delay_seconds=90)
    shop.dbos.advance(seconds=89)
    assert shop.ran == []
    assert shop.app.set_workflow_delay(handle.workflow_id, delay_until_epoch_ms=0)
    shop.dbos.run_until_idle()
    assert shop.ran == ["w"]
    assert not shop.app.set_workflow_delay(handle.workflow_id, delay_seconds=1)


@pytest.mark.parametrize(
    "times",
    [
        {},
        {"delay_seconds": 1, "delay_until_epoch_ms": 5},
        {"delay_seconds": -1},
        {"delay_until_epoch_ms": 2**60},
    ],
    ids=str,
)
def test_a_delay_that_is_no_time_is_refused(shop: Shop, times: dict[str, Any]) -> None:
    handle = shop.enqueue("w", delay_seconds=30)
    with pytest.raises(DBOSException):
        shop.app.set_workflow_delay(handle.workflow_id, **times)


def test_the_delay_of_an_unknown_workflow_is_an_error(shop: Shop) -> None:
    with pytest.raises(DBOSNonExistentWorkflowError):
        shop.app.set_workflow_delay("nobody", delay_seconds=1)


def test_a_delay_is_moved_from_within_a_workflow_once(shop: Shop) -> None:
    @shop.app.workflow(name="mover")
    def mover(target: str) -> bool:
        return shop.app.set_workflow_delay(target, delay_seconds=500)

    handle = shop.enqueue("w", delay_seconds=30)
    with SetWorkflowID("mover"):
        assert mover(handle.workflow_id)
    [step] = shop.app.list_workflow_steps("mover")
    assert step.function_name == "DBOS.setWorkflowDelay"


# ------------------------------------------------------------------ deduplication


def test_the_loser_is_told_who_has_won(shop: Shop) -> None:
    winner = shop.enqueue("w", deduplication_id="d")
    with SetWorkflowID("loser"), pytest.raises(DBOSQueueDeduplicatedError) as raised:
        shop.enqueue("v", deduplication_id="d")
    error = raised.value
    assert (error.workflow_id, error.queue_name, error.deduplication_id) == ("loser", "orders", "d")
    assert error.winner == winner.workflow_id
    assert winner.workflow_id in str(error)


def test_the_loser_gets_the_winner_where_it_asks_for_it(shop: Shop) -> None:
    winner = shop.enqueue("w", deduplication_id="d")
    other = shop.enqueue("v", deduplication_id="d", duplication_policy="return-existing")
    assert other.workflow_id == winner.workflow_id
    assert other.get_result() == "w"
    again = shop.enqueue("v", deduplication_id="d", duplication_policy="return-existing")
    assert again.get_result() == "v"


def test_the_id_is_taken_while_its_workflow_sleeps(shop: Shop) -> None:
    with SetEnqueueOptions(deduplication_id="d"):
        handle = shop.queue.enqueue(shop.nap, "w")
    shop.dbos.run_until_idle()
    with pytest.raises(DBOSQueueDeduplicatedError):
        shop.enqueue("v", deduplication_id="d")
    assert handle.get_result() == "w"
    assert shop.enqueue("v", deduplication_id="d").get_result() == "v"


@pytest.mark.parametrize("policy", [None, "return-existing"])
def test_a_workflow_that_met_a_duplicate_meets_it_in_its_replay(shop: Shop, policy: str | None) -> None:
    """The id is free by then: another look would start a second child."""
    winner = shop.enqueue("w", deduplication_id="d", delay_seconds=5)
    with SetWorkflowID("parent"):
        handle = shop.app.start_workflow(shop.parent, "v", policy)
    shop.dbos.run_until_idle()
    shop.dbos.advance(seconds=10)
    assert shop.status(winner.workflow_id).status == "SUCCESS"
    if policy is None:
        with pytest.raises(DBOSQueueDeduplicatedError, match=winner.workflow_id):
            handle.get_result()
    else:
        assert handle.get_result() == winner.workflow_id
    assert shop.ran == ["w"]


def test_an_error_of_a_duplicate_that_is_caught_is_the_same_in_a_replay(shop: Shop) -> None:
    @shop.app.workflow(name="catching")
    def catching() -> str:
        with SetEnqueueOptions(deduplication_id="d"):
            try:
                shop.queue.enqueue(shop.job, "v")
                met = "nobody"
            except DBOSQueueDeduplicatedError as error:
                met = error.winner or ""
        shop.app.sleep(60)
        return met

    winner = shop.enqueue("w", deduplication_id="d", delay_seconds=5)
    handle = shop.app.start_workflow(catching)
    assert handle.get_result() == winner.workflow_id


# ------------------------------------------------------------------ ids that are used again


def test_an_id_that_is_taken_is_an_error_where_that_is_asked_for(shop: Shop) -> None:
    with SetWorkflowID("w", workflow_id_reuse_policy="reject"):
        shop.job("first")
    with SetWorkflowID("w", workflow_id_reuse_policy="reject"), pytest.raises(DBOSWorkflowIDInUseError):
        shop.job("second")
    with SetWorkflowID("w"):
        assert shop.job("third") == "first"
    with pytest.raises(DBOSException, match="workflow_id_reuse_policy"):
        SetWorkflowID("w", workflow_id_reuse_policy="replace")  # type: ignore[arg-type]


def test_an_id_in_use_is_met_again_in_a_replay(shop: Shop) -> None:
    @shop.app.workflow(name="rejecting")
    def rejecting() -> str:
        try:
            with SetWorkflowID("w", workflow_id_reuse_policy="reject"):
                shop.app.start_workflow(shop.job, "second")
        except DBOSWorkflowIDInUseError:
            shop.app.sleep(60)
            return "met"
        return "free"

    with SetWorkflowID("w"):
        shop.job("first")
    assert shop.app.start_workflow(rejecting).get_result() == "met"
    assert shop.ran == ["first"]


# ------------------------------------------------------------------ by name


def test_a_workflow_is_enqueued_by_its_name(shop: Shop) -> None:
    handle = shop.app.enqueue_workflow_with_options(
        {
            "workflow_name": "job",
            "queue_name": "orders",
            "workflow_id": "w",
            "priority": 2,
            "attributes": {"a": [1]},
        },
        "value",
    )
    assert handle.get_result() == "value"
    status = handle.get_status()
    assert (status.workflow_id, status.priority, status.attributes) == ("w", 2, {"a": [1]})


def test_a_function_of_another_program_waits_for_a_process_that_has_it(shop: Shop) -> None:
    handle = shop.app.enqueue_workflow_with_options(
        {"workflow_name": "elsewhere", "queue_name": "orders"}, 1, key="k"
    )
    shop.dbos.run_until_idle()
    status = handle.get_status()
    assert (status.status, status.name, status.app_version) == ("ENQUEUED", "elsewhere", None)
    assert status.input == {"args": (1,), "kwargs": {"key": "k"}}


@pytest.mark.parametrize(
    "options",
    [
        {"queue_name": "orders"},
        {"workflow_name": "job"},
        {"workflow_name": "job", "queue_name": "_dbos_internal"},
        {"workflow_name": "job", "queue_name": "orders", "prioritty": 3},
        {"workflow_name": "job", "queue_name": "orders", "workflow_id": " "},
        {"workflow_name": "job", "queue_name": "orders", "application_name": "another"},
        {"workflow_name": "job", "queue_name": "orders", "attributes": [1]},
        {"workflow_name": "job", "queue_name": "orders", "workflow_id_reuse_policy": "x"},
    ],
    ids=str,
)
def test_options_that_are_wrong_are_refused(shop: Shop, options: Any) -> None:
    with pytest.raises(DBOSException):
        shop.app.enqueue_workflow_with_options(options, "value")
    assert shop.app.list_workflows() == []


def test_a_queue_need_not_exist_yet(shop: Shop) -> None:
    handle = shop.app.enqueue_workflow("later", shop.job, "w")
    shop.dbos.run_until_idle()
    assert handle.get_status().status == "ENQUEUED"
    shop.app.register_queue("later")
    assert handle.get_result() == "w"


def test_a_version_can_be_asked_for(shop: Shop) -> None:
    mine = shop.enqueue("mine", app_version=shop.dbos.core.version)
    other = shop.enqueue("other", app_version="another")
    shop.dbos.run_until_idle()
    assert (shop.ran, mine.get_result()) == (["mine"], "mine")
    assert other.get_status().status == "ENQUEUED"


# ------------------------------------------------------------------ registered queues


def test_a_registered_queue_changes_while_it_is_served(shop: Shop) -> None:
    queue = shop.app.register_queue("q", global_concurrency=3, limiter={"limit": 5, "period": 2})
    assert queue.database_backed_queue
    assert (queue.global_concurrency, queue.concurrency, queue.limiter) == (3, 3, {"limit": 5, "period": 2})
    queue.set_limiter(None)
    queue.set_worker_concurrency(2)
    same = shop.app.retrieve_queue("q")
    assert same is not None
    assert (same.limiter, same.worker_concurrency) == (None, 2)
    handles = [queue.enqueue(shop.job, number) for number in range(9)]
    assert [handle.get_result() for handle in handles] == list(range(9))
    assert [one.name for one in shop.app.list_queues()] == ["orders", "q"]
    shop.app.delete_queue("q")
    assert shop.app.retrieve_queue("q") is None
    with pytest.raises(DBOSException, match="no queue 'q'"):
        queue.set_worker_concurrency(1)
    handle = shop.app.enqueue_workflow("q", shop.job, "late")
    shop.dbos.run_until_idle()
    assert handle.get_status().status == "ENQUEUED"


@pytest.mark.parametrize(
    "settings",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"concurrency": "3"},
        {"worker_concurrency": 3, "concurrency": 2},
        {"partition_worker_concurrency": 3, "partition_concurrency": 2},
        {"limiter": {"limit": 0, "period": 1}},
        {"limiter": {"limit": 1, "period": 0}},
        {"limiter": {"limit": 1}},
        {"limiter": {"limit": 1, "period": float("nan")}},
        {"partition_limiter": 3},
        {"polling_interval_sec": 0},
        {"priority_ages": -1},
    ],
    ids=str,
)
def test_settings_that_cannot_be_kept_are_refused(shop: Shop, settings: dict[str, Any]) -> None:
    with pytest.raises(RegistrationError):
        shop.app.register_queue("q", **settings)
    with pytest.raises(RegistrationError):
        shop.app.queue("q", **settings)
    assert shop.app.retrieve_queue("q") is None


def test_a_setting_that_is_wrong_leaves_the_queue_as_it_was(shop: Shop) -> None:
    queue = shop.app.register_queue("q", concurrency=2)
    with pytest.raises(RegistrationError):
        queue.set_worker_concurrency(3)
    assert queue.worker_concurrency is None


def test_a_declared_queue_has_its_settings_from_code(shop: Shop) -> None:
    with pytest.raises(DBOSException, match="declared in code"):
        shop.queue.set_concurrency(3)
    assert shop.queue.concurrency == 1
    assert not shop.queue.database_backed_queue


def test_async_programs_have_each_verb_too(shop: Shop) -> None:
    @shop.app.workflow(name="ajob")
    async def ajob(name: str) -> str:
        return name

    async def program() -> list[Any]:
        app = shop.app
        queue = await app.register_queue_async("q", worker_concurrency=4)
        await queue.set_worker_concurrency_async(5)
        with pytest.raises(RuntimeError, match="set_worker_concurrency_async"):
            queue.set_worker_concurrency(3)
        found = [await queue.get_worker_concurrency_async()]
        handle = await app.enqueue_workflow_async("q", ajob, "a")
        other = await app.enqueue_workflow_with_options_async(
            {"workflow_name": "ajob", "queue_name": "q"}, "b"
        )
        found += [await handle.get_result(), await other.get_result()]
        await app.update_workflow_attributes_async(handle.workflow_id, {"n": 1})
        found += [len(await app.list_workflows_async(attributes={"n": 1}))]
        found += [await app.set_workflow_delay_async(handle.workflow_id, delay_seconds=1)]
        retrieved = await app.retrieve_queue_async("q")
        found += [retrieved is not None, len(await app.list_queues_async())]
        await app.delete_queue_async("q")
        return found

    assert asyncio.run(program()) == [5, "a", "b", 1, False, True, 2]


def test_a_process_serves_the_queues_that_it_listens_to(dbos_test_app: MakeTestApp) -> None:
    app = App()
    heard, unheard = app.queue("heard"), app.queue("unheard")

    @app.workflow()
    def job(name: str) -> str:
        return name

    app.listen_queues([heard])
    dbos = dbos_test_app(app)
    app.register_queue("registered")
    handles = [
        heard.enqueue(job, "a"),
        unheard.enqueue(job, "b"),
        app.enqueue_workflow("registered", job, "c"),
    ]
    dbos.run_until_idle()
    assert [handle.get_status().status for handle in handles] == ["SUCCESS", "ENQUEUED", "ENQUEUED"]
    with pytest.raises(DBOSException, match="after launch"):
        app.listen_queues(["unheard"])


# ------------------------------------------------------------------ partitions


@pytest.mark.parametrize("older", [True, False])
def test_partitions_run_beside_each_other_and_each_in_order(dbos_test_app: MakeTestApp, older: bool) -> None:
    app = App()
    lock = threading.Lock()
    running: list[str] = []
    most: dict[str, int] = {}
    ran: list[tuple[str, int]] = []
    limits: Any = {"concurrency": 1, "partition_queue": True} if older else {"partition_concurrency": 1}
    queue = Queue("q", app=app, **limits)

    @app.workflow()
    def job(partition: str, number: int) -> None:
        with lock:
            running.append(partition)
            most[partition] = max(most.get(partition, 0), running.count(partition))
            ran.append((partition, number))
        threading.Event().wait(0.002)
        with lock:
            running.remove(partition)

    dbos = dbos_test_app(app)
    for number in range(4):
        for partition in "abc":
            with SetEnqueueOptions(queue_partition_key=partition):
                queue.enqueue(job, partition, number)
    dbos.run_until_idle()
    assert most == {"a": 1, "b": 1, "c": 1}
    for partition in "abc":
        assert [number for name, number in ran if name == partition] == [0, 1, 2, 3]


def test_a_partitioned_queue_takes_nothing_without_a_partition(dbos_test_app: MakeTestApp) -> None:
    app = App()
    queue = app.queue("q", partition_concurrency=1)

    @app.workflow()
    def job() -> None: ...

    dbos_test_app(app)
    with pytest.raises(DBOSException, match="queue_partition_key"):
        queue.enqueue(job)
    with pytest.raises(RegistrationError, match="partition_queue"):
        app.queue("r", partition_concurrency=1, partition_queue=True)


# ------------------------------------------------------------------ attributes


def test_workflows_are_found_by_their_attributes(shop: Shop) -> None:
    attributes: list[Any] = [
        {"tenant": "a", "n": 1, "deep": {"x": True, "y": [1, 2]}},
        {"tenant": "a", "n": True, "deep": {"x": 1}},
        {"tenant": "1", "n": None},
        None,
    ]
    for number, one in enumerate(attributes):
        with SetWorkflowID(f"w{number}"), SetWorkflowAttributes(one):
            shop.job(number)

    def found(wanted: Any) -> list[str]:
        return [status.workflow_id for status in shop.app.list_workflows(attributes=wanted)]

    assert found({"tenant": "a"}) == ["w0", "w1"]
    assert found({"n": 1}) == ["w0"]
    assert found({"n": True}) == ["w1"]
    assert found({"n": None}) == ["w2"]
    assert found({"tenant": 1}) == []
    assert found({"deep": {"x": True}}) == ["w0"]
    assert found({"tenant": "a", "deep": {"y": [1, 2]}}) == ["w0"]
    assert found({}) == ["w0", "w1", "w2"]
    assert found({"missing": 1}) == []


@pytest.mark.parametrize(
    "attributes", [[1], {1: 2}, {"a": object()}, {"a": float("nan")}, {"a": "\0"}, "text"]
)
def test_attributes_that_json_cannot_hold_are_refused(shop: Shop, attributes: Any) -> None:
    with pytest.raises(DBOSException):
        SetWorkflowAttributes(attributes)
    shop.job("w")
    [status] = shop.app.list_workflows()
    with pytest.raises(DBOSException):
        shop.app.update_workflow_attributes(status.workflow_id, attributes)


def test_attributes_are_replaced_and_merged(shop: Shop) -> None:
    with SetWorkflowID("w"):
        shop.job("w")
    shop.app.update_workflow_attributes("w", {"a": 1, "b": 2})
    shop.app.update_workflow_attributes("w", {"b": 3, "ü": "é"}, merge=True)
    assert shop.status("w").attributes == {"a": 1, "b": 3, "ü": "é"}
    assert [one.workflow_id for one in shop.app.list_workflows(attributes={"ü": "é"})] == ["w"]
    shop.app.update_workflow_attributes("w", None)
    assert shop.status("w").attributes is None
    with pytest.raises(DBOSNonExistentWorkflowError):
        shop.app.update_workflow_attributes("nobody", {})


# ------------------------------------------------------------------ a pipeline


def test_a_pipeline_gathers_thousands_of_results(shop: Shop) -> None:
    queue = shop.app.register_queue("wide")

    @shop.app.step()
    def count(number: int) -> int:
        return number % 7

    @shop.app.workflow(name="pipeline")
    def pipeline(numbers: int) -> int:
        handles = [queue.enqueue(count, number) for number in range(numbers)]
        return sum(handle.get_result() for handle in handles)

    assert shop.app.start_workflow(pipeline, 700).get_result() == 300 * 7
