"""Consumers as they are known: handler, group and topics of each."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dbos_events.errors import RegistrationError
from dbos_events.model.naming import consumer_prefix
from dbos_events.storage.database import Database, Row, Tx


class ConsumerTable:
    """The rows of consumers (docs/protocol.md, rule 9)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_consumer(
        self, application: str, name: str, handler: str, group: str, topics: Sequence[str], settings: str
    ) -> int:
        def work(tx: Tx) -> int:
            known = tx.run("read_consumers", application=application)
            _refuse_conflicts(known, name, group, topics)
            row = tx.one(
                "insert_consumer",
                application=application,
                name=name,
                handler=handler,
                group_id=group,
                topics=json.dumps(sorted(topics)),
                settings=settings,
                id_prefix=consumer_prefix(group),
            )
            return int(row.id) if row is not None else 0

        return self._database.transact(work)

    def consumer_numbers(self, application: str) -> dict[str, int]:
        rows = self._database.transact(lambda tx: tx.run("read_consumers", application=application))
        return {row.name: row.id for row in rows}


def _refuse_conflicts(known: Sequence[Row], name: str, group: str, topics: Sequence[str]) -> None:
    for row in known:
        if row.name == name and row.group_id != group:
            raise RegistrationError(
                f"Consumer {name!r} read with the group {row.group_id!r} before and is now configured with "
                f"{group!r}: it would read its topics again from the start. Keep group.id, or give the "
                "consumer another name=..."
            )
        shared = set(json.loads(row.topics)) & set(topics)
        if row.name != name and row.group_id == group and shared:
            raise RegistrationError(
                f"Consumers {row.name!r} and {name!r} both read {sorted(shared)} with the group {group!r}, so each "
                "would get only a part of the records. Give one of them another group.id."
            )
