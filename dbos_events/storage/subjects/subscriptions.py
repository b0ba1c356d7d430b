"""Topics and patterns that consumers read."""

from __future__ import annotations

import json
from typing import Protocol

from dbos_events.errors import RegistrationError
from dbos_events.model.subscription import covers
from dbos_events.storage.database import Database, Tx


class Subscriptions(Protocol):
    """What consumers subscribe to (protocol 9)."""

    def check(self, consumer: int, topic: str) -> None:
        """Raise `RegistrationError` when another consumer of the application and the group subscribes to it."""
        ...

    def registered(self, consumer: int) -> frozenset[str]:
        """The topics and patterns whose first positions are written."""
        ...

    def register(self, consumer: int, subscription: str) -> None:
        """From now on, what appears under it begins at its first record."""
        ...


class SubscriptionTable:
    """What a consumer has registered for (docs/protocol.md, rule 9)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, consumer: int, topic: str) -> None:
        def work(tx: Tx) -> None:
            own = tx.run("lock_consumer", consumer=consumer)[0]
            for row in tx.run("read_consumers", application=own.application):
                if (
                    row.id != own.id
                    and row.group_id == own.group_id
                    and covers(json.loads(row.topics), topic)
                ):
                    raise RegistrationError(
                        f"The topic {topic} fits what {own.name!r} and {row.name!r} subscribe to with the group "
                        f"{own.group_id!r}, so each would get only a part of its records. It is not read. Narrow a "
                        "pattern, or give one of them another group.id."
                    )

        self._database.transact(work)

    def registered(self, consumer: int) -> frozenset[str]:
        rows = self._database.transact(lambda tx: tx.run("subscriptions", consumer=consumer))
        return frozenset(row.subscription for row in rows)

    def register(self, consumer: int, subscription: str) -> None:
        self._database.transact(
            lambda tx: tx.run("insert_subscription", consumer=consumer, subscription=subscription)
        )
