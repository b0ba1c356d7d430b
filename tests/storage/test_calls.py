"""Functions in the database that do a whole transaction: as the statements do, under the same fence, or not at all."""

import re
from types import ModuleType

import psycopg
import pytest
from alembic.script import ScriptDirectory

from dbos_events.errors import ExecutorFenced, StorageUnavailable
from dbos_events.storage.calls import Function
from dbos_events.storage.families.batches import _Batch
from dbos_events.storage.families.plain import WRITE_BATCH, WRITE_ENDS, WRITE_STEP, write_plain
from dbos_events.storage.families.plainintake import TAKE_IN
from dbos_events.storage.families.starts import WRITE_STARTS
from dbos_events.storage.migrate import scripts_folder
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.statements import _COMMENT, _ROWS, _read
from dbos_events.storage.writes import WRITTEN, Existing
from tests.storage.building import begin, change, end, read, register, start, step, workflow
from tests.storage.conftest import SCHEMA, Open
from tests.storage.racing import PATIENCE, await_waiting, meanwhile, open_transaction

# The statement, the function, and what its parameters are called there.
TWINS = [
    ("insert_checkpoints", "WRITE_BATCH", {"executor": "executor_id"}),
    ("insert_checkpoints", "WRITE_STEP", {"executor": "executor_id"}),
    ("update_outcomes", "WRITE_BATCH", {"executor": "executor_id"}),
    ("update_outcomes", "WRITE_ENDS", {"executor": "executor_id"}),
    ("insert_results", "WRITE_BATCH", {}),
    ("insert_results", "WRITE_ENDS", {}),
    ("insert_starts", "WRITE_STARTS", {"executor": "executor_id"}),
    ("insert_payloads", "WRITE_STARTS", {}),
    ("move_watermarks", "TAKE_IN", {"consumer": "consumer_id", "incarnation": "incarnation_id"}),
    (
        "insert_event_workflows",
        "TAKE_IN",
        {
            "consumer": "consumer_id",
            "incarnation": "incarnation_id",
            "application": "application_name",
            "name": "workflow_name",
            "version": "application_version",
            "queue": "queue_name",
            "executor": "executor_id",
        },
    ),
    ("insert_events", "TAKE_IN", {}),
    ("open_lanes", "TAKE_IN", {"consumer": "consumer_id", "incarnation": "incarnation_id"}),
]


def migration(number: str) -> ModuleType:
    module: ModuleType = ScriptDirectory(str(scripts_folder())).get_revision(number).module
    return module


def plain(sql: str) -> str:
    """The text without what rows come from: that is all that may differ."""
    return re.sub(r"\s+", " ", sql).strip()


def body(function: str) -> str:
    rows = r"(unnest\([^)]*\)|\(VALUES \([^)]*\)\))\s*AS \w+\([^)]*\)"
    first, second = migration("0006"), migration("0007")
    text = (
        second.with_parts(getattr(second, function))
        if hasattr(second, function)
        else getattr(first, function)
    )
    return plain(re.sub(rows, "ROWS", first.spelled(text, "{schema}")))


@pytest.mark.parametrize(("name", "function", "names"), TWINS)
def test_a_function_says_what_the_statement_says(name: str, function: str, names: dict[str, str]) -> None:
    sql = _COMMENT.sub("", dict(_read())[name])
    sql = _ROWS.sub("ROWS", sql).replace("{now}", "now_ms")
    sql = re.sub(r"\s*WHERE true\s+ON CONFLICT [^;]*DO NOTHING", "", sql)  # the function ends there
    for parameter, inside in names.items():
        sql = re.sub(rf":{parameter}\b", inside, sql)
    written = body(function)
    for part in plain(sql).split("ROWS"):
        assert part.strip() in written


def test_what_was_done_statement_by_statement_and_in_one_call_is_the_same(
    postgres_storage: SqlStorage,
) -> None:
    storage = postgres_storage
    executor = register(storage)
    rows = []
    for name in ("stepwise", "called"):
        begin(storage, executor, name)
        writes = [step(name, write_id=7, output="1", codec="json"), end(name, output="2", codec="json")]
        if name == "called":
            write_plain(storage.database, executor, writes)
        else:
            with open_transaction(storage) as tx:
                assert _Batch(tx, executor, writes).write() == [WRITTEN, WRITTEN]
        rows.append(
            [
                [tuple(row)[1:] for row in read(storage, f"SELECT {columns} WHERE {key} = '{name}'")]
                for columns, key in (
                    ("* FROM {schema}.steps", "workflow_id"),
                    ("* FROM {schema}.results", "workflow_id"),
                    (
                        "id, status, owner, take, completed_at, updated_at, lane_open FROM {schema}.workflows",
                        "id",
                    ),
                )
            ]
        )
    assert rows[0] == rows[1]
    assert all(rows[0])


def test_a_batch_waits_for_who_declares_its_executor_dead_and_writes_nothing(
    postgres_storage: SqlStorage, migrated_postgres: str, opened: Open
) -> None:
    storage, watcher = postgres_storage, opened(migrated_postgres)
    executor = register(storage)
    begin(storage, executor, "w")
    with open_transaction(watcher) as tx:
        tx.run("lock_executor", executor=executor)
        with meanwhile(lambda: storage.write_batch(executor, [step("w"), end("w")])) as batch:
            await_waiting(watcher, batch)
            tx.run("end_executor", executor=executor, reason="test")
            tx.connection.commit()
            with pytest.raises(ExecutorFenced):
                batch.result(PATIENCE)
    assert workflow(storage, "w").status == "PENDING"
    assert not read(storage, "SELECT 1 FROM {schema}.checkpoints")


def test_a_batch_that_waited_sees_who_has_taken_its_workflow_meanwhile(
    postgres_storage: SqlStorage, migrated_postgres: str, opened: Open
) -> None:
    """One snapshot for the whole call would be that from before the wait: the checkpoint would be written."""
    storage, other = postgres_storage, opened(migrated_postgres)
    executor = register(storage)
    begin(storage, executor, "w")
    with open_transaction(other) as tx:
        tx.run("lock_executor", executor=executor)
        with meanwhile(lambda: storage.write_batch(executor, [step("w")])) as batch:
            await_waiting(other, batch)
            tx.connection.exec_driver_sql(f"UPDATE {SCHEMA}.workflows SET take = take + 1 WHERE id = 'w'")
            tx.connection.commit()
            assert batch.result(PATIENCE) != [WRITTEN]
    assert not read(storage, "SELECT 1 FROM {schema}.checkpoints")


def test_without_the_right_to_call_it_goes_statement_by_statement(
    postgres_storage: SqlStorage, caplog: pytest.LogCaptureFixture
) -> None:
    storage = postgres_storage
    executor = register(storage)
    begin(storage, executor, "w")
    change(storage, "ALTER FUNCTION {schema}.write_ends RENAME TO not_there")
    try:
        assert storage.write_batch(executor, [step("w"), end("w")]) == [WRITTEN, WRITTEN]
    finally:
        change(storage, "ALTER FUNCTION {schema}.not_there RENAME TO write_ends")
    assert not storage.database.calls
    assert "GRANT EXECUTE ON ALL FUNCTIONS" in caplog.text


def test_a_connection_that_broke_costs_one_try(postgres_storage: SqlStorage, migrated_postgres: str) -> None:
    storage = postgres_storage
    executor = register(storage)
    begin(storage, executor, "w")
    storage.write_batch(executor, [step("w", 1)])
    with psycopg.connect(migrated_postgres, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(StorageUnavailable):
        storage.write_batch(executor, [step("w", 2)])
    assert storage.write_batch(executor, [step("w", 2)]) == [WRITTEN]


@pytest.mark.parametrize(
    "function",
    [WRITE_BATCH, WRITE_ENDS, WRITE_STEP, WRITE_STARTS, TAKE_IN],
    ids=lambda function: function.name,
)
def test_what_is_said_of_a_function_is_what_it_takes(
    function: Function, postgres_storage: SqlStorage
) -> None:
    [row] = read(
        postgres_storage,
        "SELECT pg_get_function_identity_arguments(p.oid) AS arguments FROM pg_proc AS p "
        "JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE p.proname = :name AND n.nspname = :schema",
        name=function.name,
        schema=SCHEMA,
    )
    spelled = {"bigint": "bigint", "int": "integer", "text": "text", "bool": "boolean", "bytea": "bytea"}
    spelled["float8"] = "double precision"
    taken = [argument.split(" ", 1)[1] for argument in row.arguments.split(", ")]
    single = [spelled[kind] for kind in function.single]
    columns = [f"{spelled[kind]}[]" for kind in function.columns]
    assert taken == single + columns


def test_of_two_starts_under_one_id_in_a_batch_one_is_written_with_its_input(
    postgres_storage: SqlStorage,
) -> None:
    storage = postgres_storage
    executor = register(storage)
    first, second = start("w", start_id=1, input='"1"'), start("w", start_id=2, input='"2"')
    results = storage.write_batch(executor, [first, second])
    assert results == [WRITTEN, Existing("w", "work", "PENDING", None, None)]
    assert [row.input for row in read(storage, "SELECT input FROM {schema}.payloads")] == ['"1"']
    again = storage.write_batch(executor, [first, second])  # as after a lost answer
    assert again == results
    assert len(read(storage, "SELECT 1 FROM {schema}.payloads")) == 1


def test_a_start_adds_no_input_to_an_event_of_the_same_id(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    executor = register(storage)
    begin(storage, executor, "event")
    change(storage, "DELETE FROM {schema}.payloads WHERE workflow_id = 'event'")
    [result] = storage.write_batch(executor, [start("event", input='"1"')])
    assert isinstance(result, Existing)
    assert not read(storage, "SELECT 1 FROM {schema}.payloads")
