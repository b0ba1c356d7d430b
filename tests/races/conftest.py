"""A database for races: emptied, with its counters, before each order that is tried."""

from collections.abc import Iterator

import psycopg
import pytest

from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events.storage.sqldatabase import SqlStorage
from tests.conftest import fresh_database
from tests.races.interleaving import Race
from tests.servers import Postgres, Servers
from tests.storage.conftest import SCHEMA, Open, clock, migrated_sqlite, opened

__all__ = ["clock", "migrated_sqlite", "opened"]


@pytest.fixture(scope="session")
def raced_database(servers: Servers) -> Iterator[str]:
    """A migrated database of this process, in which a deadlock is found at once."""
    with fresh_database(Postgres(servers.address("postgres"))) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE \"{connection.info.dbname}\" SET deadlock_timeout = '50ms'")
        storage = open_storage(url, schema=SCHEMA, clock=SystemClock())
        migrate(storage)
        storage.close()
        yield url


def race_on(url: str, opened: Open) -> Iterator[Race]:
    other = opened(url)
    tables, counters = _names(other)
    empty = [f"DELETE FROM {table}" for table in tables]
    if counters:  # then all of it goes out at once
        empty = ["; ".join([*empty, *(f"SELECT setval('{counter}', 1, false)" for counter in counters)])]

    def reset() -> None:
        with other.database.engine.begin() as connection:
            for statement in empty:
                connection.exec_driver_sql(statement)

    shown = [table.replace("checkpoints", "steps") for table in tables]
    race = Race(opened(url), other, shown, reset)
    try:
        yield race
    finally:
        race.close()


def _names(storage: SqlStorage) -> tuple[list[str], list[str]]:
    """Our tables, but for those that tell of the schema, and PostgreSQL's counters of their rows."""
    with storage.database.engine.begin() as connection:
        if not storage.database.dialect.is_postgres:
            query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'schema_%'"
            return list(connection.exec_driver_sql(query).scalars()), []
        tables = connection.exec_driver_sql(
            f"SELECT schemaname || '.' || tablename FROM pg_tables "
            f"WHERE schemaname = '{SCHEMA}' AND tablename !~ '^schema_'"
        )
        counters = connection.exec_driver_sql(
            f"SELECT schemaname || '.' || sequencename FROM pg_sequences WHERE schemaname = '{SCHEMA}'"
        )
        return list(tables.scalars()), list(counters.scalars())


@pytest.fixture
def race(postgres: Postgres, raced_database: str, opened: Open) -> Iterator[Race]:
    """On PostgreSQL, where transactions run beside each other."""
    yield from race_on(raced_database, opened)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def race_of_many(request: pytest.FixtureRequest, opened: Open) -> Iterator[Race]:
    """On both, for operations of several transactions: on SQLite others come between those."""
    name = "migrated_sqlite" if request.param == "sqlite" else "raced_database"
    yield from race_on(request.getfixturevalue(name), opened)
