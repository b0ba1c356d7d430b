"""The wheel holds every file, installs into an empty environment, and is quick to import."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.documentation.blocks import read_blocks

ROOT = Path(__file__).parents[2]
# Where each folder of the tree goes in the wheel.
FOLDERS = {
    "dbos_events/": "dbos_events/",
    "connectors/dbos_events_kafka/": "dbos_events_kafka/",
    "connectors/dbos_events_webhooks/": "dbos_events_webhooks/",
    "migrations/": "dbos_events/_migrations/",
}
MODULES_OF_OTHERS = 125
"""Modules at import that are not ours: those of the standard library, which take the time."""
MODULES_OF_OURS = 190
"""A module of our own that is not needed at import shows here."""
# What `App.launch` loads, and an import must not: see "Imports" in CONTRIBUTING.md.
LOADED_LATER = {"sqlalchemy", "alembic", "pydantic_settings", "confluent_kafka"}
LIST_IMPORTS = """
import json, sys
before = set(sys.modules)
from dbos_events import DBOS
print(json.dumps(sorted(set(sys.modules) - before)))
"""

pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return its output; a failure shows all that it printed."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def tracked_files() -> set[str]:
    """Return the files of the tree, those not yet committed too, less what .gitignore names."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS, cwd=ROOT)
    return {name for name in listed.splitlines() if (ROOT / name).exists()}


def place_in_wheel(name: str) -> str:
    folder = next(folder for folder in FOLDERS if name.startswith(folder))
    return FOLDERS[folder] + name.removeprefix(folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as for a release: from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel, what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[kafka]", cwd=folder)
    return python


def test_wheel_holds_every_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {place_in_wheel(name) for name in tracked_files()}


def test_wheel_tells_its_license_commands_and_connectors(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        entry_points = archive.read(about["entry_points.txt"]).decode()
    assert "LICENSE" in about
    assert "dbos-events = dbos_events.cli:main" in entry_points
    assert "kafka = dbos_events_kafka:connector" in entry_points


def test_installed_connector_and_command_load(python: Path, tmp_path: Path) -> None:
    load = (
        "from importlib.metadata import entry_points; "
        "print([point.load() for point in entry_points(group='dbos_events.connectors')])"
    )
    run(python, "-c", load, cwd=tmp_path)
    assert run(python.parent / "dbos-events", "--help", cwd=tmp_path)


def test_import_loads_only_what_it_needs(python: Path, tmp_path: Path) -> None:
    """How long it takes is measured beside the peer: `python -m benchmarks --workload start`."""
    loaded = json.loads(run(python, "-c", LIST_IMPORTS, cwd=tmp_path))
    assert not {name.partition(".")[0] for name in loaded} & LOADED_LATER
    ours = [name for name in loaded if name.startswith("dbos_events")]
    assert len(ours) < MODULES_OF_OURS, ours
    assert len(loaded) - len(ours) < MODULES_OF_OTHERS, loaded


def test_first_program_of_the_readme_runs(python: Path, tmp_path: Path) -> None:
    programs = [block for block in read_blocks(ROOT / "README.md") if block.language == "python"]
    assert programs, "README.md shows no program"
    (tmp_path / "program.py").write_text(programs[0].text)
    run(python, "program.py", cwd=tmp_path)
