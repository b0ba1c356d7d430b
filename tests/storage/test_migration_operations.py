"""Revision 0005 on a database that has been used: consumers get what their events' ids begin with."""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from dbos_events.runtime.encoding import id_prefix
from dbos_events.storage.migrate import migrate, scripts_folder
from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.building import APP, change, read
from tests.storage.conftest import Open

GROUPS = ("shop.on_order", "a/b c%é")


def upgrade(storage: SqlStorage, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(scripts_folder()))
    config.set_main_option("path_separator", "os")
    schema = storage.database.schema or None
    with storage.database.engine.begin() as connection:
        if schema is not None:
            connection.execute(sa.schema.CreateSchema(schema))
        config.attributes["connection"] = connection
        config.attributes["schema"] = schema
        command.upgrade(config, revision)


def test_what_was_there_before_gets_its_prefix_and_defaults(database_url: str, opened: Open) -> None:
    storage = opened(database_url)
    upgrade(storage, "0004")
    for number, group in enumerate(GROUPS):
        change(
            storage,
            "INSERT INTO {schema}.consumers (application, name, handler, group_id, topics, settings, updated_at) "
            "VALUES (:application, :name, 'handle', :group_id, '[\"orders\"]', '{}', 0)",
            application=APP,
            name=f"consumer-{number}",
            group_id=group,
        )
    change(
        storage,
        "INSERT INTO {schema}.watermarks (consumer, incarnation, partition, next_offset, reason, updated_at) "
        "VALUES (1, 1, 0, 7, 'taken in', 0)",
    )
    change(
        storage,
        "INSERT INTO {schema}.gaps (consumer, incarnation, partition, first_offset, next_offset, recorded_at) "
        "VALUES (1, 1, 0, 2, 4, 0)",
    )

    migrate(storage)

    rows = read(storage, "SELECT group_id, id_prefix, breaker_epoch FROM {schema}.consumers ORDER BY id")
    assert [(row.group_id, row.breaker_epoch) for row in rows] == [(group, 0) for group in GROUPS]
    for row in rows:
        assert id_prefix(row.group_id, "orders", 1, 0) == f"{row.id_prefix}orders/1/0/"
    [gap] = read(storage, "SELECT reason, records FROM {schema}.gaps")
    assert (gap.reason, gap.records) == ("missing", None)
    assert [state.breaker for state in storage.consumer_states(APP)] == [None, None]
    [watermark] = read(storage, "SELECT first_offset FROM {schema}.watermarks")
    assert watermark.first_offset is None
