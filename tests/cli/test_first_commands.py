"""Commands that somebody gets nearly right, in the first ten minutes."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dbos_events.cli.root import app as command_line
from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from tests.cli.service import PROGRAM, clean_environment


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def make(file: Path) -> None:
    storage = open_storage(f"sqlite:///{file}", schema="dbos_events", clock=SystemClock())
    migrate(storage)
    storage.close()


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("FAILED", "ERROR"), ("running", "PENDING"), ("SUCCES", "SUCCESS"), ("canceled", "CANCELLED")],
)
def test_a_state_that_does_not_exist_is_told_with_the_one_that_was_meant(asked: str, meant: str) -> None:
    result = CliRunner().invoke(command_line, ["workflow", "list", "--status", asked])
    assert result.exit_code == 2
    assert f"Did you mean {meant}?" in " ".join(result.stderr.split())


def test_a_state_like_none_is_told_with_all_that_there_are(tmp_path: Path) -> None:
    result = CliRunner().invoke(command_line, ["workflow", "list", "--status", "zzz"])
    assert "There are PENDING" in " ".join(result.stderr.split())
    make(tmp_path / "x.sqlite")
    given = ["workflow", "list", "--status", "pending", "--database", f"sqlite:///{tmp_path}/x.sqlite"]
    assert CliRunner().invoke(command_line, given).exit_code == 0, "case does not matter"


def test_the_only_sqlite_file_is_found_and_named(tmp_path: Path) -> None:
    make(tmp_path / "shop.sqlite")
    done = command(tmp_path, "workflow", "list")
    assert (done.returncode, done.stdout) == (0, "No workflow fits.\n")
    assert "Using shop.sqlite, the only SQLite file here" in done.stderr


def test_of_several_sqlite_files_none_is_guessed_and_all_are_named(tmp_path: Path) -> None:
    make(tmp_path / "shop.sqlite")
    make(tmp_path / "bakery.sqlite")
    done = command(tmp_path, "workflow", "list")
    assert done.returncode == 1
    assert (
        "Here are bakery.sqlite, shop.sqlite: name one with --database sqlite:///bakery.sqlite" in done.stderr
    )


def test_a_variable_that_means_nothing_is_told_by_commands_too(tmp_path: Path) -> None:
    make(tmp_path / "shop.sqlite")
    done = command(tmp_path, "workflow", "list", DBOS_EVENTS_NAMES="x")
    assert "DBOS_EVENTS_NAMES is set and has no effect. Did you mean DBOS_EVENTS_NAME?" in done.stderr


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_ids_of_any_script_are_understood_in_any_locale(locale: str, tmp_path: Path) -> None:
    make(tmp_path / "shop.sqlite")
    settings = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8"}
    done = command(tmp_path, "workflow", "get", "Überweisung-注文", **settings)
    assert done.returncode == 1
    assert "There is no workflow with the id 'Überweisung-注文'" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_for_shells(shell: str, tmp_path: Path) -> None:
    done = command(tmp_path, _DBOS_EVENTS_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert "dbos-events" in done.stdout


def test_completion_completes_commands(tmp_path: Path) -> None:
    asked = {"COMP_WORDS": "dbos-events kafka sta", "COMP_CWORD": "2"}
    done = command(tmp_path, _DBOS_EVENTS_COMPLETE="complete_bash", **asked)
    assert done.stdout.split() == ["status"]


def test_a_command_imports_nothing_of_the_engine(tmp_path: Path) -> None:
    make(tmp_path / "shop.sqlite")
    program = (
        "import sys; from dbos_events.cli.root import app\n"
        "app(['workflow', 'list'], standalone_mode=False)\n"
        "print([name for name in sys.modules if name.startswith(('dbos_events.engine.core', 'dbos_events.facade', "
        "'dbos_events.app', 'rich', 'alembic', 'confluent_kafka'))])"
    )
    python = str(Path(PROGRAM).parent / "python")
    done = subprocess.run(
        [python, "-c", program],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
