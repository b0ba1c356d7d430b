"""What the database refuses of one caller's events is refused to that one alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from dbos_events import App
from tests.connectors.folder.connector import File, event, folder_consumer, inbox_of
from tests.inbox.crew import wait_until
from tests.storage.building import change

GUARD = """
CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.workflow_id LIKE '%/bad' THEN RAISE EXCEPTION 'the auditor is away'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON dbos_events.events FOR EACH ROW EXECUTE FUNCTION public.guard();
"""
GUARD_ON_SQLITE = (
    "CREATE TRIGGER guard BEFORE INSERT ON events WHEN NEW.workflow_id LIKE '%/bad' "
    "BEGIN SELECT RAISE(ABORT, 'the auditor is away'); END"
)


def test_one_request_that_the_database_refuses_fails_no_other_of_its_group(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App({"name": "shop", "system_database_url": database_url})

    @folder_consumer(app, name="orders", breaker=None)
    async def on_file(file: File) -> str:
        return file.name

    app.launch()
    try:
        if database_url.startswith("postgres"):
            with psycopg.connect(database_url) as connection:
                connection.execute(GUARD)
        else:
            change(app.core.storage, GUARD_ON_SQLITE)  # type: ignore[arg-type]
        storage = app.core.storage.inbox
        accept, gate, entered = storage.accept, threading.Event(), threading.Event()

        def held(batch: Any) -> Any:
            entered.set()
            assert gate.wait(60)
            return accept(batch)

        monkeypatch.setattr(storage, "accept", held)
        inbox = inbox_of(app)
        names = [
            "first",
            *(f"e{number}" for number in range(6)),
            "bad",
            *(f"f{number}" for number in range(6)),
        ]
        with ThreadPoolExecutor(len(names)) as callers:
            asked = {"first": callers.submit(inbox.accept, [event("orders", "first")], timeout_seconds=30.0)}
            assert entered.wait(60)
            for name in names[1:]:
                asked[name] = callers.submit(inbox.accept, [event("orders", name)], timeout_seconds=30.0)
            wait_until(lambda: app.launched.inbox.waiting == len(names) - 1)
            gate.set()
            told = {name: future.result()[0] for name, future in asked.items()}
        assert not told.pop("bad").durable
        assert all(outcome.durable for outcome in told.values()), told
    finally:
        app.destroy()
