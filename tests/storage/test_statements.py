"""The SQL files: the same statements for both databases, each sound, used and explained."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
import sqlalchemy as sa

import dbos_events.storage
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.statements import POSTGRES, SQLITE, Statement, load

PACKAGE = Path(dbos_events.storage.__file__).parent
NAMES = sorted(load(SQLITE, "main"))
SQL_FILES = sorted(PACKAGE.glob("sql/*.sql"))
_HEAD = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
WRITTEN = [name for path in SQL_FILES for name in _HEAD.findall(path.read_text())]
FORMS = ("apart", "among", "chosen")


def values(statement: Statement, storage: SqlStorage) -> dict[str, object]:
    """NULL for each parameter, one row of them for a batch."""
    arrays = storage.database.arrays
    parameters: dict[str, object] = dict.fromkeys(re.findall(r"(?<![:\w]):(\w+)", statement.sql))
    for name, kind in (*statement.columns, *statement.lists):
        if arrays:
            parameters[name] = arrays[kind]([None])
    return parameters


def test_both_databases_have_the_same_statements() -> None:
    postgres, sqlite = load(POSTGRES, "s"), load(SQLITE, "main")
    assert list(postgres) == list(sqlite)
    for name, statement in postgres.items():
        assert (statement.columns, statement.lists) == (sqlite[name].columns, sqlite[name].lists)


def test_each_statement_is_there_once_and_is_read() -> None:
    assert sorted(WRITTEN) == sorted(name for name in NAMES if _as_written(name))


def _as_written(name: str) -> bool:
    """Not one of the narrower forms, which are made of a statement that takes rows."""
    taking, _, form = name.rpartition("_")
    return form not in FORMS or taking not in NAMES


@pytest.mark.parametrize("dialect", [POSTGRES, SQLITE], ids=lambda dialect: dialect.name)
def test_no_placeholder_is_left(dialect: object) -> None:
    left = {
        name: found for name, s in load(dialect, "s").items() if (found := re.findall(r"\{[^}]*\}", s.sql))
    }  # type: ignore[arg-type]
    assert left == {}


@pytest.mark.parametrize("manual", [True, False], ids=["test-clock", "database-clock"])
def test_every_statement_can_be_planned(storage: SqlStorage, manual: bool) -> None:
    schema = '"dbos_events"' if storage.name == "postgres" else "main"
    statements = load(storage.database.dialect, schema, manual_clock=manual)
    if storage.name == "sqlite":
        for name in ("claim_partitions", *(f"claim_partitions_{form}" for form in FORMS)):
            del statements[name]  # a LATERAL, for which SQLite claims of each partition by itself
    wrong = {}
    for name, statement in statements.items():
        try:
            with storage.database.engine.begin() as connection:
                explain = sa.text("EXPLAIN " + statement.sql)
                connection.execute(explain, values(statement, storage)).all()
        except sa.exc.SQLAlchemyError as error:
            wrong[name] = str(error)
    assert wrong == {}


def test_every_statement_is_used() -> None:
    code = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    called = code + (PACKAGE / "functions.sql").read_text()
    assert [name for name in WRITTEN if f'"{name}"' not in code and f"{{select: {name} " not in called] == []


def test_every_statement_that_the_code_names_is_there() -> None:
    code = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    named = set(re.findall(r'\b_?tx\.(?:run|one|batch|change)\(\s*"(\w+)"', code))
    assert named
    assert named - set(NAMES) == set()


def test_the_sql_files_are_part_of_the_package() -> None:
    assert {path.name for path in SQL_FILES} == {
        entry.name for entry in files("dbos_events.storage").joinpath("sql").iterdir()
    }


def test_every_statement_has_a_comment() -> None:
    bare = []
    for path in SQL_FILES:
        for part in re.split(r"^-- name: ", path.read_text(), flags=re.MULTILINE)[1:]:
            name, _, body = part.partition("\n")
            if not body.startswith("-- "):
                bare.append(name)
    assert bare == []
