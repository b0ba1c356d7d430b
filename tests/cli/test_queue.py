"""`dbos-events queue`: lists, reasons, pauses and purges, while nothing runs."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dbos_events.cli.root import app as command_line
from dbos_events.clock import SystemClock
from dbos_events.model.queue import QueueLimits
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.executors import NewExecutor
from dbos_events.storage.subjects.taking import Taker
from tests.storage.building import begin, kill, workflow

Run = Callable[..., Result]


@pytest.fixture
def storage(database_url: str) -> Iterator[SqlStorage]:
    storage = open_storage(database_url, schema="dbos_events", clock=SystemClock())
    migrate(storage)
    yield storage
    storage.close()


@pytest.fixture
def executor(storage: SqlStorage) -> int:
    """A live process of version v1 that has the function `work`."""
    new = NewExecutor("shop", "a", False, "v1", "boot", "ns", 1, "now", 60_000, ["work"])
    return storage.executors.register(new)


@pytest.fixture
def run(storage: SqlStorage, database_url: str) -> Run:
    runner = CliRunner()

    def command(*arguments: str) -> Result:
        named = [] if arguments[1] == "explain" else ["--application", "shop"]
        return runner.invoke(command_line, [*arguments, *named, "--database", database_url])

    return command


def declared(storage: SqlStorage, limits: QueueLimits | None = None, name: str = "q") -> None:
    storage.queues.save_declared("shop", {name: limits or QueueLimits()})


def claim(storage: SqlStorage, executor: int, count: int) -> None:
    state = storage.queues.get("shop", "q")
    assert state is not None
    assert storage.queues.claim(Taker(executor, "shop", "v1", ["work"]), state, count).rows


def why(run: Run, workflow_id: str) -> list[str]:
    result = run("queue", "explain", workflow_id, "--json")
    assert result.exit_code == 0, result.output
    return [reason["code"] for reason in json.loads(result.stdout)["reasons"]]


def test_queues_are_listed_with_limits_and_numbers(run: Run, storage: SqlStorage, executor: int) -> None:
    declared(storage, QueueLimits(concurrency=2, limiter={"limit": 5, "period": 60.0}))
    declared(storage, QueueLimits(partition_concurrency=1), "r")
    begin(storage, executor, "a", "b", "c", queue="q")
    begin(storage, executor, "d", queue="q", status="DELAYED", delay_ms=60_000)
    begin(storage, executor, "e", queue="r", queue_partition_key="p")
    claim(storage, executor, 1)
    [first, second] = json.loads(run("queue", "list", "--json").stdout)
    assert (first["queue"], first["waiting"], first["delayed"], first["running"]) == ("q", 2, 1, 1)
    assert (first["limits"]["concurrency"], first["limits"]["limiter"]) == (2, {"limit": 5, "period": 60.0})
    assert second["limits"]["partitions"]
    lines = run("queue", "list").stdout.splitlines()
    assert "concurrency 2, limiter 5 in 60 s" in lines[1]
    shown = json.loads(run("queue", "show", "r", "--json").stdout)
    assert shown["partitions"] == [{"partition": "p", "waiting": 1, "running": 0}]
    assert "PARTITION" in run("queue", "show", "r").stdout


def test_an_unknown_queue_or_workflow_is_told_with_what_there_is(run: Run, storage: SqlStorage) -> None:
    declared(storage)
    for command in ("show", "pause", "resume"):
        result = run("queue", command, "orders")
        assert result.exit_code == 1
        assert "no queue called 'orders'. It has q." in result.stderr
    result = run("queue", "explain", "nobody")
    assert result.exit_code == 1
    assert "nobody" in result.stderr


def test_a_pause_and_its_end(run: Run, storage: SqlStorage, executor: int) -> None:
    declared(storage)
    begin(storage, executor, "w", queue="q")
    assert run("queue", "pause", "q", "--reason", "too hot").stdout == "q: paused.\n"
    assert run("queue", "pause", "q").stdout == "q: is paused already.\n"
    assert why(run, "w") == ["paused"]
    assert "too hot" in run("queue", "explain", "w").stdout
    assert json.loads(run("queue", "show", "q", "--json").stdout)["paused"]["reason"] == "too hot"
    assert run("queue", "resume", "q").stdout == "q: goes on.\n"
    assert run("queue", "resume", "q").stdout == "q: was not paused.\n"
    assert why(run, "w") == []


def test_what_waits_is_purged_and_what_runs_is_not(run: Run, storage: SqlStorage, executor: int) -> None:
    declared(storage)
    begin(storage, executor, "a", "b", "c", "d", queue="q")
    claim(storage, executor, 1)
    assert run("queue", "purge", "q").exit_code == 1, "nobody said yes"
    assert run("queue", "purge", "q", "--yes", "--most", "1").stdout == "q: 1 cancelled.\n"
    assert len(json.loads(run("queue", "purge", "q", "--yes", "--json").stdout)["cancelled"]) == 2
    statuses = sorted(workflow(storage, name).status for name in "abcd")
    assert statuses == ["CANCELLED", "CANCELLED", "CANCELLED", "PENDING"]


@pytest.mark.parametrize(
    ("limits", "fields", "codes"),
    [
        (QueueLimits(concurrency=1), {}, ["limit"]),
        (QueueLimits(limiter={"limit": 1, "period": 600}), {}, ["rate"]),
        (QueueLimits(partition_concurrency=1), {"queue_partition_key": "p"}, ["limit"]),
        (QueueLimits(partition_limiter={"limit": 1, "period": 600}), {"queue_partition_key": "p"}, ["rate"]),
        (QueueLimits(), {"version": "v9", "version_pinned": True}, ["version"]),
        (QueueLimits(), {"name": "unknown"}, ["no-function"]),
        (QueueLimits(), {"status": "DELAYED", "delay_ms": 60_000}, ["delay"]),
        (QueueLimits(), {}, []),
    ],
    ids=["concurrency", "rate", "partition", "rate of the partition", "version", "function", "delay", "free"],
)
def test_each_reason_is_told(
    run: Run,
    storage: SqlStorage,
    executor: int,
    limits: QueueLimits,
    fields: dict[str, Any],
    codes: list[str],
) -> None:
    declared(storage, limits)
    key = {"queue_partition_key": "p"} if limits.partitioned else {}
    begin(storage, executor, "first", queue="q", **key)
    claim(storage, executor, 1)
    begin(storage, executor, "w", queue="q", **{**key, **fields})
    assert why(run, "w") == codes
    assert why(run, "first") == []


def test_more_reasons_are_told_at_once(run: Run, storage: SqlStorage, executor: int) -> None:
    begin(storage, executor, "w", queue="nowhere")
    kill(storage, executor)
    assert why(run, "w") == ["no-queue", "no-process"]
    declared(storage, QueueLimits(partition_concurrency=1))
    begin(storage, register_again(storage), "v", queue="q")
    assert why(run, "v") == ["no-partition"]


def register_again(storage: SqlStorage) -> int:
    new = NewExecutor("shop", "b", False, "v1", "boot", "ns", 1, "now", 60_000, ["work"])
    return storage.executors.register(new)


def test_who_goes_before_is_counted(run: Run, storage: SqlStorage, executor: int) -> None:
    declared(storage)
    for name, priority in (("a", 1), ("b", 1), ("w", 2), ("c", 3)):
        begin(storage, executor, name, queue="q", priority=priority)
    assert "2 go before it" in run("queue", "explain", "w").stdout
