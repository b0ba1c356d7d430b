"""A shop that runs, and a client of it; the client has none of the shop's functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dbos_events import App, DBOSClient

NAME = "shop"


@dataclass(frozen=True, slots=True)
class Shop:
    """An App that serves the queue `orders`, and where it is."""

    app: App
    url: str
    ran: list[Any]


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    app, ran = App({"name": NAME, "system_database_url": database_url}), []
    app.queue("orders", polling_interval_sec=0.02)
    app.queue("tenants", partition_concurrency=1, polling_interval_sec=0.02)

    @app.workflow(name="add")
    def add(*args: int, more: int = 0) -> int:
        ran.append(args)
        return sum(args) + more

    @app.workflow(name="gather")
    def gather(what: Any) -> Any:
        ran.append(what)
        return what

    @app.workflow(name="fail")
    def fail() -> None:
        raise ValueError("no such order")

    @app.workflow(name="talk")
    def talk(messages: int) -> list[Any]:
        app.set_event("began", {"messages": messages})
        got = []
        for number in range(messages):
            got.append(app.recv("talk", 30))
            app.write_stream("log", number)
        app.close_stream("log")
        return got

    @app.workflow(name="hold")
    def hold() -> str:
        app.recv("go", 60)
        return "went"

    @app.workflow(name="meet")
    def meet() -> Any:
        return app.wait_for("payment", "1", timeout_seconds=30)

    @app.workflow(name="tick")
    def tick(scheduled: Any, context: Any) -> Any:
        ran.append(context)
        return context

    with app:
        yield Shop(app, database_url, ran)


@pytest.fixture
def client(shop: Shop) -> Iterator[DBOSClient]:
    with DBOSClient(system_database_url=shop.url) as client:
        yield client
