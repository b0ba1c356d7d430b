"""What a program pays for: a module is loaded when something of it is used, and values cost their methods when used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DRIVERS = {"sqlalchemy", "psycopg", "alembic"}

DECLARES = """
import sys
from dbos_events import App
app = App()
app.workflow(name="work")(lambda: None)
print(*sys.modules)
"""

OTHERS = {
    "pydantic", "pydantic_settings", "typer", "rich", "croniter", "confluent_kafka", "starlette", "zoneinfo",
    "importlib.metadata", "email", "multiprocessing", "dbos_events_kafka", "dbos_events_webhooks",
}  # fmt: skip
"""What is slow to load, and not needed before something is declared or launched."""

UNUSED = {
    "dbos_events.cli", "dbos_events.client", "dbos_events.connect", "dbos_events.control", "dbos_events.launched",
    "dbos_events.runtime", "dbos_events.settings", "dbos_events.storage.subjects", "dbos_events.testing",
}  # fmt: skip
"""Rooms that a program needs when it launches, or later."""


def loaded_by(program: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_an_app_that_is_declared_loads_no_driver_of_a_database() -> None:
    assert loaded_by(DECLARES) & DRIVERS == set()


def test_a_program_that_imports_the_facade_loads_neither_the_engine_room_nor_a_slow_package() -> None:
    loaded = loaded_by("import sys; from dbos_events import DBOS; print(*sys.modules)")

    assert loaded & (DRIVERS | OTHERS | UNUSED) == set()
    assert len([name for name in loaded if name.startswith("dbos_events")]) <= 105, sorted(loaded)


def test_a_verb_loads_its_own_family_and_no_other() -> None:
    program = (
        "import sys; from dbos_events import DBOS; before = set(sys.modules); DBOS.write_stream\n"
        "print(*(set(sys.modules) - before))"
    )
    loaded = {name for name in loaded_by(program) if name.startswith("dbos_events.api.")}

    assert "dbos_events.api.streams" in loaded
    assert loaded & {f"dbos_events.api.{other}" for other in ("messages", "queueing", "schedules")} == set()


def test_a_name_of_a_client_loads_no_service_that_a_launched_app_runs() -> None:
    loaded = loaded_by("import sys; from dbos_events import DBOSClient; print(*sys.modules)")

    assert (
        loaded & (DRIVERS | OTHERS - {"zoneinfo"} | {"dbos_events.launched", "dbos_events.runtime.inbox"})
        == set()
    )


def test_a_launch_on_a_sqlite_file_that_has_its_tables_loads_no_other_driver_no_migrations_and_no_connector(
    tmp_path: Path,
) -> None:
    program = (
        "import sys; from dbos_events import App\n"
        f"app = App({{'name': 'shop', 'system_database_url': 'sqlite:///{tmp_path / 'shop.db'}'}})\n"
        "app.workflow(name='work')(lambda: None); app.launch(); app.destroy(); print(*sys.modules)"
    )
    first, second = loaded_by(program), loaded_by(program)

    assert "alembic" in first
    unwanted = {"alembic", "psycopg", "croniter", "typer", "confluent_kafka", "dbos_events_kafka"}
    assert (
        second & (unwanted | {"dbos_events_webhooks", "starlette", "dbos_events.cli", "dbos_events.client"})
        == set()
    )


@pytest.mark.parametrize("source", ["dbos_events", "connectors"])
def test_value_classes_are_made_by_our_own_decorator(source: str) -> None:
    wrong = []
    for path in sorted((ROOT / source).rglob("*.py")):
        if path == ROOT / "dbos_events" / "model" / "dataclass.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "dataclasses":
                wrong += [path for alias in node.names if alias.name == "dataclass"]
    assert wrong == [], (
        "take `dataclass` from dbos_events.model.dataclass: that of the standard library compiles all methods of every "
        "class at import"
    )
