"""Prepared statements: kept where the server keeps them, and done without where a pooler loses them."""

import pytest

from dbos_events.errors import StorageUnavailable
from dbos_events.storage.postgres import PREPARE_AFTER
from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import register
from tests.storage.racing import open_transaction

PREPARED = "SELECT count(*) FROM pg_prepared_statements"


def prepared(storage: SqlStorage) -> int:
    with open_transaction(storage) as tx:
        return int(tx.connection.exec_driver_sql(PREPARED).scalar_one())


def ask_often(storage: SqlStorage) -> None:
    for _ in range(PREPARE_AFTER + 1):
        storage.executors.read("application")


def test_the_server_keeps_the_plans_of_what_comes_often(postgres_storage: SqlStorage) -> None:
    ask_often(postgres_storage)
    assert prepared(postgres_storage) > 0


def test_a_pooler_that_loses_prepared_statements_costs_one_retry(postgres_storage: SqlStorage) -> None:
    storage = postgres_storage
    ask_often(storage)
    with open_transaction(storage) as tx:
        driver = tx.connection.connection.driver_connection
        assert driver is not None
        driver.pgconn.exec_(b"DEALLOCATE ALL")  # behind the driver's back, as a pooler would
    with pytest.raises(StorageUnavailable):
        storage.executors.read("application")
    assert register(storage) > 0
    ask_often(storage)
    assert prepared(storage) == 0
