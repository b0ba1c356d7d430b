"""docs/architecture.md is a true map: every folder, every table, every thread, and none that is gone."""

import re
from pathlib import Path

from tests.documentation.pages import ROOT, page, rows, section

TEXT = page("architecture")
SOURCES = [ROOT / "dbos_events", ROOT / "connectors"]
OUTSIDE = {"tests", "examples", "benchmarks", "docker", "docs"}


def first_cells(heading: str) -> set[str]:
    return {cells[0].strip("`").rstrip("/") for cells in rows(section(TEXT, heading))}


def folders_with_files(top: Path) -> set[str]:
    files = (path for path in top.rglob("*") if path.suffix in (".py", ".sql"))
    return {path.parent.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_map_names_every_folder_of_the_packages_and_none_that_is_gone() -> None:
    packages = {name for top in (*SOURCES, ROOT / "migrations") for name in folders_with_files(top)}

    assert first_cells("## Folders") == packages | OUTSIDE


def test_the_map_names_folders_that_exist() -> None:
    assert all((ROOT / name).is_dir() for name in first_cells("## Folders"))


def test_the_map_names_every_table_and_view() -> None:
    made = {
        name
        for path in (ROOT / "migrations" / "versions").glob("*.py")
        for name in re.findall(r"(?:create_table\(\s*\"|CREATE VIEW \{schema\}\.)(\w+)", path.read_text())
    }

    assert first_cells("## Tables") == made | {"schema_version"}


def test_the_map_names_every_thread() -> None:
    code = "\n".join(path.read_text() for top in SOURCES for path in top.rglob("*.py"))
    named = set(re.findall(r"\bname=f?\"(dbos-[\w-]*\w)", code)) | {"dbos-reader"}
    services = re.findall(
        r"class \w+\((?:Due)?Service\):\n    \"{3}[^\"]*\"{3}\n\n    name = \"(\w+)\"", code
    )

    assert first_cells("## Threads of a process") == named | {f"dbos-{name}" for name in services}
