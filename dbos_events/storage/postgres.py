"""PostgreSQL: connections, and wake-ups between processes by LISTEN and NOTIFY."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import event, exc

from dbos_events.clock import Clock
from dbos_events.errors import ConfigurationError, StorageUnavailable
from dbos_events.storage import arrays, errorcodes
from dbos_events.storage.database import Database, Driver
from dbos_events.storage.forks import keep_for_ever
from dbos_events.storage.names import check_schema_name
from dbos_events.storage.onecall import OneCall
from dbos_events.storage.psycopg_tx import PsycopgTx
from dbos_events.storage.sessions import begin_pooled, is_direct, set_up, told
from dbos_events.storage.sockets import Sockets
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
# In a URL with several hosts the one is meant that takes writes.
_SEVERAL_HOSTS = {"target_session_attrs": "read-write"}
# Not even a URL changes it: texts go out as UTF-8.
_ENCODING = {"client_encoding": "utf8"}
# A plan that was kept while the tables were empty would read all of them once they are not.
_PLANS = {"plan_cache_mode": "force_custom_plan"}
LONGEST_CHANNEL = 63
"""Bytes of a name in PostgreSQL."""
LONGEST_PAYLOAD = 7999
"""Bytes of a notification."""
LISTEN_LOOK = 10.0
"""Seconds between two looks whether the listener's session is still what it was."""
LISTEN_WAIT = 0.5
"""Seconds after which the listener asks the driver again, should the socket not tell of what has come."""

_NOTIFY = sa.text("SELECT pg_notify(:channel, payload) FROM unnest(CAST(:payloads AS text[])) AS payload")

PREPARE_AFTER = 3
"""Executions of a statement on a connection after which PostgreSQL keeps its plan."""


class PostgresStorage(SqlStorage):
    """Our schema in a PostgreSQL database."""

    def __init__(self, url: sa.URL, schema: str, clock: Clock, pool_size: int) -> None:
        arguments = {
            **_CONNECT,
            **(_SEVERAL_HOSTS if _has_several_hosts(url) else {}),
            **{key: value for key, value in url.query.items() if key in {*_CONNECT, *_SEVERAL_HOSTS}},
            **_ENCODING,
        }
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_use_lifo=True,
            hide_parameters=True,
            connect_args=arguments,
        )
        quoted = engine.dialect.identifier_preparer.quote_identifier(schema)
        event.listen(engine, "connect", self._prepare_connection)
        event.listen(engine, "checkout", _refuse_changed)
        event.listen(engine, "begin", _begin)
        self._arguments = {**engine.dialect.create_connect_args(engine.url)[1], **arguments}
        self._calls = OneCall(engine, quoted)
        driver = Driver(arrays.BY_KIND, PsycopgTx, (psycopg.Error,), self._prepare_no_more, self._calls)
        super().__init__(Database(engine, POSTGRES, schema, quoted, clock, driver))
        self._prepare_after: int | None = PREPARE_AFTER
        self._channel = _channel(schema)
        self._sender = secrets.token_hex(4)
        self._sockets = Sockets(engine, self._forked)

    def cut(self) -> None:
        """End every call that is under way, and begin no more: whoever waits for an answer gets an error at once."""
        self._sockets.cut()

    def _forked(self) -> None:
        """This process was forked: it opens connections of its own, and those of the parent are forgotten."""
        self._calls.forget()
        keep_for_ever(self.database.engine.pool)
        self.database.engine.dispose(close=False)

    def _prepare_connection(self, connection: Any, record: Any) -> None:
        arrays.register(connection)
        connection.prepare_threshold = self._prepare_after
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        record.info["direct"] = is_direct(connection.pgconn)
        if record.info["direct"]:
            set_up(connection.pgconn, _PLANS)
        record.info["told"] = told(connection.pgconn)

    def _prepare_no_more(self) -> None:
        """Send statements whole from now on: a pooler hands each transaction another connection."""
        if self._prepare_after is not None:
            self._prepare_after = None
            logger.info(
                "A pooler between this process and PostgreSQL loses prepared statements, so none are used from "
                "now on. They save half of the time of small transactions: PgBouncer keeps them from 1.21 on, with "
                "max_prepared_statements."
            )
        self.database.renew()

    def listen(self, on_signal: Callable[[str], object]) -> Callable[[], None]:
        """Listen on a connection of its own, reconnecting for ever; what is missed, polls find."""

        def hear(payload: str) -> None:
            sender, _, channel = payload.partition(" ")
            if sender != self._sender:  # this process knows what it has said itself
                on_signal(channel)

        return _Listener(self._arguments, self._channel, hear, self._sockets).stop

    def notify(self, channels: Sequence[str]) -> None:
        """Tell the other processes; what is too long for a notification, polls find."""
        self.database.transact(lambda tx: self.notify_within(tx.connection, channels))

    def notify_within(self, connection: sa.Connection, channels: Sequence[str]) -> None:
        """As `notify`, when the transaction of this connection commits."""
        payloads = [payload for channel in channels if _fits(payload := f"{self._sender} {channel}")]
        connection.execute(_NOTIFY, {"channel": self._channel, "payloads": payloads})


def _channel(schema: str) -> str:
    """The name on which processes of a schema call each other; PostgreSQL would cut one that is too long."""
    name = f"dbos_events:{schema}"
    if len(name.encode()) <= LONGEST_CHANNEL:
        return name
    return f"dbos_events:{hashlib.sha256(schema.encode()).hexdigest()[:32]}"


def _fits(payload: str) -> bool:
    try:
        return len(payload.encode()) <= LONGEST_PAYLOAD and "\0" not in payload
    except UnicodeEncodeError:
        return False


def _has_several_hosts(url: sa.URL) -> bool:
    named = url.query.get("host", ())
    hosts = [named] if isinstance(named, str) else list(named)
    return "," in (url.host or "") or len(hosts) > 1 or any("," in host for host in hosts)


def _refuse_changed(connection: Any, record: Any, _proxy: object) -> None:
    """Have the pool open new connections where the server tells that this session's rights are not what they were."""
    if told(connection.pgconn) != record.info["told"]:
        raise exc.InvalidatePoolError("The server has become another one for sessions of before.")


def _begin(connection: sa.Connection) -> None:
    pooled = connection.connection
    if not pooled.info["direct"]:
        driver: Any = pooled.driver_connection
        begin_pooled(driver.pgconn, _PLANS)


class _Listener:
    """A thread that waits for notifications."""

    def __init__(
        self,
        arguments: Mapping[str, Any],
        channel: str,
        on_signal: Callable[[str], object],
        sockets: Sockets,
    ) -> None:
        self._arguments = arguments
        self._sockets = sockets
        self._channel = channel
        self._on_signal = on_signal
        self._stopped = threading.Event()
        self._outage = Recurring()
        self._bell, self._heard = socket.socketpair()
        self._bell.setblocking(False)
        self._thread = start_thread(self._work, name="dbos-listener")

    def stop(self) -> None:
        self._stopped.set()
        # A byte, not the end of the pair alone: a process that was forked from this one holds that open.
        with contextlib.suppress(OSError):
            self._bell.send(b"\0")
        self._bell.close()
        self._thread.join(2.0)

    def _work(self) -> None:
        with self._heard:
            self._work_until_stopped()

    def _work_until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except BaseException as error:  # noqa: BLE001 - polls find what is missed
                meant = errorcodes.meaning(error)
                if (
                    isinstance(meant, StorageUnavailable) and meant.away
                ):  # told by all who ask something of it
                    logger.debug("Listening for wake-ups failed; polling goes on: %s", errorcodes.said(error))
                else:
                    self._outage.say(
                        "Listening for wake-ups failed; polling goes on: %s", errorcodes.said(error)
                    )
            self._stopped.wait(1.0)

    def _listen(self) -> None:
        with psycopg.connect(**{**self._arguments, "autocommit": True}) as connection:
            self._sockets.add(connection)
            if not is_direct(connection.pgconn):
                logger.info(
                    "A pooler stands between this process and PostgreSQL, so wake-ups of other processes are found by "
                    "polling: LISTEN would stay with a connection of others."
                )
                self._stopped.wait()
                return
            set_up(connection.pgconn, {})
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            self._outage.over("Listening for wake-ups again.")
            with selectors.DefaultSelector() as ready:
                ready.register(connection, selectors.EVENT_READ)
                ready.register(self._heard, selectors.EVENT_READ)
                self._hear(connection, ready)

    def _hear(self, connection: psycopg.Connection[Any], ready: selectors.BaseSelector) -> None:
        """Hand over what arrives until it is stopped, which rings a bell: nobody waits for the end of a wait."""
        looked = time.monotonic()
        while not self._stopped.is_set():
            for notice in connection.notifies(timeout=0):
                with contextlib.suppress(Exception):
                    self._on_signal(notice.payload)
            if time.monotonic() - looked >= LISTEN_LOOK:
                looked = time.monotonic()
                self._look(connection)
            elif any(key.fileobj is self._heard for key, _ in ready.select(LISTEN_WAIT)):
                self._heard.recv(64)

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        """Raise where nothing more will be heard here: the server became a standby, or does not know of the LISTEN."""
        found = connection.execute(
            "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',"
            " %s = ANY (SELECT pg_listening_channels())",
            [self._channel],
        ).fetchone()
        if found != (False, True):
            raise psycopg.OperationalError("the session is not what it was, so another one is begun")


def open_postgres(url: sa.URL, schema: str, clock: Clock, pool_size: int) -> PostgresStorage:
    """A storage on PostgreSQL; nothing is connected yet.

    Raises:
        ConfigurationError: The URL names no database, or the schema has no usable name.
    """
    check_schema_name(schema)
    if not url.database:
        raise ConfigurationError(
            "The system database URL names no database: use postgresql://user:password@host:port/database."
        )
    return PostgresStorage(url, schema, clock, pool_size)
