"""A migrated database for each test, on both kinds, made as a copy of a template."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.testing import ManualClock
from tests.conftest import unique_name
from tests.servers import Postgres, Servers

SCHEMA = "dbos_events"

Open = Callable[[str], SqlStorage]


@pytest.fixture(scope="session")
def postgres_template(servers: Servers) -> Iterator[str]:
    """The name of a migrated database."""
    server = Postgres(servers.address("postgres"))
    name = unique_name("template")
    storage = open_storage(server.create_database(name), schema=SCHEMA, clock=SystemClock())
    migrate(storage)
    storage.close()
    yield name
    with suppress(psycopg.OperationalError):
        server.drop_database(name)


@pytest.fixture
def migrated_postgres(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    name = unique_name("test")
    yield postgres.create_database(name, template=postgres_template)
    with suppress(psycopg.OperationalError):
        postgres.drop_database(name)


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

    def make(url: str) -> SqlStorage:
        storages.append(open_storage(url, schema=SCHEMA, clock=clock))
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
