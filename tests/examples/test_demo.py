"""The demo proves what it claims, on its own broker and database and on real ones."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from examples.demo.ledger import Call, Ledger
from examples.demo.orders import make_orders
from examples.demo.proof import money, once
from tests.examples.test_examples import run

SMALL = ("--orders", "150", "--rate", "60", "--seed", "7")


def ledger_of(folder: Path, *calls: Call) -> Ledger:
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.create()
    for call in calls:
        ledger.record(call, 0)
    return ledger


@pytest.mark.slow
def test_the_demo_kills_a_worker_and_proves_that_nothing_was_lost_or_done_twice() -> None:
    printed = run("demo", *SMALL)

    assert printed.count("  holds  ") == 6
    assert "is gone in the middle of its work" in printed
    assert "The proof holds." in printed


@pytest.mark.slow
def test_the_demo_runs_on_real_servers(kafka_bootstrap: str, postgres_url: str) -> None:
    printed = run("demo", *SMALL, "--kafka", kafka_bootstrap, "--database", postgres_url)

    assert printed.count("  holds  ") == 6


def test_a_seed_makes_the_same_orders_again() -> None:
    assert make_orders(20, seed=3) == make_orders(20, seed=3)
    assert make_orders(20, seed=3) != make_orders(20, seed=4)


def test_the_provider_acts_once_for_a_key_and_notes_each_call(tmp_path: Path) -> None:
    call = Call("charge", "order-0001", "workflow:1", "worker-1")

    ledger = ledger_of(tmp_path, call, call)

    assert len(ledger.calls()) == 2
    assert len(ledger.entries()) == 1


def test_the_proof_fails_when_an_order_was_charged_twice_or_never(tmp_path: Path) -> None:
    orders = make_orders(2, seed=1)
    ledger = ledger_of(
        tmp_path,
        Call("charge", orders[0].id, "one workflow:1", "worker-1"),
        Call("charge", orders[0].id, "another workflow:1", "worker-2"),
    )

    check = once(orders, ledger.entries(), "charge", "charged")

    assert not check.holds
    assert check.against == "order-0001: 2 times, order-0002: 0 times"


def test_the_proof_fails_when_something_else_was_shipped(tmp_path: Path) -> None:
    orders = make_orders(1, seed=1)
    ledger = ledger_of(
        tmp_path, Call("ship", orders[0].id, "a:1", "worker-1"), Call("ship", "nobody's", "b:1", "worker-1")
    )

    check = once(orders, ledger.entries(), "ship", "shipped")

    assert not check.holds
    assert "nobody's: never ordered" in check.against


def test_the_proof_fails_when_money_is_missing(tmp_path: Path) -> None:
    orders = make_orders(2, seed=1)
    ledger = ledger_of(tmp_path)
    ledger.record(Call("charge", orders[0].id, "a:1", "worker-1"), orders[0].cents)

    assert not money(orders, ledger.entries()).holds


def test_the_ledger_is_written_by_several_processes(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path)

    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()

    assert mode == "wal"
    assert ledger.shipped() == 0
