"""Process starts and their leases (docs/protocol.md, rules 1 and 2)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from typing import Protocol

from dbos_events.clock import elapsed_ns
from dbos_events.errors import ExecutorFenced
from dbos_events.model.dataclass import dataclass, field
from dbos_events.storage.database import Database, Tx

IDENTITIES = 2**62
"""Identities count from 1; 0 stands for any."""


def fence(tx: Tx, executor: int) -> None:
    """Hold this executor's row until the transaction ends, or raise `ExecutorFenced`."""
    if not tx.run("fence", **tx.identified(executor)):
        raise ExecutorFenced(executor)


def _functions(functions: Collection[str] | None) -> str | None:
    if functions is None:
        return None
    told = functions if isinstance(functions, Mapping) else sorted(functions)
    return json.dumps(told, sort_keys=True)


@dataclass(frozen=True, slots=True)
class NewExecutor:
    """A process that wants to run workflows.

    `explicit` says that the user chose the label, so that a successor with the same label may
    declare this executor dead after two silent heartbeats. `functions` are those that it can run, by name with what is
    told of them where that is a mapping.
    """

    application: str
    label: str
    explicit: bool
    version: str
    boot_id: str
    pid_namespace: str
    pid: int
    process_started: str
    lease_ms: int
    functions: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class ExecutorRow:
    """One process start as the database holds it; `lease_over` is by the database's clock."""

    id: int
    application: str
    label: str
    explicit: bool
    version: str
    boot_id: str
    pid_namespace: str
    pid: int
    process_started: str
    alive: bool
    heartbeat: int
    lease_over: bool
    functions: str | None = field(default=None, compare=False)
    """What it says of the functions that it can run, as it was registered."""


class Executors(Protocol):
    """Process starts and their leases (protocol 1)."""

    def register(self, new: NewExecutor) -> int:
        """Insert an executor with a fresh lease; gives its number."""
        ...

    def renew(self, executor: int, lease_ms: int) -> bool:
        """Count one heartbeat and prolong the lease; False when the executor is dead."""
        ...

    def read(self, application: str) -> list[ExecutorRow]:
        """The executors that are alive, and the dead ones that still own workflows."""
        ...

    def declare_dead(self, executor: int, heartbeat: int, reason: str) -> bool:
        """End an executor, final, unless it has beaten since `heartbeat`; True when it is dead now.

        Waits for the batches that the executor has under way, so that nothing it wrote can
        become visible later.
        """
        ...

    def release(self, executor: int) -> None:
        """End this process's own executor gracefully: what it owns is free at once."""
        ...


class ExecutorTable:
    """The executors' part of the storage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, new: NewExecutor) -> int:
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
                identity=identity,
                lease_ms=new.lease_ms,
                functions=_functions(new.functions),
            )
            return int(row.id) if row is not None else 0

        number = self._database.transact(work)
        self._database.identities[number] = identity
        return number

    def renew(self, executor: int, lease_ms: int) -> bool:
        def work(tx: Tx) -> bool:
            asked = elapsed_ns()
            row = tx.one("renew_lease", **tx.identified(executor), lease_ms=lease_ms)
            if row is not None:
                self._database.told_time(row.now, asked)
            return row is not None

        return self._database.transact(work)

    def read(self, application: str) -> list[ExecutorRow]:
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
                functions=row.functions,
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
            tx.run("end_executor", executor=executor, identity=0, reason=reason)
            return True

        return self._database.transact(work)

    def release(self, executor: int) -> None:
        def work(tx: Tx) -> None:
            tx.one("lock_executor", executor=executor)
            tx.run("end_executor", **tx.identified(executor), reason="stopped")

        self._database.transact(work)
