"""From a connection URL to a storage."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from dbos_events.clock import Clock
from dbos_events.errors import ConfigurationError
from dbos_events.storage.postgres import PostgresStorage, open_postgres
from dbos_events.storage.sqlite import SqliteStorage, open_sqlite


def open_storage(
    url: str, *, schema: str, clock: Clock, pool_size: int = 20
) -> PostgresStorage | SqliteStorage:
    """The storage behind `url`; connects at the first use.

    Raises:
        ConfigurationError: The URL is malformed or names a database that is not supported.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(
            "The system database URL cannot be read. Use postgresql://user:password@host:port/database "
            "or sqlite:///file.sqlite."
        ) from error
    kind = parsed.get_backend_name()
    if kind in ("postgresql", "postgres"):
        return open_postgres(parsed, schema, clock, pool_size)
    if kind == "sqlite":
        return open_sqlite(parsed, clock)
    raise ConfigurationError(f"The system database must be PostgreSQL or SQLite, not {kind!r}.")
