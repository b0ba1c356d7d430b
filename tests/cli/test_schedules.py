"""`dbos-events schedule`: what it shows, changes and accounts for, while nothing runs."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner, Result

from dbos_events.cli.root import app as command_line
from dbos_events.clock import SystemClock
from dbos_events.engine.schedules import begin_of
from dbos_events.model.schedule import ScheduleSpec
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.protocol import Storage

Run = Callable[..., Result]
BEGIN = round(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def storage(database_url: str) -> Iterator[Storage]:
    """A database in which no process runs, and `shop` has a schedule since the first of March."""
    storage = open_storage(database_url, schema="dbos_events", clock=SystemClock())
    migrate(storage)
    spec = ScheduleSpec(
        "report", "send", "30 2 * * *", zone="America/New_York", codec="json", context='{"v":1'
    )
    storage.schedules.create("shop", spec, begin_of("shop", spec, BEGIN), by="a test")
    yield storage
    storage.close()


@pytest.fixture
def run(storage: Storage, database_url: str) -> Run:
    runner = CliRunner()
    return lambda *arguments: runner.invoke(
        command_line, ["schedule", *arguments, "--application", "shop", "--database", database_url]
    )


def test_a_schedule_is_listed_and_shown_also_where_its_context_cannot_be_read(run: Run) -> None:
    [line] = run("list").stdout.splitlines()[1:]
    assert line.split()[:3] == ["report", "active", "30"]
    [row] = json.loads(run("list", "--json").stdout)
    assert (row["schedule_name"], row["context"], row["orphaned"]) == ("report", '{"v":1', False)
    assert "America/New_York" in run("show", "report").stdout
    assert json.loads(run("show", "report", "--json").stdout)["schedule"] == "30 2 * * *"
    assert json.loads(run("list", "--prefix", "x", "--json").stdout) == []
    assert json.loads(run("list", "--all", "--json").stdout) == [row]


def test_it_is_paused_and_resumed_and_doing_so_again_changes_nothing(run: Run) -> None:
    assert run("pause", "report", "--reason", "figures").stdout == "report: paused.\n"
    assert run("pause", "report").stdout == "report: is paused already.\n"
    shown = json.loads(run("show", "report", "--json").stdout)
    assert (shown["status"], shown["change_reason"]) == ("PAUSED", "figures")
    assert run("resume", "report").stdout == "report: goes on.\n"
    assert json.loads(run("resume", "report", "--json").stdout) == {"name": "report", "changed": False}


def test_what_comes_next_is_told_in_its_zone(run: Run) -> None:
    rows = json.loads(run("next", "report", "--count", "400", "--json").stdout)
    assert len(rows) == 400
    assert all(row["at"][11:16] in ("02:30", "03:00") for row in rows)
    assert [row["kind"] for row in rows].count("shifted") in (1, 2)
    assert len(run("next", "report").stdout.splitlines()) == 6


def test_an_audit_without_a_process_says_what_has_no_outcome(run: Run) -> None:
    until = ("--until", "2026-03-09T00:00:00Z")
    told = run("audit", "report", *until)
    assert told.exit_code == 1
    assert "report: 0 of 8 ticks from 2026-03-01T00:00:00Z to 2026-03-09T00:00:00Z." in told.stdout
    found = json.loads(run("audit", "report", *until, "--json").stdout)
    assert (found["expected"], found["explained"], len(found["unexplained"])) == (8, 0, 8)
    assert "2026-03-08T02:30:00[America/New_York]" in found["unexplained"]


def test_what_is_started_by_hand_waits_for_a_process(run: Run, storage: Storage) -> None:
    storage.schedules.apply("shop", [(_plain(), begin_of("shop", _plain(), BEGIN))], by="a test")
    triggered = run("trigger", "plain").stdout.strip()
    assert triggered.startswith("sched-shop/plain-trigger-")
    told = run("backfill", "plain", "--from", "2026-03-01T00:00:00Z", "--to", "2026-03-03T12:00:00Z")
    assert told.stdout.splitlines() == [
        "sched-shop/plain-2026-03-02T00:00:00[UTC]",
        "sched-shop/plain-2026-03-03T00:00:00[UTC]",
    ]
    again = run(
        "backfill", "plain", "--from", "2026-03-01T00:00:00Z", "--to", "2026-03-03T12:00:00Z", "--json"
    )
    assert json.loads(again.stdout)["workflow_ids"] == told.stdout.splitlines()
    audit = run("audit", "plain", "--until", "2026-03-03T12:00:00Z")
    assert audit.exit_code == 0
    assert "2 of 2 ticks" in audit.stdout
    assert "2 backfilled" in audit.stdout


def test_an_unknown_schedule_is_told_in_one_line(run: Run) -> None:
    for command in (
        ["show"],
        ["next"],
        ["audit"],
        ["pause"],
        ["resume"],
        ["trigger"],
        ["backfill", "--from", "1h"],
    ):
        told = run(command[0], "nothing", *command[1:])
        assert told.exit_code == 1, command
        assert "has no schedule called 'nothing'" in told.stderr


def _plain() -> ScheduleSpec:
    return ScheduleSpec("plain", "send", "0 0 * * *")
