"""Two processes that migrate one database: the second one waits, and finds it done."""

import psycopg

from dbos_events.storage.migrate import REVISION, _migrate, migrate
from tests.storage.conftest import SCHEMA, Open
from tests.storage.racing import PATIENCE, await_waiting, meanwhile


def test_a_migration_waits_for_the_one_that_is_under_way(postgres_url: str, opened: Open) -> None:
    first, second = opened(postgres_url), opened(postgres_url)
    with first.database.engine.begin() as connection:
        _migrate(connection, SCHEMA)
        with meanwhile(lambda: migrate(second).revision) as other:
            await_waiting(second, other)
    assert other.result(PATIENCE) == REVISION


def test_a_migration_whose_process_dies_in_the_middle_leaves_nothing(postgres_url: str, opened: Open) -> None:
    first, second = opened(postgres_url), opened(postgres_url)
    with first.database.engine.connect() as connection, connection.begin() as under_way:
        _migrate(connection, SCHEMA)
        under_way.rollback()
    with psycopg.connect(postgres_url) as look:
        [(schemas,)] = look.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [SCHEMA])
    assert schemas == 0
    assert migrate(second).revision == REVISION
