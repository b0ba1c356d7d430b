"""What strikes through the database while it is well: what operators, other sessions and settings do.

Each is undone at its end, but sessions that began meanwhile keep what they began with. The coin chooses among the
variants.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from tests.chaos.operators import RIGHTS
from tests.chaos.strikes import Strike, fault, pick

if TYPE_CHECKING:
    from tests.chaos.field import Field

LOCKS = tuple(
    (table, mode)
    for mode in ("ACCESS EXCLUSIVE", "EXCLUSIVE")
    for table in (
        "events", "workflows", "checkpoints", "watermarks", "executors", "results", "payloads", "messages", "anchors",
        "publications", "waits", "published_values", "stream_entries", "parked_keys", "queues", "schedules", "ticks",
    )
)  # fmt: skip
CANCEL_SECONDS = 0.02

LIMITS = tuple(
    (place, name, value)
    for place in ("role", "server", "database", "role in database")
    for name, value in (
        ("statement_timeout", "1ms"),
        ("statement_timeout", "20ms"),
        ("lock_timeout", "1ms"),
        ("idle_in_transaction_session_timeout", "1ms"),
    )
)

SETTINGS = tuple(
    (place, name, value)
    for place in ("role", "database", "server")
    for name, value in (
        ("default_transaction_isolation", "repeatable read"),
        ("default_transaction_isolation", "serializable"),
        ("synchronous_commit", "off"),
        ("search_path", "pg_catalog"),
        ("client_encoding", "LATIN1"),
        ("bytea_output", "escape"),
        ("datestyle", "German"),
        ("standard_conforming_strings", "off"),
    )
    if (place, name) != ("server", "client_encoding")  # that is nobody's default
)


@fault(1.0, 4.0)
def table_locked(field: Field, strike: Strike) -> None:
    """Another session holds a lock on a table: one that lets nothing through, or one that lets reads through."""
    table, mode = pick(LOCKS, strike.coin)
    with suppress(
        psycopg.Error
    ):  # the lock came too late, or another fault has ended the session that held it
        field.operators.lock(table, mode, lambda: field.rest(strike.seconds))


@fault(1.0, 2.5)
def statements_cancelled(field: Field, strike: Strike) -> None:
    """All statements that run are cancelled, again and again."""
    for _ in range(int(strike.seconds / CANCEL_SECONDS)):
        field.insist(field.operators.cancel)
        field.rest(CANCEL_SECONDS)


@fault()
def sessions_terminated(field: Field, strike: Strike) -> None:
    """All sessions of all workers end, or a third of them."""
    field.insist(lambda: field.operators.terminate(every=1 if strike.coin < 0.5 else 3))


@fault(1.0, 4.0)
def rights_revoked(field: Field, strike: Strike) -> None:
    """A right is missing for a while; the sessions end when it is one that is asked at their beginning."""
    right = pick(RIGHTS, strike.coin)
    field.insist(lambda: field.operators.revoke(right))
    if right.name in ("connect", "log in"):
        field.insist(field.operators.terminate)
    field.rest(strike.seconds)
    field.insist(field.operators.grant)


@fault(1.5, 4.0)
def time_limits(field: Field, strike: Strike) -> None:
    """A time-out is set for a role, a database or the server, much too short."""
    _set_for_a_while(field, strike, *pick(LIMITS, strike.coin))


@fault(1.5, 4.0)
def session_settings(field: Field, strike: Strike) -> None:
    """Sessions begin with another isolation level, encoding or search path."""
    _set_for_a_while(field, strike, *pick(SETTINGS, strike.coin))


@fault(4.0, 6.5)
def read_only(field: Field, strike: Strike) -> None:
    """Old sessions turn read-only and stay open, new ones write; it stays so, or is over after a while."""
    field.insist(lambda: field.operators.turn_read_only(stays=strike.coin >= 0.3))
    field.rest(strike.seconds)
    field.insist(field.operators.let_write)


def _set_for_a_while(field: Field, strike: Strike, place: str, name: str, value: str) -> None:
    """Set it, and let every other session begin anew with it."""
    field.insist(lambda: field.operators.set_default(place, name, value))
    if place != "server":
        field.insist(lambda: field.operators.terminate(every=2))
    field.rest(strike.seconds)
    field.insist(lambda: field.operators.reset_default(place, name))
