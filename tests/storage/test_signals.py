"""Signals between processes (NOTIFY): each hears the others."""

import queue
from contextlib import suppress

import pytest

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
