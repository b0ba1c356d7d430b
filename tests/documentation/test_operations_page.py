"""docs/operations.md: the rights that it grants are enough for a service."""

import uuid
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from dbos_events import App
from dbos_events.errors import DBOSException
from tests.documentation.blocks import read_blocks
from tests.documentation.pages import DOCS

ROLE = f"service_{uuid.uuid4().hex[:8]}"
"""Roles belong to the whole server, which other test runs may share."""


def as_role(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{ROLE}:secret@{parts.netloc.rpartition('@')[2]}"))


def grants() -> list[str]:
    (block,) = [block for block in read_blocks(DOCS / "operations.md") if block.language == "sql"]
    return [line.replace("TO service", f"TO {ROLE}") for line in block.text.splitlines()]


def shop(url: str, **config: object) -> App:
    app = App({"name": "shop", "system_database_url": url, **config})

    @app.workflow(name="double")
    def double(number: int) -> int:
        return app.run_step({"name": "double"}, lambda: 2 * number)

    return app


def test_the_granted_rights_are_enough_for_a_service_and_not_for_a_migration(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(ROLE)))
        try:
            with pytest.raises(DBOSException):
                shop(as_role(postgres_url)).launch()
            with shop(postgres_url):
                pass
            for statement in grants():
                connection.execute(statement.encode())
            with shop(as_role(postgres_url), run_migrations=False) as app:
                queue = app.queue("doubles", concurrency=2, limiter={"limit": 5, "period": 0.1})
                double = app.registry.workflows["double"].wrapper
                assert double(4) == 8
                assert queue.enqueue(double, 5).get_result() == 10
                assert app.list_workflows(name="double")[0].output == 8
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(ROLE)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(ROLE)))
