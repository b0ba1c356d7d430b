"""`dbos-events match`: what found no partner, and what an operator does about it."""

import json
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from dbos_events.cli.root import app as command_line
from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.writes import Anchor, Awaited, NewPublication, Register
from tests.storage.building import begin, read, register, step, write

Run = Callable[..., Result]


@pytest.fixture
def storage(database_url: str) -> Iterator[SqlStorage]:
    """A database with a payment that nobody waits for, and a workflow that waits for another one."""
    storage = open_storage(database_url, schema="dbos_events", clock=SystemClock())
    assert isinstance(storage, SqlStorage)
    migrate(storage)
    executor = register(storage, application="shop")
    begin(storage, executor, "order-8", application="shop")
    note = step("order-8", -1)
    note.change = Register(1, (Awaited(Anchor("shop", "payment", "8"), takes=True),))
    write(storage, executor, note)
    storage.publications.publish([NewPublication(Anchor("shop", "payment", "7"), "event:e1", "json", "12")])
    yield storage
    storage.close()


@pytest.fixture
def run(storage: SqlStorage, database_url: str) -> Run:
    runner = CliRunner()
    return lambda *arguments: runner.invoke(command_line, ["match", *arguments, "--database", database_url])


def number_of(run: Run) -> str:
    [publication] = json.loads(run("unmatched", "--json").stdout)["publications"]
    return str(publication["number"])


def test_both_sides_that_found_nobody_are_listed(run: Run) -> None:
    shown = run("unmatched").stdout
    assert "payment" in shown
    assert "order-8" in shown
    told = json.loads(run("unmatched", "--name", "payment", "--json").stdout)
    assert [(one["key"], one["state"], one["value"]) for one in told["publications"]] == [("7", "open", "12")]
    assert [(one["key"], one["workflow_id"]) for one in told["waits"]] == [("8", "order-8")]
    assert told["counts"] == {"payment": {"open": 1}}
    other = json.loads(run("unmatched", "--name", "refund", "--json").stdout)
    assert (other["publications"], other["waits"]) == ([], [])


def test_a_publication_is_given_to_whoever_it_belongs_to(run: Run, storage: SqlStorage) -> None:
    number = number_of(run)
    assert (
        run("force", number, "--key", "8", "--reason", "a digit was wrong").stdout
        == f"{number}: open under 8.\n"
    )
    awaited = (Awaited(Anchor("shop", "payment", "8"), takes=True),)
    [found] = storage.publications.next_of("order-8", 1, awaited)
    assert str(found.number) == number
    [decision] = read(storage, "SELECT decision, reason, decided_by FROM {schema}.decisions")
    assert (decision.decision, decision.reason) == ("force-publication", "a digit was wrong")
    assert "@" in decision.decided_by


def test_a_publication_that_is_given_up_is_listed_no_more_and_may_be_opened_again(run: Run) -> None:
    number = number_of(run)
    assert run("discard", number, "--reason", "a test").stdout == f"{number}: given up.\n"
    assert json.loads(run("unmatched", "--json").stdout)["publications"] == []
    assert json.loads(run("list", "--json").stdout) == {"payment": {"discarded": 1}}
    again = run("discard", number)
    assert again.exit_code == 1
    assert run("force", number, "--json").exit_code == 0
    assert number_of(run) == number


@pytest.mark.parametrize("command", [("force", "99"), ("discard", "99"), ("force", "1", "--key", "")])
def test_what_cannot_be_done_ends_with_one_line(run: Run, command: tuple[str, ...]) -> None:
    done = run(*command)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
