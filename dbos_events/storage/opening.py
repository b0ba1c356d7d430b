"""From a connection URL to a storage."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from dbos_events.clock import Clock
from dbos_events.errors import ConfigurationError
from dbos_events.storage.sqlite import SqliteStorage, open_sqlite

if TYPE_CHECKING:
    from dbos_events.storage.postgres import PostgresStorage

_FORMS = "postgresql://user:password@host:port/database or sqlite:///file.sqlite"
_ENCODED = "What is special in a URL is percent-encoded in user and password: @ is %40, / is %2F, : is %3A, % is %25."


_SEVERAL_HOSTS = re.compile(
    r"^(?P<head>postgres(?:ql)?(?:\+\w+)?://(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)(?P<path>/[^?#]*)?"
    r"(?:\?(?P<query>.*))?$"
)


def _with_hosts_apart(url: str) -> str:
    """As SQLAlchemy reads several hosts, where they stand as libpq reads them: postgresql://one:5432,two:5432/name."""
    found = _SEVERAL_HOSTS.match(url)
    if found is None:
        return url
    query = "&".join(f"host={host}" for host in found["hosts"].split(",") if host)
    if found["query"]:
        query = f"{query}&{found['query']}"
    return f"{found['head']}{found['path'] or ''}?{query}"


def _postgres_opener() -> Callable[..., PostgresStorage]:
    """What opens a PostgreSQL storage; brings psycopg with it."""
    try:
        from dbos_events.storage.postgres import open_postgres
    except ImportError as error:  # also where libpq is missing, or too old
        if (error.name or "").startswith("dbos_events"):
            raise
        raise ConfigurationError(
            f"PostgreSQL needs psycopg 3, which cannot be loaded here ({error}). Install it with: pip install "
            "'psycopg[binary]>=3.2'"
        ) from error
    return open_postgres


def open_storage(
    url: str, *, schema: str, clock: Clock, pool_size: int = 20
) -> PostgresStorage | SqliteStorage:
    """The storage behind `url`; connects at the first use.

    Raises:
        ConfigurationError: The URL is malformed or names a database that is not supported.
    """
    try:
        parsed = sa.make_url(_with_hosts_apart(url))
        kind = parsed.get_backend_name()
        if "@" in (parsed.host or ""):
            raise ConfigurationError(f"The system database URL has more than one @. {_ENCODED}")
        if kind in ("postgresql", "postgres"):
            return _postgres_opener()(parsed, schema, clock, pool_size)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"The system database URL cannot be read. Use {_FORMS}. {_ENCODED}"
        ) from None  # it quotes parts of the URL
    if kind == "sqlite":
        return open_sqlite(parsed, clock)
    raise ConfigurationError(f"The system database must be PostgreSQL or SQLite, not {kind!r}.")
