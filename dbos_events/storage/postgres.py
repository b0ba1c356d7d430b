"""PostgreSQL: connections, and wake-ups between processes by LISTEN and NOTIFY."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import event

from dbos_events.clock import Clock
from dbos_events.errors import ConfigurationError
from dbos_events.storage import arrays
from dbos_events.storage.database import Database, Driver
from dbos_events.storage.onecall import OneCall
from dbos_events.storage.psycopg_tx import PsycopgTx
from dbos_events.storage.sqldatabase import SqlStorage
from dbos_events.storage.statements import POSTGRES
from dbos_events.telemetry.log import Recurring, logger
from dbos_events.telemetry.threads import start_thread

# A server or a network that falls silent is noticed in half a minute, not in two hours.
_CONNECT = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "dbos_events",
}

PREPARE_AFTER = 3
"""Executions of a statement on a connection after which PostgreSQL keeps its plan."""


class PostgresStorage(SqlStorage):
    """Our schema in a PostgreSQL database."""

    def __init__(self, url: sa.URL, schema: str, clock: Clock, pool_size: int) -> None:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_use_lifo=True,
            connect_args={**_CONNECT, **{key: value for key, value in url.query.items() if key in _CONNECT}},
        )
        quoted = engine.dialect.identifier_preparer.quote_identifier(schema)
        event.listen(engine, "connect", self._prepare_connection)
        driver = Driver(
            arrays.BY_KIND, PsycopgTx, (psycopg.Error,), self._prepare_no_more, OneCall(engine, quoted)
        )
        super().__init__(Database(engine, POSTGRES, schema, quoted, clock, driver))
        self._prepare_after: int | None = PREPARE_AFTER
        self._channel = f"dbos_events:{schema}"
        self._sender = secrets.token_hex(4)

    def _prepare_connection(self, connection: Any, _record: object) -> None:
        arrays.register(connection)
        connection.prepare_threshold = self._prepare_after
        # A plan that was kept while the tables were empty would read all of them once they are not.
        connection.execute("SET plan_cache_mode = force_custom_plan")
        connection.commit()

    def _prepare_no_more(self) -> None:
        """Send statements whole from now on: a pooler hands each transaction another connection."""
        if self._prepare_after is not None:
            self._prepare_after = None
            logger.info(
                "A pooler between this process and PostgreSQL loses prepared statements, so none are used from "
                "now on. They save half of the time of small transactions: PgBouncer keeps them from 1.21 on, with "
                "max_prepared_statements."
            )
        self.database.engine.dispose()

    def listen(self, on_signal: Callable[[str], object]) -> Callable[[], None]:
        """Listen on a connection of its own, reconnecting for ever; what is missed, polls find."""

        def hear(payload: str) -> None:
            sender, _, channel = payload.partition(" ")
            if sender != self._sender:  # this process knows what it has said itself
                on_signal(channel)

        return _Listener(self.database.engine, self._channel, hear).stop

    def notify(self, channels: Sequence[str]) -> None:
        statement = sa.text(
            "SELECT pg_notify(:channel, payload) FROM unnest(CAST(:payloads AS text[])) AS payload"
        )

        payloads = [f"{self._sender} {channel}" for channel in channels]
        self.database.transact(
            lambda tx: tx.connection.execute(statement, {"channel": self._channel, "payloads": payloads})
        )


class _Listener:
    """A thread that waits for notifications."""

    def __init__(self, engine: sa.Engine, channel: str, on_signal: Callable[[str], object]) -> None:
        self._engine = engine
        self._channel = channel
        self._on_signal = on_signal
        self._stopped = threading.Event()
        self._outage = Recurring()
        self._thread = start_thread(self._work, name="dbos-listener")

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(2.0)

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except BaseException as error:  # noqa: BLE001 - polls find what is missed
                self._outage.say("Listening for wake-ups failed; polling goes on: %s", error)
            self._stopped.wait(1.0)

    def _listen(self) -> None:
        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            self._outage.over("Listening for wake-ups again.")
            while not self._stopped.is_set():
                for notice in connection.notifies(timeout=0.5):
                    with contextlib.suppress(Exception):
                        self._on_signal(notice.payload)


def open_postgres(url: sa.URL, schema: str, clock: Clock, pool_size: int) -> PostgresStorage:
    """A storage on PostgreSQL; nothing is connected yet.

    Raises:
        ConfigurationError: The URL names no database.
    """
    if not url.database:
        raise ConfigurationError(
            "The system database URL names no database: use postgresql://user:password@host:port/database."
        )
    return PostgresStorage(url, schema, clock, pool_size)
