"""Pushed events: accepted once each, together with the workflows that they start (docs/protocol.md, rule 26)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from dbos_events.errors import RegistrationError
from dbos_events.model.consumer import PushedState
from dbos_events.storage.database import Database, Tx
from dbos_events.storage.subjects.acceptance import AcceptBatch, Accepted, Forgotten, NothingNew, accept

AGAIN = 3
"""How often an acceptance begins anew that has met ids which were being forgotten."""


class Inboxes(Protocol):
    """Events that are pushed (protocol 26)."""

    def register(
        self,
        application: str,
        name: str,
        handler: str,
        connector: str,
        id_prefix: str,
        addresses: Sequence[str],
    ) -> int:
        """The number of a pushed consumer, which is new or known.

        Raises:
            RegistrationError: A consumer of another connector has the name.
        """
        ...

    def accept(self, batch: AcceptBatch) -> list[Accepted]:
        """Insert the events that are new, with their workflows, in one transaction; gives what became of each, in order.

        Safe to repeat after a lost commit answer: what it had inserted is accepted again.

        Raises:
            ExecutorFenced: The executor is dead.
        """
        ...

    def ready_lanes(self, consumer: int, after: str, count: int) -> list[str]:
        """Lanes in which an event became ready, by name behind `after`."""
        ...

    def idle_lanes_after(self, consumer: int, after: str, count: int) -> list[tuple[str, bool]]:
        """The next lanes that an event holds, each with whether its head could run and nobody runs it."""
        ...

    def forget(self, count: int) -> int:
        """Forget ids whose time is over, at most `count`; gives how many."""
        ...

    def forget_lanes(self, idle_ms: int) -> int:
        """Forget lanes that nothing stands in and nothing was put into for so long; gives how many."""
        ...

    def standing(self, application: str | None) -> list[PushedState]:
        """How every pushed consumer stands."""
        ...


class InboxTable:
    """The ids that were seen, and the rows of their events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(
        self,
        application: str,
        name: str,
        handler: str,
        connector: str,
        id_prefix: str,
        addresses: Sequence[str],
    ) -> int:
        row = self._database.transact(
            lambda tx: tx.one(
                "register_pushed",
                application=application,
                name=name,
                handler=handler,
                id_prefix=id_prefix,
                connector=connector,
                addresses=json.dumps(list(addresses)),
                settings="{}",
            )
        )
        if row is None:
            raise RegistrationError(
                f"The application {application!r} has a consumer {name!r} of another connector than {connector!r} "
                "already. Give one of them another name=..."
            )
        return int(row.id)

    def accept(self, batch: AcceptBatch) -> list[Accepted]:
        for _ in range(AGAIN):
            try:
                return self._database.transact(lambda tx: accept(tx, batch))
            except NothingNew as nothing:
                return nothing.results
            except Forgotten:
                continue
        return [Accepted("closed")] * len(batch.events)

    def ready_lanes(self, consumer: int, after: str, count: int) -> list[str]:
        rows = self._database.transact(
            lambda tx: tx.run("ready_pushed_lanes", consumer=consumer, after=after, count=count)
        )
        return [row.lane for row in rows]

    def idle_lanes_after(self, consumer: int, after: str, count: int) -> list[tuple[str, bool]]:
        rows = self._database.transact(
            lambda tx: tx.run("idle_lanes_after", consumer=consumer, after=after, count=count)
        )
        return [(row.lane, bool(row.may_go_on)) for row in rows]

    def forget(self, count: int) -> int:
        return len(self._database.transact(lambda tx: tx.run("delete_seen", count=count)))

    def forget_lanes(self, idle_ms: int) -> int:
        return len(self._database.transact(lambda tx: tx.run("delete_idle_lanes", idle_ms=idle_ms)))

    def standing(self, application: str | None) -> list[PushedState]:
        def work(tx: Tx) -> list[PushedState]:
            processes: dict[tuple[str, str], list[tuple[str, str, str | None]]] = {}
            for row in tx.run("pushed_processes", application=application):
                key = (row.application, row.consumer)
                processes.setdefault(key, []).append((row.process, row.state, row.detail))
            return [
                PushedState(
                    row.application,
                    row.consumer,
                    row.connector,
                    tuple(json.loads(row.addresses)),
                    row.id_prefix,
                    row.held,
                    row.quarantined,
                    row.filtered,
                    tuple(processes.get((row.application, row.consumer), ())),
                )
                for row in tx.run("pushed_standing", application=application)
            ]

        return self._database.look(work)
