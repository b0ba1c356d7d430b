"""One outage of the database is one message, whoever notices it, and one when it is over."""

import logging
import time
from collections.abc import Iterator

import pytest

from dbos_events import App
from dbos_events.errors import StorageUnavailable
from dbos_events.storage import errorcodes
from dbos_events.telemetry.log import Recurring
from dbos_events.telemetry.outages import Outages
from tests.servers import PostgresServer

PATIENCE = 60.0
"""Seconds; a server of its own stops and starts meanwhile."""


@pytest.fixture
def app(postgres_server: PostgresServer) -> Iterator[App]:
    url = postgres_server.create_database("one-outage")
    app = App({"name": "outage", "system_database_url": url, "lease_seconds": 4.0})
    app.queue("q")
    yield app
    app.destroy()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "dbos_events" and record.levelno >= logging.INFO
    ]


@pytest.mark.postgres
def test_all_who_wait_for_the_database_say_it_once(
    app: App, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dbos_events")
    app.launch()
    # What lasts is said again after ten seconds, with a count; on a busy machine this outage is as long.
    app.core.outages._voice = Recurring(first_pause=3600.0)
    caplog.clear()
    postgres_server.stop()
    wait_for(lambda: sum("service waits" in problem for problem in app.health().problems) >= 4)
    assert [line.partition(":")[0] for line in said(caplog)] == ["The database does not answer"]

    postgres_server.start()
    wait_for(lambda: any("answers again" in line for line in said(caplog)))
    wait_for(lambda: not app.health().problems)
    assert len(said(caplog)) == 2, said(caplog)


def wait_for(holds: object) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_is_over_when_all_are_answered_also_for_those_who_ask_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="dbos_events")
    outages = Outages()
    error = StorageUnavailable("connection refused.")
    for who in ("lease", "queue", "caller"):
        outages.away(who, error)
    outages.forget("caller")
    outages.back("lease")
    assert [line[:28] for line in said(caplog)] == ["The database does not answer"]
    outages.back("queue")
    assert "answers again" in said(caplog)[-1]
    outages.back("lease")
    assert len(said(caplog)) == 2

    outages.away("caller", error)
    outages.forget("caller")
    outages.back("anybody")
    assert "answers again" in said(caplog)[-1]
    assert len(said(caplog)) == 4


@pytest.mark.parametrize(
    ("text", "refused", "advice"),
    [
        ('connection failed: FATAL:  database "shop" does not exist', True, "createdb"),
        (
            'connection failed: FATAL:  password authentication failed for user "me"',
            True,
            "DBOS_SYSTEM_DATABASE_URL",
        ),
        ("connection failed: fe_sendauth: no password supplied", True, "DBOS_SYSTEM_DATABASE_URL"),
        ('connection failed: FATAL:  role "me" does not exist', True, "login"),
        ("connection failed: FATAL:  sorry, too many clients already", False, "max_connections"),
        ("connection failed: Connection refused", False, "see whether it runs"),
    ],
)
def test_a_server_that_lets_nobody_in_is_told_apart_from_one_that_is_away(
    text: str, refused: bool, advice: str
) -> None:
    import psycopg

    found = errorcodes.meaning(psycopg.OperationalError(text))
    assert isinstance(found, StorageUnavailable)
    assert found.refused == refused
    assert found.away == ("refused" in text)
    assert advice in found.message


@pytest.mark.postgres
def test_a_database_that_does_not_exist_is_told_with_what_to_do(migrated_postgres: str) -> None:
    head, _, _ = migrated_postgres.rpartition("/")
    app = App({"name": "shop", "system_database_url": f"{head}/there_is_none_of_this_name"})
    with pytest.raises(StorageUnavailable, match="does not exist") as raised:
        app.launch()
    assert raised.value.refused
    assert "createdb" in raised.value.message
