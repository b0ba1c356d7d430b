"""The settings of queues as rows, read and written under the lock of the queue's row."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from dbos_events.model.queue import OnConflict, QueueLimits, QueueRateLimit, QueueState

if TYPE_CHECKING:
    from dbos_events.storage.database import Row, Tx


def revision() -> int:
    """Another one each time, also after a queue was deleted and made again."""
    return 1 + secrets.randbelow(2**62)


def find(tx: Tx, application: str, name: str) -> QueueState | None:
    """A queue as it is stored; None when there is none."""
    rows = tx.run("read_queues", application=application)
    return next((state(row) for row in rows if row.name == name), None)


def locked(tx: Tx, application: str, name: str) -> QueueState | None:
    """The queue as it is, once nobody else changes it or claims of it."""
    return find(tx, application, name) if tx.run("lock_queue", application=application, queue=name) else None


def replaces(tx: Tx, known: QueueState, version: str | None, on_conflict: OnConflict) -> bool:
    """Whether a registration changes the queue that is there."""
    if on_conflict != "update_if_latest_version":
        return on_conflict == "always_update"
    latest = tx.one("latest_version", application=known.application)
    return latest is None or version is None or latest.version == version


def save(
    tx: Tx, application: str, name: str, limits: QueueLimits, version: str | None, *, declared: bool
) -> None:
    """Write settings, under another revision."""
    limiter, of_partition = limits.limiter, limits.partition_limiter
    tx.run(
        "save_queue",
        application=application,
        name=name,
        concurrency=limits.concurrency,
        worker_concurrency=limits.worker_concurrency,
        limiter_limit=limiter["limit"] if limiter else None,
        limiter_period=limiter["period"] if limiter else None,
        partition_concurrency=limits.partition_concurrency,
        partition_worker_concurrency=limits.partition_worker_concurrency,
        partition_limiter_limit=of_partition["limit"] if of_partition else None,
        partition_limiter_period=of_partition["period"] if of_partition else None,
        partitions=limits.partitions,
        priority_ages=limits.priority_ages,
        polling_interval_sec=limits.polling_interval_sec,
        revision=revision(),
        declared=declared,
        version=version,
    )


def state(row: Row) -> QueueState:
    """A row as a value."""
    limits = QueueLimits(
        row.concurrency,
        row.worker_concurrency,
        _limiter(row.limiter_limit, row.limiter_period),
        row.partition_concurrency,
        row.partition_worker_concurrency,
        _limiter(row.partition_limiter_limit, row.partition_limiter_period),
        bool(row.partitions),
        row.priority_ages,
        row.polling_interval_sec,
    )
    return QueueState(
        row.application,
        row.name,
        limits,
        row.revision,
        bool(row.declared),
        row.version,
        row.paused_at,
        row.paused_by,
        row.paused_reason,
        row.updated_at,
    )


def _limiter(limit: int | None, period: float | None) -> QueueRateLimit | None:
    return None if limit is None or period is None else {"limit": limit, "period": period}
