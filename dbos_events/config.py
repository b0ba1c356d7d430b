"""What an App is configured with: the keys, and where each value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

DEFAULT_SCHEMA = "dbos_events"


class DBOSConfig(TypedDict, total=False):
    """Keys of `DBOS(config=...)`. The first group is that of DBOS Transact; see docs/settings.md.

    A key that is left out comes from the environment, then from the settings file, then from its
    default.
    """

    name: str
    system_database_url: str | None
    dbos_system_schema: str
    sys_db_pool_size: int
    run_migrations: bool
    application_version: str
    executor_id: str
    serializer: Any
    max_executor_threads: int
    log_level: str
    use_listen_notify: bool

    on_old_version: str
    lease_seconds: float
    park_after_seconds: float
    shutdown_timeout_seconds: float
    max_in_flight: int
    held_per_lane: int
    held_per_consumer: int
    sweep_after_seconds: float
    tune_garbage_collector: bool
    callback_url: str
    kafka: Mapping[str, Any]
    connectors: Mapping[str, Mapping[str, Any]]
