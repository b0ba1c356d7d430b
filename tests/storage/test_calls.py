"""Functions in the database that do a whole transaction: as the statements do, under the same fence, or not at all."""

import re
from dataclasses import replace

import psycopg
import pytest

from dbos_events.errors import ExecutorFenced, StorageUnavailable
from dbos_events.storage.functions import Function, functions
from dbos_events.storage.migrate import migrate
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.statements import POSTGRES, load
from dbos_events.storage.subjects.executors import fence
from dbos_events.storage.subjects.plainbatches import write_plain
from dbos_events.storage.writes import WRITTEN, Existing, own_checkpoints
from dbos_events.storage.writes.family import write_in_turn
from tests.storage.building import begin, change, end, read, register, start, step, workflow
from tests.storage.conftest import SCHEMA, Open
from tests.storage.racing import PATIENCE, await_waiting, meanwhile, open_transaction

FUNCTIONS = functions()
STATEMENTS = load(POSTGRES, "{schema}")

# Which statements each function has; each of them is written down once, in `sql/`.
PARTS = {
    "write_step": {"fence", "insert_checkpoints"},
    "write_ends": {"fence", "update_outcomes", "insert_results"},
    "write_batch": {"fence", "insert_checkpoints", "update_outcomes", "insert_results"},
    "write_talk": {
        *(
            "fence",
            "insert_checkpoints",
            "lock_destinations",
            "insert_messages",
            "wake_waiting",
            "placed_messages",
            "consume_messages",
        ),
        *("update_outcomes", "insert_results"),
    },
    "write_published": {
        *("fence", "insert_anchors", "lock_anchors", "lock_writers", "insert_checkpoints"),
        *("insert_publications", "insert_values", "delete_replaced_values", "insert_stream_entries"),
        *("settle_entries", "wake_parked", "update_outcomes", "insert_results"),
    },
    "write_children": {
        *("fence", "insert_checkpoints", "insert_starts", "insert_start_payloads"),
        *("update_outcomes", "insert_results", "wake_parents"),
    },
    "look_for_messages": {"next_messages"},
    "write_starts": {"fence", "insert_starts", "insert_start_payloads"},
    "take_in": {
        *("fence", "lock_watermarks", "move_watermarks", "open_lanes"),
        *("insert_event_workflows", "insert_events"),
    },
}


def plain(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


@pytest.mark.parametrize(
    ("function", "name"), [(f, name) for f, names in PARTS.items() for name in sorted(names)]
)
def test_a_function_says_what_the_statement_says(function: str, name: str) -> None:
    statement = STATEMENTS[name]
    sql = statement.raw.replace("{now}", "now_ms").replace(POSTGRES.pieces["idle_bound"], "NULL")
    sql = re.sub(r"\s*WHERE true\s+ON CONFLICT [^;]*DO NOTHING", "", sql)  # the function ends there
    sql = re.sub(r"(?<![:\w]):(\w+)", r"p_\1", sql.removeprefix("SELECT"))
    holes = r"\{(?:rows|list|numbers):[^}]*\}"
    written = plain(FUNCTIONS[function].text)
    for piece in re.split(holes, plain(sql)):
        assert piece.strip() in written


def test_each_function_is_here() -> None:
    assert FUNCTIONS.keys() == PARTS.keys()


def test_a_function_of_another_text_has_another_name_and_stays_beside_it(
    postgres_storage: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = postgres_storage
    before = functions_of(storage)
    pieces = {**POSTGRES.pieces, "for_key_share": "FOR SHARE"}
    monkeypatch.setattr("dbos_events.storage.functions.POSTGRES", replace(POSTGRES, pieces=pieces))
    other = functions()
    fenced = {name for name, parts in PARTS.items() if "fence" in parts}
    assert {name for name in PARTS if other[name].called != FUNCTIONS[name].called} == fenced
    migrate(storage)
    after = functions_of(storage)
    try:
        assert after - before == {other[name].called for name in fenced}
        assert before <= after
    finally:
        for name in after - before:
            change(storage, f"DROP FUNCTION {{schema}}.{name}")


def test_a_function_that_is_missing_is_made_at_the_next_migration(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    before = functions_of(storage)
    change(storage, f"DROP FUNCTION {{schema}}.{FUNCTIONS['write_ends'].called}")
    assert functions_of(storage) != before
    migrate(storage)
    assert functions_of(storage) == before


def functions_of(storage: SqlStorage) -> set[str]:
    rows = read(
        storage,
        "SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = :schema",
        schema=SCHEMA,
    )
    return {row.proname for row in rows}


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
            write_plain(storage.database, executor, writes, own_checkpoints.part(writes))
        else:
            with open_transaction(storage) as tx:
                fence(tx, executor)
                assert write_in_turn(tx, executor, writes) == [WRITTEN, WRITTEN]
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
            tx.run("end_executor", executor=executor, identity=0, reason="test")
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
    change(storage, f"ALTER FUNCTION {{schema}}.{FUNCTIONS['write_ends'].called} RENAME TO not_there")
    try:
        assert storage.write_batch(executor, [step("w"), end("w")]) == [WRITTEN, WRITTEN]
    finally:
        change(storage, f"ALTER FUNCTION {{schema}}.not_there RENAME TO {FUNCTIONS['write_ends'].called}")
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
    FUNCTIONS.values(),
    ids=lambda function: function.name,
)
def test_what_is_said_of_a_function_is_what_it_takes(
    function: Function, postgres_storage: SqlStorage
) -> None:
    [row] = read(
        postgres_storage,
        "SELECT pg_get_function_identity_arguments(p.oid) AS arguments FROM pg_proc AS p "
        "JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE p.proname = :name AND n.nspname = :schema",
        name=function.called,
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
