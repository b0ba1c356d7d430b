"""Process starts and their leases (docs/protocol.md, rules 1 and 2)."""

from __future__ import annotations

import json
import secrets

from dbos_events.clock import elapsed_ns
from dbos_events.errors import ExecutorFenced
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.rows import ExecutorRow, NewExecutor

IDENTITIES = 2**31 - 1
"""Identities count from 1, and fit into the upper half of a number whose lower half is the executor's own."""


def fence(tx: Tx, executor: int) -> None:
    """Hold this executor's row until the transaction ends, or raise `ExecutorFenced`."""
    if not tx.run("fence", executor=tx.token(executor)):
        raise ExecutorFenced(executor)


class ExecutorTable:
    """The executors' part of the storage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register_executor(self, new: NewExecutor) -> int:
        identity = 1 + secrets.randbelow(IDENTITIES)

        def work(tx: Tx) -> int:
            row = tx.one(
                "insert_executor",
                application=new.application,
                label=new.label,
                explicit=new.explicit,
                version=new.version,
                boot_id=new.boot_id,
                pid_namespace=new.pid_namespace,
                pid=new.pid,
                process_started=new.process_started,
                start_id=identity,
                lease_ms=new.lease_ms,
                functions=None if new.functions is None else json.dumps(sorted(new.functions)),
            )
            return int(row.id) if row is not None else 0

        number = self._database.transact(work)
        self._database.identities[number] = identity
        return number

    def renew_lease(self, executor: int, lease_ms: int) -> bool:
        def work(tx: Tx) -> bool:
            asked = elapsed_ns()
            row = tx.one("renew_lease", executor=tx.token(executor), lease_ms=lease_ms)
            if row is not None:
                self._database.told_time(row.now, asked)
            return row is not None

        return self._database.transact(work)

    def list_executors(self, application: str) -> list[ExecutorRow]:
        rows = self._database.transact(lambda tx: tx.run("list_executors", application=application))
        return [
            ExecutorRow(
                id=row.id,
                application=row.application,
                label=row.label,
                explicit=bool(row.explicit),
                version=row.version,
                boot_id=row.boot_id,
                pid_namespace=row.pid_namespace,
                pid=row.pid,
                process_started=row.process_started,
                alive=bool(row.alive),
                heartbeat=row.heartbeat,
                lease_over=bool(row.lease_over),
            )
            for row in rows
        ]

    def declare_dead(self, executor: int, heartbeat: int, reason: str) -> bool:
        def work(tx: Tx) -> bool:
            row = tx.one("lock_executor", executor=executor)
            if row is None or not row.alive:
                return True
            if row.heartbeat != heartbeat:
                return False
            tx.run("end_executor", executor=executor, reason=reason)
            return True

        return self._database.transact(work)

    def release_executor(self, executor: int) -> None:
        def work(tx: Tx) -> None:
            tx.one("lock_executor", executor=executor)
            tx.run("end_executor", executor=tx.token(executor), reason="stopped")

        self._database.transact(work)
