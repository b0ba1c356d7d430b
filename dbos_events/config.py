"""What an App is configured with: the keys, and where each value comes from."""

from __future__ import annotations

from typing import Any, TypedDict

DEFAULT_SCHEMA = "dbos_events"
CONNECTORS = "dbos_events.connectors"
"""The entry points that connectors register under; each has a section of the settings under its name."""


class CoreConfig(TypedDict, total=False):
    """The keys that every App has. The first group is that of DBOS Transact; see docs/settings.md."""

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
