"""A record whose row the database refuses holds up its own partition, and no other."""

from __future__ import annotations

import psycopg
import pytest

from dbos_events.storage import apart
from dbos_events_kafka.testing import EmbeddedBroker
from tests.connectors.kafka.consuming import Consumers, Counting
from tests.faults.rows import Rows
from tests.faults.waiting import wait_until

GUARD = """
CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.value = 'bad' THEN RAISE EXCEPTION 'the auditor is away'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON dbos_events.events FOR EACH ROW EXECUTE FUNCTION public.guard();
"""


@pytest.mark.parametrize("ordering", ["none", "key"])
def test_a_record_that_the_database_refuses_holds_up_its_own_partition_only(
    ordering: str, migrated_postgres: str, embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "FIRST_PAUSE", 1.5)
    monkeypatch.setattr(apart, "LONGEST_PAUSE", 1.5)
    embedded.create_topic("orders", 4)
    rows = Rows(migrated_postgres)
    with Consumers(migrated_postgres, embedded.bootstrap_servers) as made:
        made.start("orders", Counting().sync_handler, ordering=ordering)
        with psycopg.connect(migrated_postgres) as connection:
            connection.execute(GUARD)
        for partition in range(4):
            values = ["a", "b", "bad", "c", "d"] if partition == 2 else ["x"] * 20
            embedded.produce("orders", *values, partition=partition)
        wait_until(lambda: rows.succeeded() == 62, "the others do not go on")
        embedded.produce("orders", "later", partition=0)
        wait_until(lambda: rows.succeeded() == 63, "what comes later does not go on")

        def told() -> bool:
            return "offset 2" in str(rows.query("SELECT detail FROM {t}watermarks"))

        wait_until(told, "nobody says where it stands")
        with psycopg.connect(migrated_postgres) as connection:
            connection.execute("DROP TRIGGER guard ON dbos_events.events")
        wait_until(lambda: rows.succeeded() == 66, "it does not go on when it is mended")
