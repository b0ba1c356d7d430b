"""A connected client: the verbs of an App over an engine that runs nothing."""

from __future__ import annotations

import os
from typing import Any

from dbos_events.api.surface import Surface
from dbos_events.client.core import ClientCore
from dbos_events.clock import DatabaseClock, SystemClock
from dbos_events.control.opening import refuse_missing_file
from dbos_events.engine.forked import leave_core
from dbos_events.engine.registry import Registry
from dbos_events.engine.waking import Hub
from dbos_events.model.dataclass import dataclass
from dbos_events.runtime.notifier import NotifierService
from dbos_events.serialization import Codecs
from dbos_events.settings import Settings
from dbos_events.storage.forks import keep_for_ever
from dbos_events.storage.migrate import verify
from dbos_events.storage.opening import open_storage

LOOKS_AT_THE_CLOCK = 3
"""How often the database is asked for its time at first; the quickest answer counts."""


@dataclass(frozen=True, slots=True)
class Connecting:
    """How a client connects: settings as an App has them, and what only a client is asked.

    `application` None: found in the database, where that has only one.
    """

    settings: Settings
    application: str | None
    retries: bool


class Connected(Surface):
    """An App's verbs for a client, over a database whose schema fits.

    Raises:
        ConfigurationError: The URL is not usable, or its SQLite file is missing.
        MigrationRequired: The schema is missing, too old or too new.
        StorageUnavailable: The database does not answer.
    """

    def __init__(self, how: Connecting) -> None:
        self.registry = Registry()
        settings, clock = how.settings, DatabaseClock(SystemClock())
        storage = self._storage = open_storage(
            settings.database_url,
            schema=settings.dbos_system_schema,
            clock=clock,
            pool_size=settings.sys_db_pool_size,
        )
        try:
            refuse_missing_file(storage, "Name another one in system_database_url.")
            verify(storage)
            storage.now_ms(LOOKS_AT_THE_CLOCK)
        except BaseException:
            storage.close()
            raise
        codecs = Codecs(default=settings.serializer)
        hub = Hub()
        self._notifier = NotifierService(storage, hub, enabled=settings.use_listen_notify)
        patience = None if how.retries else 0.0
        self._core = ClientCore(
            storage, clock, codecs, how.application, hub, self._notifier.announce, patience
        )
        self._notifier.start()

    @property
    def core(self) -> ClientCore:
        """The engine."""
        return self._core

    def check(self) -> None:
        """Ask the database for something."""
        self._storage.now_ms()

    def notify_within(self, connection: Any, channels: list[str]) -> None:
        """Tell other processes when the transaction of this connection commits."""
        self._storage.notify_within(connection, channels)

    def close(self) -> None:
        """End threads and connections; what was done last is told before."""
        self._core.stopped.set()
        self._core.hub.signal_all()
        self._notifier.stop(2.0)
        self._core.readers.shutdown(wait=False, cancel_futures=True)
        self._storage.close()

    def leave_to_parent(self) -> None:
        """In a forked process: have whatever still refers to this fail."""
        keep_for_ever(self)
        leave_core(self._core, os.getppid())
