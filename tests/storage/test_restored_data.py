"""A dump of the data alone was restored: rows are there, and the sequences stand at their beginning."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from dbos_events.errors import BadWrite, StorageUnavailable
from dbos_events.storage.migrate import migrate
from dbos_events.storage.sqldatabase import SqlStorage
from tests.conftest import unique_name
from tests.storage.building import register
from tests.storage.conftest import Open

SCHEMA = "dbos_events"
IDENTITIES = """
SELECT c.relname, a.attname, pg_get_serial_sequence(format('%I.%I', 'dbos_events', c.relname), a.attname)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'dbos_events'::regnamespace AND c.relkind = 'r' AND a.attidentity <> ''
"""


def restart_all(url: str) -> None:
    with psycopg.connect(url) as connection:
        for _, _, sequence in connection.execute(IDENTITIES).fetchall():
            connection.execute("SELECT setval(%s, 1, false)", [sequence])


@pytest.fixture
def restored(postgres_storage: SqlStorage, migrated_postgres: str) -> SqlStorage:
    """Five process starts and a consumer are in the tables; nothing has told the sequences."""
    restart_all(migrated_postgres)
    for _ in range(5):
        register(postgres_storage)
    postgres_storage.consumers.save("shop", "orders", "handle", "group", ["orders"], "{}")
    restart_all(migrated_postgres)
    return postgres_storage


def test_a_number_that_is_taken_is_nobodys_value_and_the_next_try_gets_a_new_one(
    restored: SqlStorage,
) -> None:
    with pytest.raises(StorageUnavailable, match="executors"):
        register(restored)
    assert register(restored) == 6
    assert restored.consumers.save("shop", "payments", "handle", "group", ["payments"], "{}") == 2


def test_migrate_sets_the_sequences_of_all_tables(restored: SqlStorage, migrated_postgres: str) -> None:
    migrate(restored)
    assert register(restored) == 6
    with psycopg.connect(migrated_postgres) as connection:
        found = connection.execute(IDENTITIES).fetchall()
        assert {"executors", "consumers", "decisions", "gaps", "incarnations", "queue_starts"} <= {
            table for table, _, _ in found
        }
        for table, column, sequence in found:
            last = connection.execute(
                sql.SQL("SELECT max({}) FROM dbos_events.{}").format(
                    sql.Identifier(column), sql.Identifier(table)
                )
            ).fetchone()
            number = connection.execute("SELECT nextval(%s)", [sequence]).fetchone()
            assert last is not None
            assert number is not None
            assert number[0] > (last[0] or 0), table


def test_where_the_sequence_may_not_be_set_the_error_says_what_to_do(
    restored: SqlStorage, migrated_postgres: str, opened: Open
) -> None:
    role = unique_name("clerk")
    with psycopg.connect(migrated_postgres) as connection:
        connection.execute(
            f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA dbos_events TO {role};"
            f"GRANT ALL ON ALL TABLES IN SCHEMA dbos_events TO {role};"
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA dbos_events TO {role}"
        )
    clerk = opened(migrated_postgres.replace("postgres@", f"{role}@", 1))
    try:
        with pytest.raises(StorageUnavailable, match=r"permission denied.*dbos-events migrate"):
            register(clerk)
    finally:
        clerk.close()
        with psycopg.connect(migrated_postgres) as connection:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_key_that_a_value_brings_is_still_an_error_of_the_data(postgres_storage: SqlStorage) -> None:
    insert = sa.text(
        "INSERT INTO dbos_events.schema_facts (name, value) VALUES ('min_compatible_revision', '')"
    )
    with pytest.raises(BadWrite, match="duplicate key"):
        postgres_storage.database.transact(lambda tx: tx.connection.execute(insert))
