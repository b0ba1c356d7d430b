"""The database of commands that only look, or change a few rows: no user code, no engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbos_events.clock import SystemClock
from dbos_events.errors import ConfigurationError

if TYPE_CHECKING:
    from dbos_events.settings import Settings
    from dbos_events.storage.postgres import PostgresStorage
    from dbos_events.storage.sqlite import SqliteStorage


@contextmanager
def connected(settings: Settings, *, create: bool = False) -> Iterator[PostgresStorage | SqliteStorage]:
    """The storage of these settings, whatever its schema; closed at the end.

    Raises:
        ConfigurationError: The URL is not usable, or its SQLite file is missing and `create` is not set:
            looking into a database must not make one.
    """
    from dbos_events.storage.opening import open_storage

    storage = open_storage(
        settings.database_url, schema=settings.dbos_system_schema, clock=SystemClock(), pool_size=4
    )
    try:
        if not create:
            _refuse_missing_file(storage)
        yield storage
    finally:
        storage.close()


@contextmanager
def fitting(settings: Settings) -> Iterator[PostgresStorage | SqliteStorage]:
    """The storage of these settings, with a schema that this release can work with.

    Raises:
        ConfigurationError: See `connected`.
        MigrationRequired: The schema is missing, too old or too new.
        StorageUnavailable: The database does not answer.
    """
    from dbos_events.storage.migrate import verify

    with connected(settings) as storage:
        verify(storage)
        yield storage


def _refuse_missing_file(storage: PostgresStorage | SqliteStorage) -> None:
    file = storage.database.engine.url.database or ""
    if storage.name == "sqlite" and not file.startswith("file:") and not Path(file).exists():
        raise ConfigurationError(
            f"There is no database file {file}. Name the database with --database, or by a variable that "
            "`--help` tells."
        )
