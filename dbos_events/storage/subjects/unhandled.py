"""Work whose function no live process has registered."""

from __future__ import annotations

import json
from typing import Protocol

from dbos_events.model.workflow import Unhandled
from dbos_events.storage.database import Database, Tx

LOOKED_AT = 10_000
GRACE_MS = 10_000


class UnhandledWork(Protocol):
    """Work that no live process can run (protocol 2)."""

    def functions(self, application: str | None) -> list[Unhandled]:
        """Functions of waiting work that no live process has, of applications of which a process lives."""
        ...

    def versions(self, application: str, version: str) -> dict[str, int]:
        """Versions that no live process has, with how many started workflows wait for one, at least."""
        ...


class UnhandledTable:
    """Finds what nobody can run (docs/protocol.md, rule 2)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def functions(self, application: str | None) -> list[Unhandled]:
        def work(tx: Tx) -> list[Unhandled]:
            live: dict[str, set[str] | None] = {}
            for row in tx.run("live_functions", application=application):
                known = live.setdefault(row.application, set())
                if row.functions is None:
                    live[row.application] = None  # it may have any
                elif known is not None:
                    known.update(json.loads(row.functions))
            waiting = tx.run("waiting_functions", application=application, count=LOOKED_AT, grace_ms=GRACE_MS)
            return [
                Unhandled(row.application, row.name, row.waiting)
                for row in waiting
                if (functions := live.get(row.application)) is not None and row.name not in functions
            ]

        return self._database.look(work)

    def versions(self, application: str, version: str) -> dict[str, int]:
        rows = self._database.look(
            lambda tx: tx.run(
                "waiting_versions",
                application=application,
                version=version,
                count=LOOKED_AT,
                grace_ms=GRACE_MS,
            )
        )
        return {row.version: row.waiting for row in rows}
