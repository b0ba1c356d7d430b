"""`dbos-events kafka`: what operators decide reaches the database, and what cannot be decided is said in a line."""

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from dbos_events.cli.root import app as command_line
from dbos_events.clock import SystemClock
from dbos_events.errors import ClusterChanged
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.subjects.executors import NewExecutor

Run = Callable[..., Result]


@pytest.fixture
def storage(migrated_sqlite: str) -> Iterator[SqlStorage]:
    """`shop` has a consumer that stands at 7 in two partitions of `orders`; a process holds them."""
    storage = open_storage(migrated_sqlite, schema="dbos_events", clock=SystemClock())
    migrate(storage)
    consumer = storage.consumers.save("shop", "on_order", "on_order", "shop.on_order", ["orders"], "{}")
    incarnation = storage.lives.identify(consumer, "cluster", "orders", "topic-id")
    storage.positions.create(consumer, incarnation, {0: (7, "earliest"), 1: (7, "earliest")})
    holder = storage.executors.register(
        NewExecutor("shop", "host-1", True, "v1", "boot", "namespace", 1, "started", 60_000)
    )
    storage.positions.assign(holder, consumer, incarnation, [0, 1])
    storage.positions.halt(holder, (consumer, incarnation, 0), "truncated", 5)
    storage.positions.note_alarm((consumer, incarnation, 1), "went back", 9)
    storage.positions.halt(holder, (consumer, incarnation, 1), "went back", None)
    yield storage
    storage.close()


@pytest.fixture
def run(storage: SqlStorage, migrated_sqlite: str) -> Run:
    """Run a command of `shop` on the test's database."""
    runner = CliRunner()
    options = ("--application", "shop", "--database", migrated_sqlite)
    return lambda *arguments: runner.invoke(command_line, ["kafka", *arguments, *options])


def test_a_truncated_partition_is_read_on_as_a_branch(run: Run, storage: SqlStorage) -> None:
    done = run("resolve-truncation", "on_order", "orders", "0")
    (incarnation,) = {row.incarnation for row in storage.positions.read("shop")} - {1}
    assert done.stdout == f"orders[0] is read from 5 as incarnation {incarnation}.\n"
    assert "left" in run("status").stdout


def test_a_regression_is_skipped(run: Run) -> None:
    assert (
        run("resolve-regression", "on_order", "orders", "1", "--skip").stdout == "orders[1] is read from 9.\n"
    )
    again = run("resolve-regression", "on_order", "orders", "1", "--skip")
    assert again.exit_code == 1
    assert "is not halted" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("resolve-regression", "on_order", "orders", "1"),
        ("resolve-regression", "on_order", "orders", "1", "--skip", "--replay"),
        ("adopt-cluster", "on_order"),
        ("adopt-cluster", "on_order", "--continue", "--restart"),
    ],
)
def test_a_decision_is_one_of_two(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_another_cluster_is_adopted(run: Run, storage: SqlStorage) -> None:
    with pytest.raises(ClusterChanged):
        storage.lives.identify(1, "other", "orders", "topic-id")
    done = run("adopt-cluster", "on_order", "--continue")
    assert done.stdout == "on_order reads the cluster other from now on.\n"
    assert storage.lives.history(1, "orders").inherited == {0: 7, 1: 7}


def test_group_and_name_are_changed_when_nothing_runs(run: Run, storage: SqlStorage) -> None:
    refused = run("rename-consumer", "on_order", "orders")
    assert refused.exit_code == 1
    assert "is being read by host-1" in refused.stderr
    storage.executors.release(1)

    renamed = run("rename-consumer", "on_order", "orders").stdout
    assert renamed == "on_order is called orders from now on and reads with the group shop.orders.\n"
    adopted = run("adopt-watermark", "orders", "--from-group", "shop.orders", "--to-group", "eu").stdout
    assert adopted == "orders reads with the group eu from now on.\n"
    assert storage.consumers.save("shop", "orders", "on_order", "eu", ["orders"], "{}") == 1


def test_alarms_are_cleared(run: Run) -> None:
    assert run("clear-alarms", "on_order").stdout == "1 alarm cleared.\n"
    unknown = run("clear-alarms", "nobody")
    assert "has no consumer 'nobody'. It has on_order." in unknown.stderr
