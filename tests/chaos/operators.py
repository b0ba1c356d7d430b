"""What the people who look after a database do to a service that runs: locks, cancelled statements, rights, settings.

All of it is done as the database's owner, on connections of its own. The workers connect as a role that is no
superuser and has the rights that docs/operations.md names, so that rights can be taken from it.
"""

from collections.abc import Callable
from typing import LiteralString, NamedTuple
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

ROLE = "service"
LOCK_SECONDS = 8
"""How long a lock is waited for: what waits for it holds up everybody behind it, as long as a frozen process holds one."""

READ_ONLY = "default_transaction_read_only"
RESTRICTED = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
DEFAULTS = (
    "default_transaction_isolation", "default_transaction_deferrable", READ_ONLY, "synchronous_commit", "search_path",
    "client_encoding", "bytea_output", "datestyle", "standard_conforming_strings",
)  # fmt: skip
"""Settings that an operator may give a role, a database or the server."""

GRANTS: tuple[LiteralString, ...] = (
    "GRANT CONNECT ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}",
    "ALTER ROLE {role} LOGIN",
)

FROM_NOBODY: tuple[LiteralString, ...] = (
    "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
    "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC",
)
"""What everybody has by default, and could then not be taken from one."""


class Right(NamedTuple):
    """A right that can be taken from the workers' role, and the statement that does it."""

    name: str
    revoke: LiteralString


RIGHTS = (
    Right("write events", "REVOKE INSERT, UPDATE ON {schema}.events, {schema}.payloads FROM {role}"),
    Right("write workflows", "REVOKE INSERT, UPDATE ON {schema}.workflows FROM {role}"),
    Right("write checkpoints", "REVOKE INSERT ON {schema}.checkpoints, {schema}.results FROM {role}"),
    Right("write messages", "REVOKE INSERT, UPDATE ON {schema}.messages, {schema}.publications FROM {role}"),
    Right("show values", "REVOKE INSERT ON {schema}.published_values, {schema}.stream_entries FROM {role}"),
    Right("start on time", "REVOKE INSERT, UPDATE ON {schema}.ticks, {schema}.queue_starts FROM {role}"),
    Right("move watermarks", "REVOKE UPDATE ON {schema}.watermarks FROM {role}"),
    Right("read tables", "REVOKE SELECT ON ALL TABLES IN SCHEMA {schema} FROM {role}"),
    Right("all on tables", "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}"),
    Right("use the schema", "REVOKE USAGE ON SCHEMA {schema} FROM {role}"),
    Right("call functions", "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM {role}"),
    Right("connect", "REVOKE CONNECT ON DATABASE {database} FROM {role}"),
    Right("log in", "ALTER ROLE {role} NOLOGIN"),
)

PLACES: dict[str, LiteralString] = {
    "role": "ALTER ROLE {role}",
    "role in database": "ALTER ROLE {role} IN DATABASE {database}",
    "database": "ALTER DATABASE {database}",
    "server": "ALTER SYSTEM",
}
"""Where a setting can stand. Sessions that are open hear only of the server's, which is read again."""


class Operators:
    """Those who look after one database; `role` is what the workers connect as."""

    def __init__(self, url: str, role: str = ROLE, schema: str = "dbos_events") -> None:
        self.role = role
        self._url = url
        self._stays = False
        self._names = {
            "role": sql.Identifier(role),
            "schema": sql.Identifier(schema),
            "database": sql.Identifier(urlsplit(url).path.lstrip("/")),
        }

    def make_role(self) -> None:
        """Make the workers' role. What is set for the server or the database later does not concern its owner."""
        self._do("CREATE ROLE {role} LOGIN", *FROM_NOBODY, *GRANTS)
        with self._connect() as connection:
            owner = sql.Identifier(connection.info.user)
            for name in (*RESTRICTED, *DEFAULTS):
                connection.execute(
                    sql.SQL("ALTER ROLE {} SET {} FROM CURRENT").format(owner, sql.Identifier(name))
                )

    # -- sessions -----------------------------------------------------------------------------

    def lock(self, table: str, mode: LiteralString, rest: Callable[[], None]) -> None:
        """Hold a lock on a table while `rest` goes on; who waits for it too long gives up."""
        statement = sql.SQL(f"LOCK TABLE {{schema}}.{{table}} IN {mode} MODE")
        with self._connect() as connection, connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(f"{LOCK_SECONDS}s"))
            connection.execute(statement.format(**self._names, table=sql.Identifier(table)))
            rest()

    def cancel(self) -> int:
        """Cancel all statements that the workers wait for now; gives how many."""
        return self._signal(
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE state <> 'idle'"
        )

    def terminate(self, *, every: int = 1) -> int:
        """End the workers' sessions, or one of `every` so many; gives how many."""
        return self._signal(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid %% %s = 0", every
        )

    def _signal(self, question: LiteralString, *values: int) -> int:
        with self._connect() as connection:
            found = connection.execute(f"{question} AND usename = %s", (*values, self.role)).fetchone()
        assert found is not None
        return int(found[0])

    # -- rights -------------------------------------------------------------------------------

    def revoke(self, right: Right) -> None:
        self._do(right.revoke)

    def grant(self) -> None:
        """Give back all rights that the role needs."""
        self._do(*GRANTS)

    # -- settings -----------------------------------------------------------------------------

    def set_default(self, place: str, name: str, value: str) -> None:
        """Set what sessions begin with, in one of `PLACES`."""
        self._set(place, "{place} SET {name} = {value}", name, value)

    def reset_default(self, place: str, name: str) -> None:
        """Take that back; sessions that have begun with it keep it."""
        self._set(place, "{place} RESET {name}", name)

    def turn_read_only(self, *, stays: bool) -> None:
        """Old sessions can only read from now on, new ones write: as behind a fail-over that left the old ones open.

        Where it `stays` so, nothing undoes it any more.
        """
        self._stays = self._stays or stays
        self.set_default("role", READ_ONLY, "off")
        self.set_default("server", READ_ONLY, "on")

    def let_write(self) -> None:
        """Sessions write again that `turn_read_only` has met, unless it stays."""
        if not self._stays:
            self.reset_default("server", READ_ONLY)
            self.reset_default("role", READ_ONLY)

    def heal(self) -> None:
        """Put everything right but old sessions that are read-only: those stay so in life, too."""
        self.grant()
        with self._connect() as connection:
            for name in (*RESTRICTED, *DEFAULTS):
                if name != READ_ONLY:
                    for place in PLACES:
                        connection.execute(self._statement(place, "{place} RESET {name}", name))
            connection.execute("SELECT pg_reload_conf()")

    def _set(self, place: str, statement: LiteralString, name: str, value: str = "") -> None:
        with self._connect() as connection:
            connection.execute(self._statement(place, statement, name, value))
            if place == "server":
                connection.execute("SELECT pg_reload_conf()")

    def _statement(self, place: str, statement: LiteralString, name: str, value: str = "") -> sql.Composed:
        parts = {"place": sql.SQL(PLACES[place]).format(**self._names), "name": sql.Identifier(name)}
        return sql.SQL(statement).format(**parts, value=sql.Literal(value))

    # -- connections --------------------------------------------------------------------------

    def _do(self, *statements: LiteralString) -> None:
        with self._connect() as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement).format(**self._names))

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._url, autocommit=True, connect_timeout=5)
