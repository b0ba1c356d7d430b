"""From a connection URL to a storage."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from dbos_events.clock import Clock
from dbos_events.errors import ConfigurationError
from dbos_events.storage.postgres import PostgresStorage, open_postgres
from dbos_events.storage.sqlite import SqliteStorage, open_sqlite

_FORMS = "postgresql://user:password@host:port/database or sqlite:///file.sqlite"
_ENCODED = "What is special in a URL is percent-encoded in user and password: @ is %40, / is %2F, : is %3A, % is %25."


def open_storage(
    url: str, *, schema: str, clock: Clock, pool_size: int = 20
) -> PostgresStorage | SqliteStorage:
    """The storage behind `url`; connects at the first use.

    Raises:
        ConfigurationError: The URL is malformed or names a database that is not supported.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"The system database URL cannot be read. Use {_FORMS}. {_ENCODED}"
        ) from None  # it quotes parts of the URL
    if "@" in (parsed.host or ""):
        raise ConfigurationError(f"The system database URL has more than one @. {_ENCODED}")
    kind = parsed.get_backend_name()
    if kind in ("postgresql", "postgres"):
        return open_postgres(parsed, schema, clock, pool_size)
    if kind == "sqlite":
        return open_sqlite(parsed, clock)
    raise ConfigurationError(f"The system database must be PostgreSQL or SQLite, not {kind!r}.")
