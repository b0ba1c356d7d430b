"""The schema: made once, by whoever comes first, and checked by all others."""

import subprocess
import sys
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql

from dbos_events.config import DEFAULT_SCHEMA
from dbos_events.errors import ConfigurationError, MigrationRequired, StorageError
from dbos_events.storage.migrate import REVISION, SchemaState, migrate, read_state, scripts_folder, verify
from dbos_events.storage.sqldatabase import SqlStorage
from tests.conftest import unique_name
from tests.storage.building import begin, change, register, workflow
from tests.storage.conftest import Open

MIGRATE = """
import sys
from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
storage = open_storage(sys.argv[1], schema=sys.argv[2], clock=SystemClock())
print("ready", flush=True)
sys.stdin.readline()
print(migrate(storage).revision)
"""


@pytest.fixture
def empty(empty_database_url: str, opened: Open) -> SqlStorage:
    return opened(empty_database_url)


def works(storage: SqlStorage) -> bool:
    executor = register(storage)
    begin(storage, executor, "w")
    return bool(workflow(storage, "w").owner == executor)


def set_revision(storage: SqlStorage, revision: str, compatible: str) -> None:
    change(storage, "UPDATE {schema}.schema_version SET version_num = :revision", revision=revision)
    change(storage, "UPDATE {schema}.schema_facts SET value = :compatible", compatible=compatible)


def test_an_empty_database_has_no_revision_and_is_left_as_it_is(empty: SqlStorage) -> None:
    assert read_state(empty) == SchemaState(None, None)
    with pytest.raises(MigrationRequired, match="dbos-events migrate"):
        verify(empty)
    with empty.database.engine.connect() as connection:
        assert not sa.inspect(connection).get_table_names(schema=empty.database.schema or None)


def test_a_fresh_database_is_brought_to_the_newest_revision(empty: SqlStorage) -> None:
    assert migrate(empty).revision == REVISION
    assert verify(empty).fits
    assert works(empty)


def test_to_migrate_again_changes_nothing(empty: SqlStorage) -> None:
    migrate(empty)
    assert works(empty)
    assert migrate(empty) == read_state(empty)
    assert workflow(empty, "w").id == "w"


def test_processes_that_start_at_once_on_an_empty_database_all_find_it_migrated(
    empty_database_url: str,
) -> None:
    command = [sys.executable, "-c", MIGRATE, empty_database_url, DEFAULT_SCHEMA]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    assert answers == [(f"{REVISION}\n", "")] * 3


@pytest.mark.parametrize("compatible", ["0000", REVISION])
def test_a_newer_schema_that_this_code_can_work_with_is_accepted(empty: SqlStorage, compatible: str) -> None:
    migrate(empty)
    set_revision(empty, "9007", compatible)
    assert migrate(empty) == verify(empty) == SchemaState("9007", compatible)
    assert works(empty)


def test_a_newer_schema_that_needs_newer_code_is_refused(empty: SqlStorage) -> None:
    migrate(empty)
    set_revision(empty, "9007", "9002")
    for attempt in (migrate, verify):
        with pytest.raises(MigrationRequired, match="9002"):
            attempt(empty)


def test_a_newer_schema_that_does_not_say_whom_it_serves_is_refused(empty: SqlStorage) -> None:
    migrate(empty)
    change(empty, "DELETE FROM {schema}.schema_facts")
    change(empty, "UPDATE {schema}.schema_version SET version_num = '9007'")
    with pytest.raises(MigrationRequired, match="9007"):
        verify(empty)


def test_an_older_schema_is_refused_without_a_migration(empty: SqlStorage) -> None:
    migrate(empty)
    set_revision(empty, "0000", "0000")
    with pytest.raises(MigrationRequired, match="0000"):
        verify(empty)


def test_the_newest_migration_is_the_revision_that_the_code_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(scripts_folder()))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection")
def test_both_databases_have_the_same_tables_columns_and_indexes(
    sqlite_url: str, postgres_url: str, opened: Open
) -> None:
    shapes = []
    expressions = []
    for url in (sqlite_url, postgres_url):
        storage = opened(url)
        migrate(storage)
        schema = storage.database.schema or None
        with storage.database.engine.connect() as connection:
            inspector = sa.inspect(connection)
            shapes.append(
                {
                    table: (
                        [(c["name"], c["nullable"]) for c in inspector.get_columns(table, schema=schema)],
                        inspector.get_pk_constraint(table, schema=schema)["constrained_columns"],
                        {(i["name"], *i["column_names"]) for i in indexes(inspector, table, schema)}
                        - {
                            (u["name"], *u["column_names"])
                            for u in inspector.get_unique_constraints(table, schema)
                        },
                    )
                    for table in inspector.get_table_names(schema=schema)
                }
            )
        expressions.append(over_expressions(storage))
    assert shapes[0] == shapes[1]
    assert expressions == [{"workflows_waiting"}] * 2


def indexes(inspector: sa.Inspector, table: str, schema: str | None) -> list[Any]:
    """Those over columns: of one over an expression SQLAlchemy tells the shape on one of the databases only."""
    return [i for i in inspector.get_indexes(table, schema=schema) if None not in i["column_names"]]


def over_expressions(storage: SqlStorage) -> set[str]:
    """The indexes whose first part is an expression."""
    if storage.database.dialect.is_postgres:
        query = "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indexprs IS NOT NULL"
    else:
        query = "SELECT m.name FROM sqlite_master m JOIN pragma_index_info(m.name) i ON i.cid = -2 WHERE m.type = 'index'"
    with storage.database.engine.connect() as connection:
        return {name for (name,) in connection.exec_driver_sql(query)}


# ------------------------------------------------------------------ PostgreSQL


def test_the_schema_may_have_any_plain_name(postgres_url: str, opened: Open) -> None:
    for schema in ("other", "With-Dash", "user", "s" * 63):
        storage = opened(postgres_url, schema=schema)
        migrate(storage)
        assert works(storage)
        with storage.database.engine.connect() as connection:
            assert "workflows" in sa.inspect(connection).get_table_names(schema=schema)


@pytest.mark.parametrize("schema", ["a b", 'a"b', "1a", "s" * 64, "a;b", "é"], ids=ascii)
def test_a_schema_name_that_would_need_care_is_refused(
    migrated_postgres: str, opened: Open, schema: str
) -> None:
    with pytest.raises(ConfigurationError):
        migrate(opened(migrated_postgres, schema=schema))


def test_two_schemas_in_one_database_know_nothing_of_each_other(postgres_url: str, opened: Open) -> None:
    one, two = opened(postgres_url, schema="one"), opened(postgres_url, schema="two")
    migrate(one)
    with pytest.raises(MigrationRequired):
        verify(two)
    migrate(two)
    begin(one, register(one), "w")
    assert two.workflows.read_ending("w") is None
    assert works(two)


def test_a_role_without_rights_to_change_the_schema_works_in_it(postgres_url: str, opened: Open) -> None:
    owner = opened(postgres_url)
    migrate(owner)
    role = sql.Identifier(name := unique_name("role"))
    schema = sql.Identifier(DEFAULT_SCHEMA)
    grants = (
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    )
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for grant in grants:
            connection.execute(sql.SQL(grant).format(role=role, schema=schema))
        try:
            url = sa.make_url(postgres_url).set(username=name, password="secret")
            limited = opened(url.render_as_string(hide_password=False))
            assert verify(limited).fits
            assert migrate(limited).fits, "there is nothing to do, so nothing is asked for"
            assert works(limited)
            elsewhere = opened(url.render_as_string(hide_password=False), schema="forbidden")
            with pytest.raises(StorageError, match="migrated"):
                migrate(elsewhere)
            limited.close()
            elsewhere.close()
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
