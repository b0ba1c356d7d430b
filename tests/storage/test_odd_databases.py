"""A database that is none, another product's or half made is refused with one typed error that says what it is."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from dbos_events import App
from dbos_events.errors import StorageError
from dbos_events.storage.migrate import migrate
from dbos_events.storage.sqlite import _use_write_ahead_log
from tests.storage.building import register
from tests.storage.conftest import Open


def text_file(file: Path) -> None:
    file.write_text("this is no database, just text\n" * 100)


def folder(file: Path) -> None:
    file.mkdir()


def change(file: Path, *statements: str) -> None:
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def other_product(file: Path) -> None:
    change(file, "CREATE TABLE workflows (x)", "CREATE TABLE users (x)")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (text_file, "file is not a database"),
        (folder, "unable to open"),
        (other_product, "belong to another program"),
    ],
)
def test_what_is_no_database_of_ours_is_refused_and_left_as_it_was(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "odd.sqlite"
    make(file)
    before = file.read_bytes() if file.is_file() else b""
    app = App({"name": "shop", "system_database_url": f"sqlite:///{file}"})
    with pytest.raises(StorageError, match=said):
        app.launch()
    if before and make is not other_product:
        assert file.read_bytes() == before
    if make is other_product:
        tables = (
            sqlite3.connect(file).execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        )
        assert sorted(tables) == [("users",), ("workflows",)]


def test_a_migration_that_cannot_go_on_says_so_and_changes_nothing(
    migrated_sqlite: str, opened: Open
) -> None:
    file = Path(migrated_sqlite.removeprefix("sqlite:///"))
    change(file, "DELETE FROM schema_version")
    with pytest.raises(StorageError, match="could not be migrated"):
        migrate(opened(migrated_sqlite))
    assert sqlite3.connect(file).execute("SELECT version_num FROM schema_version").fetchall() == []


def test_a_table_that_is_missing_is_named(migrated_sqlite: str) -> None:
    change(Path(migrated_sqlite.removeprefix("sqlite:///")), "DROP TABLE executors")
    with pytest.raises(StorageError, match="executors"):
        App({"name": "shop", "system_database_url": migrated_sqlite}).launch()


@pytest.mark.parametrize("restored", [False, True], ids=["deleted", "restored"])
def test_a_file_that_was_deleted_or_replaced_while_it_was_open_is_not_written_to(
    restored: bool, migrated_sqlite: str, opened: Open, tmp_path: Path
) -> None:
    file = tmp_path / "test.sqlite"
    shutil.copy(file, tmp_path / "backup.sqlite")
    storage = opened(migrated_sqlite)
    storage.now_ms()
    for each in tmp_path.glob("test.sqlite*"):
        each.unlink()
    with pytest.raises(StorageError, match=r"was deleted or moved away|no such table"):
        register(storage)
    if not restored:
        return
    for each in tmp_path.glob("test.sqlite*"):
        each.unlink()
    (tmp_path / "backup.sqlite").rename(file)
    number = register(storage)
    with sqlite3.connect(file) as again:
        assert again.execute("SELECT id FROM executors").fetchall() == [(number,)]


def test_a_deleted_file_does_not_come_back_empty_through_a_new_connection(
    migrated_sqlite: str, opened: Open, tmp_path: Path
) -> None:
    storage = opened(migrated_sqlite)
    register(storage)
    for each in tmp_path.glob("test.sqlite*"):
        each.unlink()
    storage.database.engine.dispose()  # as the pool does with connections that are old or doubtful
    for _ in range(2):
        with pytest.raises(StorageError, match="was deleted or moved away"):
            register(storage)
    assert list(tmp_path.glob("test.sqlite*")) == []


@pytest.mark.parametrize(
    "name", ["a b.sqlite", "100%.sqlite", "what?.sqlite", "frag#ment.sqlite", "über.sqlite"]
)
def test_a_file_of_any_name_is_opened_again_by_later_connections(
    name: str, migrated_sqlite: str, opened: Open, tmp_path: Path
) -> None:
    file = tmp_path / name
    shutil.copy(Path(migrated_sqlite.removeprefix("sqlite:///")), file)
    storage = opened(f"sqlite:///{quote(str(file)) if '?' in name else file}")
    first = register(storage)
    storage.database.engine.dispose()
    assert register(storage) == first + 1


def test_what_is_not_a_lock_is_said_at_once_when_the_log_is_switched_on() -> None:
    class Full:
        """A disk without room: SQLITE_FULL."""

        asked = 0

        def execute(self, _pragma: str) -> None:
            self.asked += 1
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = 13
            raise error

    connection = Full()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        _use_write_ahead_log(connection)
    assert connection.asked == 1
