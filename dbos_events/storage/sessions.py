"""What the code stands on in a session with PostgreSQL, whatever server, database, role or environment say.

A session of our own is set up once. Behind a pooler nothing may be set that outlives a transaction, since another client
gets the session then: there each transaction sets what it needs, in the exchange that begins it.

| setting | why |
| --- | --- |
| client_encoding | texts go out as UTF-8; sent with the start of the connection, which poolers keep |
| default_transaction_isolation | the fence stands on READ COMMITTED (docs/protocol.md, rule 2) |
| synchronous_commit | an answer means that it is on disk: only "off" is raised, to "on"; other values wait for more |
| search_path | operators and functions are those of PostgreSQL; our own names are written with their schema |
| statement_timeout, transaction_timeout | none: a long look is not an error, and a silent server is noticed by the network |
| lock_timeout | a lock that somebody keeps is told, in time for a probe, and the wait begins anew |
| idle_in_transaction_session_timeout | a frozen process must not hold locks for ever, and a busy one not lose its session |
| idle_session_timeout | none: the listener is idle, and so is the pool at night |
| extra_float_digits | a latency is read as it was written |
| standard_conforming_strings | literals in migrations mean what they say |

Left as it is: default_transaction_read_only, by which operators and providers (a full disk) stop all writing; work waits.
TimeZone, DateStyle and bytea_output change nothing here: times are numbers, bytes go in binary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import errors
from psycopg.pq import ConnStatus, ExecStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.pq.abc import PGconn

SETTINGS: Mapping[str, str] = {
    "default_transaction_isolation": "read committed",
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "idle_session_timeout": "0",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
}
"""What each session of ours has, besides a synchronous_commit that is not off."""

_SINCE = {"idle_session_timeout": 140000, "transaction_timeout": 170000}
"""The version of PostgreSQL that has the setting first; the others are older than all that are supported."""

_OF_SESSIONS_ONLY = ("default_transaction_isolation", "idle_session_timeout")
"""Nothing for one transaction: it begins with its isolation, and ends before the session is idle."""

_DURABLE = (
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' "
    "ELSE current_setting('synchronous_commit') END, {local})"
)

CALL_CONDITION = "current_setting('transaction_isolation') = 'read committed'"
"""Of a call on a session of our own: nobody else sets it, but the fence is worth a look."""

CALL_CONDITION_POOLED = (
    f"{CALL_CONDITION} AND set_config('search_path', 'pg_catalog', true) = 'pg_catalog' "
    f"AND set_config('lock_timeout', '{SETTINGS['lock_timeout']}', true) <> '' AND {_DURABLE.format(local='true')} <> ''"
)
"""Of a call behind a pooler, which is a transaction: what can still be set when the statement runs already."""

_REPORTED = (b"in_hot_standby", b"default_transaction_read_only")
"""What the server tells of its own accord, from version 14 on."""


def is_direct(pg: PGconn) -> bool:
    """Whether no pooler stands between, in which a setting would stay with a connection of others.

    A pooler gives its clients process ids of its own, for cancelling.

    Raises:
        psycopg.Error: The server refuses, or is gone: that tells nothing of a pooler.
    """
    result = pg.exec_(b"SELECT pg_backend_pid()")
    if pg.status == ConnStatus.BAD:
        raise errors.OperationalError(pg.error_message.decode(errors="replace"))
    if result.status != ExecStatus.TUPLES_OK:
        raise errors.error_from_result(result)
    return result.get_value(0, 0) == b"%d" % pg.backend_pid


def set_up(pg: PGconn, more: Mapping[str, str]) -> None:
    """Give a session of our own its settings, and `more`.

    Raises:
        psycopg.Error: The server refuses.
    """
    execute(pg, _sets(pg, {**SETTINGS, **more}, local="false"))


def begin_pooled(pg: PGconn, more: Mapping[str, str]) -> None:
    """Begin a transaction behind a pooler, with its settings.

    Raises:
        psycopg.Error: The server refuses.
    """
    wanted = {name: value for name, value in SETTINGS.items() if name not in _OF_SESSIONS_ONLY}
    execute(pg, f"BEGIN ISOLATION LEVEL READ COMMITTED; {_sets(pg, {**wanted, **more}, local='true')}")


def _sets(pg: PGconn, wanted: Mapping[str, str], *, local: str) -> str:
    """One statement for all settings that this server has."""
    sets = [
        f"set_config('{name}', '{value}', {local})"
        for name, value in wanted.items()
        if pg.server_version >= _SINCE.get(name, 0)
    ]
    return f"SELECT {', '.join(sets)}, {_DURABLE.format(local=local)}"


def execute(pg: PGconn, sql: str) -> None:
    """Execute what gives nothing that matters.

    Raises:
        psycopg.Error: The server refuses, or is gone.
    """
    result = pg.exec_(sql.encode())
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise errors.error_from_result(result)


def told(pg: PGconn) -> tuple[bytes | None, ...]:
    """What the server has told of whether this session may write: another answer than at first means another server."""
    return tuple(map(pg.parameter_status, _REPORTED))
