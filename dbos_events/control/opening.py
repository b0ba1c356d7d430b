"""From settings to control: for programs that look at a database, or change a few rows, and run nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbos_events.clock import SystemClock
from dbos_events.control.control import Control
from dbos_events.control.schema import SchemaControl
from dbos_events.errors import ConfigurationError
from dbos_events.serialization import Codecs
from dbos_events.storage.opening import open_storage

if TYPE_CHECKING:
    from dbos_events.settings import Settings
    from dbos_events.storage.postgres import PostgresStorage
    from dbos_events.storage.sqlite import SqliteStorage


@contextmanager
def opened_control(settings: Settings, *, advice: str = "") -> Iterator[Control]:
    """Control over the database of these settings, which is closed at the end.

    Args:
        settings: Name the database, its schema, the application and how values are stored.
        advice: What follows the error that the database's file is missing: how to name another.

    Raises:
        ConfigurationError: The URL is not usable, or its SQLite file is missing: looking makes no database.
        MigrationRequired: The schema is missing, too old or too new.
        StorageUnavailable: The database does not answer.
    """
    with _connected(settings, create=False, advice=advice) as storage:
        SchemaControl(storage).verify()
        yield Control(storage, Codecs(default=settings.serializer), settings.name, settings.sections)


@contextmanager
def opened_schema(settings: Settings, *, create: bool, advice: str = "") -> Iterator[SchemaControl]:
    """Control over the schema of the database of these settings, whatever it is; closed at the end.

    Args:
        settings: Name the database and its schema.
        create: A missing SQLite file is made at the first use.
        advice: See `opened_control`.

    Raises:
        ConfigurationError: The URL is not usable, or its SQLite file is missing and `create` is not set.
    """
    with _connected(settings, create=create, advice=advice) as storage:
        yield SchemaControl(storage)


@contextmanager
def _connected(settings: Settings, *, create: bool, advice: str) -> Iterator[PostgresStorage | SqliteStorage]:
    storage = open_storage(
        settings.database_url, schema=settings.dbos_system_schema, clock=SystemClock(), pool_size=4
    )
    try:
        if not create:
            _refuse_missing_file(storage, advice)
        yield storage
    finally:
        storage.close()


def _refuse_missing_file(storage: PostgresStorage | SqliteStorage, advice: str) -> None:
    file = storage.database.engine.url.database or ""
    if storage.name == "sqlite" and not file.startswith("file:") and not Path(file).exists():
        raise ConfigurationError(f"There is no database file {file}. {advice}".rstrip())
