"""Signals between processes (NOTIFY): each hears the others."""

import queue
import threading
from contextlib import suppress

import psycopg
import pytest

from dbos_events.storage import postgres
from dbos_events.storage.sessions import is_direct
from dbos_events.storage.sqldatabase import SqlStorage
from tests.storage.conftest import Open

pytestmark = pytest.mark.postgres
PATIENCE = 20.0


def test_a_process_hears_the_others_and_not_itself(
    postgres_storage: SqlStorage, migrated_postgres: str, opened: Open
) -> None:
    mine, other = postgres_storage, opened(migrated_postgres)
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    stop = mine.listen(heard.put)  # type: ignore[attr-defined]
    try:
        channel = ""
        while not channel:  # until it listens
            other.notify(["first"])  # type: ignore[attr-defined]
            with suppress(queue.Empty):
                channel = heard.get(timeout=0.2)
        mine.notify(["mine"])  # type: ignore[attr-defined]
        other.notify(["last"])  # type: ignore[attr-defined]
        while channel == "first":
            channel = heard.get(timeout=PATIENCE)
        assert channel == "last"
    finally:
        stop()


def test_a_listener_ends_when_it_is_told_to_and_not_when_its_wait_is_over(
    postgres_storage: SqlStorage, migrated_postgres: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LISTEN_WAIT", 3600.0)
    other = opened(migrated_postgres)
    heard = threading.Event()
    before = set(threading.enumerate())
    stop = postgres_storage.listen(lambda _: heard.set())  # type: ignore[attr-defined]
    (listener,) = set(threading.enumerate()) - before
    while not heard.wait(0.05):  # until it waits
        other.notify(["something"])  # type: ignore[attr-defined]
    stop()
    assert not listener.is_alive()
    stop()  # once more says nothing


def test_a_session_that_ends_before_it_is_known_is_not_taken_for_one_behind_a_pooler(
    migrated_postgres: str,
) -> None:
    """A listener would stop listening for good, and say so, when the server goes away as it connects."""
    with psycopg.connect(migrated_postgres) as ended, psycopg.connect(migrated_postgres) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [ended.pgconn.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            is_direct(ended.pgconn)
