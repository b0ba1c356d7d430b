"""`dbos-events kafka pause`, `resume`, and what `kafka status` says of consumers that take nothing in."""

import json
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from dbos_events.cli.root import app as command_line
from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.protocol import Storage

Run = Callable[..., Result]


@pytest.fixture
def storage(database_url: str) -> Iterator[Storage]:
    """A database in which no process runs, and `shop` once read one partition of `orders`."""
    storage = open_storage(database_url, schema="dbos_events", clock=SystemClock())
    migrate(storage)
    consumer = storage.consumers.save("shop", "on_order", "on_order", "shop.on_order", ["orders"], "{}")
    incarnation = storage.lives.save("cluster", "orders", "topic-id")
    storage.positions.create(consumer, incarnation, {0: (5, "earliest")})
    yield storage
    storage.close()


@pytest.fixture
def run(storage: Storage, database_url: str) -> Run:
    runner = CliRunner()
    return lambda *arguments: runner.invoke(
        command_line, [*arguments, "--application", "shop", "--database", database_url]
    )


def status(run: Run) -> dict[str, object]:
    [row] = json.loads(run("kafka", "status", "--json").stdout)
    return dict(row)


def test_a_consumer_is_paused_and_resumed_while_nothing_runs(run: Run) -> None:
    paused = run("kafka", "pause", "on_order", "--reason", "migration")
    assert (paused.exit_code, paused.stdout) == (0, "on_order: paused.\n")
    shown = status(run)["paused"]
    assert isinstance(shown, dict)
    assert shown["reason"] == "migration"
    assert "@" in shown["by"]
    line = run("kafka", "status").stdout.splitlines()[1]
    assert "paused" in line
    assert ": migration" in line

    assert run("kafka", "resume", "on_order").stdout == "on_order: goes on.\n"
    assert status(run)["paused"] is None


def test_to_do_it_again_changes_nothing_and_says_so(run: Run) -> None:
    run("kafka", "pause", "on_order", "--reason", "first")
    assert "is paused already" in run("kafka", "pause", "on_order", "--reason", "second").stdout
    again = json.loads(run("kafka", "pause", "on_order", "--json").stdout)
    assert (again["changed"], again["paused"]["reason"]) == (False, "first")
    assert json.loads(run("kafka", "resume", "on_order", "--json").stdout)["changed"]
    assert "is neither paused" in run("kafka", "resume", "on_order").stdout


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_an_unknown_consumer_is_an_error_that_names_the_known_ones(run: Run, command: str) -> None:
    result = run("kafka", command, "on_ordre")
    assert result.exit_code == 1
    assert "'shop' has no consumer called 'on_ordre'. It has on_order." in result.stderr


def test_an_open_breaker_is_shown_and_closed_by_hand(run: Run, storage: Storage) -> None:
    [state] = storage.consumers.states("shop")
    storage.breakers.open(state.id, state.epoch, "20 of the last 20 events failed", 30_000)

    shown = status(run)["breaker"]
    assert isinstance(shown, dict)
    assert (shown["state"], shown["reason"]) == ("open", "20 of the last 20 events failed")
    assert shown["trial_at"] == shown["since"] + 30_000
    line = run("kafka", "status").stdout.splitlines()[1]
    assert "breaker open" in line
    assert "20 of the last 20 events failed; trial at 20" in line

    run("kafka", "resume", "on_order")
    assert status(run)["breaker"] is None
