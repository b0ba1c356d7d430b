"""Consumers as they are known: handler, group and topics of each."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dbos_events.errors import RegistrationError
from dbos_events.model.naming import log_prefix
from dbos_events.model.subscription import shared
from dbos_events.storage.database import Database, Row, Tx


class ConsumerTable:
    """The rows of consumers (docs/protocol.md, rule 9)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_consumer(
        self,
        application: str,
        name: str,
        handler: str,
        group: str,
        topics: Sequence[str],
        settings: str,
        connector: str | None = None,
    ) -> int:
        def work(tx: Tx) -> int:
            tx.run("lock_registrations")
            known = tx.run("read_consumers", application=application)
            topics_known = [row.topic for row in tx.run("topics_known")]
            _refuse_conflicts(known, topics_known, name, group, topics, connector)
            row = tx.one(
                "insert_consumer",
                application=application,
                name=name,
                handler=handler,
                group_id=group,
                topics=json.dumps(sorted(topics)),
                settings=settings,
                id_prefix=None if connector is None else log_prefix(connector, group),
                connector=connector,
            )
            return int(row.id) if row is not None else 0

        return self._database.transact(work)

    def consumer_numbers(self, application: str) -> dict[str, int]:
        rows = self._database.transact(lambda tx: tx.run("read_consumers", application=application))
        return {row.name: row.id for row in rows}


def _refuse_conflicts(
    known: Sequence[Row],
    topics_known: Sequence[str],
    name: str,
    group: str,
    topics: Sequence[str],
    connector: str | None,
) -> None:
    for row in known:
        if row.name == name:
            _refuse_another_connector(row, connector)
            _refuse_another_group(row, group)
            continue
        both = shared(json.loads(row.topics), topics, topics_known)
        if row.group_id == group and both:
            raise RegistrationError(
                f"Consumers {row.name!r} and {name!r} both read {both} with the group {group!r}, so each would get only "
                f"a part of the records. Give one of them another group.id. If {name!r} is the new name of "
                f"{row.name!r}: `{command_of(connector)} rename-consumer {row.name} {name}`."
            )
        if row.id_group == group and both:
            raise RegistrationError(
                f"The ids of the events that {row.name!r} has taken in of {both} name the group {group!r}, with which "
                f"{name!r} is configured: its events would be taken for those. Give {name!r} another group.id."
            )


def command_of(connector: str | None) -> str:
    """The group of commands of a connector."""
    return f"dbos-events {connector}" if connector else "dbos-events"


def _refuse_another_connector(row: Row, connector: str | None) -> None:
    if None not in (row.connector, connector) and row.connector != connector:
        raise RegistrationError(
            f"The application has a consumer {row.name!r} of the connector {row.connector!r} already. Give this one another "
            "name=..."
        )


def _refuse_another_group(row: Row, group: str) -> None:
    if row.group_id != group:
        raise RegistrationError(
            f"Consumer {row.name!r} read with the group {row.group_id!r} before and is now configured with "
            f"{group!r}. Keep group.id; or, to go on where it stands, stop its processes and run "
            f"`{command_of(row.connector)} adopt-watermark {row.name} --from-group {row.group_id} --to-group {group}`; or "
            "give the consumer another name=..., and it reads its topics from their beginning."
        )
