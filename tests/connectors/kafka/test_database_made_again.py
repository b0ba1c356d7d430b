"""A database that is made again, or restored, under a live process: its consumers are registered anew, as after a start."""

import psycopg

from dbos_events.clock import SystemClock
from dbos_events.storage.migrate import migrate
from dbos_events.storage.opening import open_storage
from dbos_events_kafka.testing import EmbeddedBroker
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until


def test_a_schema_that_was_dropped_and_made_again_is_read_into(
    postgres_url: str, embedded: EmbeddedBroker
) -> None:
    embedded.create_topic("orders", 1)
    rows = Rows(postgres_url)
    handler = Counting()
    with Consumers(postgres_url, embedded.bootstrap_servers) as consumers:
        app = consumers.start("orders", handler.sync_handler)
        embedded.produce("orders", *(["x"] * 5), partition=0)
        wait_until(lambda: rows.succeeded() == 5, "the first events do not finish")
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA dbos_events CASCADE")
        wait_until(lambda: not app.health().ready, "a schema that is gone is not told")
        storage = open_storage(postgres_url, schema="dbos_events", clock=SystemClock())
        migrate(storage)
        storage.close()
        embedded.produce("orders", *(["y"] * 5), partition=0)
        wait_until(lambda: rows.succeeded() >= 5, "the consumer does not read into the new tables")
        wait_until(lambda: app.health().ready, "it is not ready again")
