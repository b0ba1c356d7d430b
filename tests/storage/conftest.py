"""A migrated database for each test, on both kinds: a copy of a file, or a database that is emptied before."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dbos_events.clock import Clock, SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.testing import ManualClock
from tests.conftest import fresh_database
from tests.servers import Postgres, Servers

SCHEMA = "dbos_events"

Open = Callable[..., SqlStorage]


@pytest.fixture(scope="session")
def emptied_database(servers: Servers) -> Iterator[str]:
    """A migrated database for all tests of this process: copies of a template take ten times as long."""
    with fresh_database(Postgres(servers.address("postgres"))) as url:
        storage = open_storage(url, schema=SCHEMA, clock=SystemClock())
        migrate(storage)
        storage.close()
        yield url


@pytest.fixture
def migrated_postgres(postgres: Postgres, emptied_database: str) -> str:
    with psycopg.connect(emptied_database, options="-c lock_timeout=10s") as connection:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename !~ '^schema_'"
        for (name,) in connection.execute(names, [SCHEMA]).fetchall():
            connection.execute(f'DELETE FROM "{SCHEMA}"."{name}"')
    return emptied_database


@pytest.fixture
def migrated_sqlite(tmp_path: Path, dbos_template: Path) -> str:
    return f"sqlite:///{shutil.copy(dbos_template, tmp_path / 'test.sqlite')}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind."""
    url: str = request.getfixturevalue(f"migrated_{request.param}")
    return url


@pytest.fixture
def clock() -> ManualClock:
    """The time of `storage`, for tests that move it."""
    return ManualClock()


@pytest.fixture
def opened(clock: ManualClock) -> Iterator[Open]:
    """Open a database; it is closed after the test."""
    storages: list[SqlStorage] = []

    def make(url: str, *, clock: Clock = clock, schema: str = SCHEMA) -> SqlStorage:
        storages.append(open_storage(url, schema=schema, clock=clock))
        return storages[-1]

    yield make
    for storage in storages:
        storage.close()


@pytest.fixture
def storage(migrated_url: str, opened: Open) -> SqlStorage:
    """The database as one process sees it."""
    return opened(migrated_url)


@pytest.fixture
def other_storage(migrated_url: str, opened: Open) -> SqlStorage:
    """The same database with connections of another process."""
    return opened(migrated_url)


@pytest.fixture
def postgres_storage(migrated_postgres: str, opened: Open) -> SqlStorage:
    """For what only PostgreSQL has: row locks, plans, roles."""
    return opened(migrated_postgres)
