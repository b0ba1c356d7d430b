"""The commands that look into a database or change a few rows; neither service nor user code takes part."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dbos_events import App, SetWorkflowID
from dbos_events.cli.root import app as command_line

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the test's database."""
    return run_on(database_url, monkeypatch)


@pytest.fixture
def run_on_nothing(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a database without our schema."""
    return run_on(empty_database_url, monkeypatch)


def run_on(url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", url)
    monkeypatch.setenv("DBOS_EVENTS_NAME", "shop")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(command_line, arguments)


@pytest.fixture
def shop(database_url: str) -> Iterator[App]:
    """An App that has run three workflows: two went well, one failed."""
    app = App({"name": "shop", "system_database_url": database_url})

    @app.step(name="price")
    def price(article: str) -> dict[str, Any]:
        return {"article": article, "price": b"\xff"}

    @app.workflow(name="order")
    def order(article: str) -> str:
        if article == "broken":
            raise ValueError("cannot be sold\nat all")
        price(article)
        return f"sold {article}"

    with app:
        for number, article in enumerate(("book", "broken", "pen"), start=1):
            with SetWorkflowID(f"order-{number}"):
                handle = app.start_workflow(order, article)
            with pytest.raises(ValueError, match="sold") if article == "broken" else SetWorkflowID("unused"):
                handle.get_result()
        yield app


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def ids(result: Result) -> list[str]:
    return [row["workflow_id"] for row in rows(result)]


# ------------------------------------------------------------------ workflow list


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((), ["order-3", "order-2", "order-1"]),
        (("--sort", "oldest"), ["order-1", "order-2", "order-3"]),
        (("--limit", "1", "--offset", "1"), ["order-2"]),
        (("--status", "error"), ["order-2"]),
        (("--status", "ERROR", "--status", "SUCCESS"), ["order-3", "order-2", "order-1"]),
        (("--name", "order", "--prefix", "order-1"), ["order-1"]),
        (("--name", "other"), []),
        (("--queue", "none"), []),
        (("--application", "shop", "--since", "1h"), ["order-3", "order-2", "order-1"]),
        (("--application", "other"), []),
        (("--until", "1h"), []),
        (("--since", "2999-01-01T00:00:00Z"), []),
    ],
    ids=" ".join,
)
def test_workflow_list_shows_those_that_fit(
    shop: App, run: Run, filters: tuple[str, ...], expected: list[str]
) -> None:
    assert ids(run("workflow", "list", *filters, "--json")) == expected


def test_workflow_list_is_a_table_whose_values_are_whole_in_a_pipe(shop: App, run: Run) -> None:
    result = run("workflow", "list", "--limit", "2")

    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ID", "STATUS", "DOING", "NAME", "QUEUE", "CREATED", "TOOK", "EXECUTOR"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["order-3", "SUCCESS", "-", "order"],
        ["order-2", "ERROR", "-", "order"],
    ]
    assert "--limit" in result.stderr


def test_workflow_list_refuses_what_is_no_time(shop: App, run: Run) -> None:
    result = run("workflow", "list", "--since", "yesterday")

    assert result.exit_code == 2
    assert "'yesterday' is neither a time" in result.stderr


# ------------------------------------------------------------------ workflow get, steps


def test_workflow_get_shows_input_and_result(shop: App, run: Run) -> None:
    found = json.loads(run("workflow", "get", "order-1", "--json").stdout)

    assert found["status"] == "SUCCESS"
    assert found["input"] == {"args": ["book"], "kwargs": {}}
    assert found["output"] == "sold book"
    assert found["error"] is None
    assert found["event"] is None


def test_workflow_get_shows_an_error_in_one_line(shop: App, run: Run) -> None:
    assert "ValueError: cannot be sold\\nat all" in run("workflow", "get", "order-2").stdout
    found = json.loads(run("workflow", "get", "order-2", "--json").stdout)
    assert found["error"] == {"type": "ValueError", "message": "cannot be sold\nat all"}


def test_workflow_steps_shows_checkpoints(shop: App, run: Run) -> None:
    (step,) = rows(run("workflow", "steps", "order-1", "--json"))
    assert (step["function_id"], step["function_name"]) == (1, "price")
    assert step["output"] == {"article": "book", "price": {"base64": "/w=="}}
    assert "price" in run("workflow", "steps", "order-1").stdout
    assert "No step" in run("workflow", "steps", "order-2").stdout


@pytest.mark.parametrize("command", ["get", "steps", "cancel", "resume"])
def test_an_unknown_id_is_code_1_and_one_line(shop: App, run: Run, command: str) -> None:
    result = run("workflow", command, "order-9")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("dbos-events: There is no workflow with the id 'order-9'")
    assert result.stderr.count("\n") == 1


# ------------------------------------------------------------------ workflow cancel, resume


def test_cancel_stops_a_waiting_workflow_and_resume_lets_it_go_on(database_url: str, run: Run) -> None:
    app = App({"name": "shop", "system_database_url": database_url})

    @app.workflow(name="patient")
    def patient() -> str:
        app.sleep(3600)
        return "never"

    with app:
        with SetWorkflowID("waits"):
            app.start_workflow(patient)

        changed = json.loads(run("workflow", "cancel", "waits", "--json").stdout)
        assert changed == {"changed": ["waits"], "unchanged": []}
        assert "CANCELLED" in run("workflow", "get", "waits").stdout
        assert run("workflow", "cancel", "waits").stdout == "waits: has ended already.\n"

        assert run("workflow", "resume", "waits").stdout == "waits: goes on.\n"
        assert ids(run("workflow", "list", "--status", "CANCELLED", "--json")) == []


def test_nothing_changes_when_one_of_several_ids_is_wrong(shop: App, run: Run) -> None:
    before = run("workflow", "list", "--json").stdout
    assert run("workflow", "resume", "order-2", "order-9").exit_code == 1
    assert run("workflow", "list", "--json").stdout == before


# ------------------------------------------------------------------ migrate


def test_migrate_makes_the_schema_and_check_tells_whether_it_fits(run_on_nothing: Run) -> None:
    run = run_on_nothing
    before = run("migrate", "--check")
    assert before.exit_code == 1
    assert before.stderr.startswith("dbos-events: The")
    assert run("workflow", "list").exit_code == 1

    made = json.loads(run("migrate", "--json").stdout)
    assert made["fits"]
    assert made["migrated"]

    again = json.loads(run("migrate", "--json").stdout)
    assert not again["migrated"]
    assert run("migrate", "--check").exit_code == 0
    assert "No workflow fits." in run("workflow", "list").stdout


def test_looking_makes_no_database_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.sqlite"
    for command in (("workflow", "list"), ("migrate", "--check"), ("kafka", "status")):
        result = CliRunner().invoke(command_line, [*command, "--database", f"sqlite:///{missing}"])
        assert result.exit_code == 1
        assert "There is no database file" in result.stderr
    assert not missing.exists()


def test_a_database_that_does_not_answer_is_code_1_and_tells_no_password() -> None:
    address = "postgresql://me:secret@127.0.0.1:1/none"
    result = CliRunner().invoke(command_line, ["workflow", "list", "--database", address])

    assert result.exit_code == 1
    assert result.stderr.startswith("dbos-events: The database cannot be reached")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.output


def test_a_settings_file_counts_and_is_told_of_when_it_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "dbos-events.toml"
    file.write_text('system_database_url = "sqlite:///written.sqlite"')
    assert CliRunner().invoke(command_line, ["migrate"]).exit_code == 0
    assert (tmp_path / "written.sqlite").exists()

    file.write_text("system_database_url = ")
    result = CliRunner().invoke(command_line, ["migrate"])
    assert result.exit_code == 1
    assert result.stderr.startswith("dbos-events: The settings file dbos-events.toml is not TOML")


def test_what_the_database_refuses_is_one_line_unless_debug(postgres_url: str) -> None:
    arguments = ["migrate", "--database", postgres_url, "--schema", "pg_mine"]
    result = CliRunner().invoke(command_line, arguments)
    assert result.exit_code == 1
    assert "pg_mine" in result.stderr
    assert result.stderr.count("\n") == 1
    assert CliRunner().invoke(command_line, ["--debug", *arguments]).exception.__traceback__ is not None


# ------------------------------------------------------------------ version, help


def test_version_is_an_option_and_a_command() -> None:
    assert CliRunner().invoke(command_line, ["--version"]).stdout.startswith("dbos-events ")
    told = json.loads(CliRunner().invoke(command_line, ["version", "--json"]).stdout)
    assert set(told) == {"version", "python"}


@pytest.mark.parametrize(
    "command",
    [
        "", "run", "kafka", "kafka status", "migrate", "version", "workflow", "workflow list", "workflow get",
        "workflow steps", "workflow cancel", "workflow resume",
    ],
)  # fmt: skip
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(command_line, [*command.split(), "--help"])

    assert result.exit_code == 0
    assert f"Usage: root {command}".strip() in result.stdout
    if command not in ("kafka", "workflow", "version"):
        assert "Examples:" in result.stdout


def test_help_loads_nothing_that_is_slow() -> None:
    slow = ["alembic", "confluent_kafka", "pydantic", "rich", "sqlalchemy"]
    text = f"import sys, dbos_events.cli.root; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
